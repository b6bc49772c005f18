"""The choice of the fastest way: made once per host, only among those that are right."""

import time

import numpy as np
import pytest

from rtmo.deployment import UnavailableError
from rtmo.deployment.fastest import Host, choose_fastest, recall, remember
from rtmo.deployment.framing import Framing
from rtmo.deployment.postprocess import InputPeople
from rtmo.deployment.runners import Predictor
from rtmo.skeleton import COCO17

HOST = Host(cpu="one", logical_cpus=2, threads=None, versions={"onnxruntime": "1"})
PICTURES = [np.zeros((32, 32, 3), np.uint8)]


class Sleeper(Predictor):
    """Finds nobody, in so many milliseconds."""

    def __init__(self, milliseconds: float) -> None:
        super().__init__(COCO17, Framing(32))
        self.milliseconds = milliseconds

    def infer(self, pixels):
        time.sleep(self.milliseconds / 1000)
        rows = [np.zeros((0, *shape), np.float32) for shape in ((4,), (), (17, 2), (17,))]
        return [InputPeople(*rows) for _ in pixels]


def is_absent():
    raise UnavailableError("no such arithmetic")


def is_damaged():
    raise ValueError("not a model")


def test_the_fastest_of_those_that_are_right_is_first():
    openers = {
        "slow": lambda: Sleeper(20),
        "fast": lambda: Sleeper(4),
        "wrong": lambda: Sleeper(0),
        "absent": is_absent,
        "damaged": is_damaged,
    }
    choice = choose_fastest(
        openers, lambda p: "finds others" if p.milliseconds == 0 else "", PICTURES, HOST
    )
    assert choice.usable == ("fast", "slow")
    assert {way.name: way.problem for way in choice.ways if way.p50_ms is None} == {
        "wrong": "finds others",
        "absent": "no such arithmetic",
        "damaged": "not a model",
    }
    assert "absent not used (no such arithmetic)" in choice.in_words()


def test_without_a_way_the_problems_are_told():
    with pytest.raises(UnavailableError, match="no such arithmetic"):
        choose_fastest({"absent": is_absent}, lambda _: "", PICTURES, HOST)


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": "another"},
        {"logical_cpus": 4},
        {"threads": 1},
        {"versions": {"onnxruntime": "2"}},
    ],
)
def test_a_choice_holds_on_the_host_where_it_was_made(other, tmp_path):
    path = tmp_path / "folder/choice.json"
    choice = choose_fastest({"only": lambda: Sleeper(0)}, lambda _: "", PICTURES, HOST)
    assert recall(path, HOST) is None
    remember(choice, path)
    assert recall(path, HOST) == choice
    changed = HOST.model_copy(update=other)
    assert recall(path, changed) is None
    assert changed.digest != HOST.digest
    path.write_text("{")
    assert recall(path, HOST) is None
