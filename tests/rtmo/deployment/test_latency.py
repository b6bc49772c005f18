"""The latency measurement."""

import time

import numpy as np
import pytest

from rtmo.deployment.framing import Framing
from rtmo.deployment.latency import STEPS, hardware, latency, throughput
from rtmo.deployment.postprocess import Floats, InputPeople
from rtmo.deployment.runners import Predictor
from rtmo.skeleton import COCO17

ONE = InputPeople(
    boxes_xyxy=np.float32([[1, 1, 9, 9]]),
    scores=np.float32([0.9]),
    keypoints_xy=np.ones((1, 17, 2), np.float32),
    keypoint_scores=np.ones((1, 17), np.float32),
)


class Sleeper(Predictor):
    """Takes its time and writes its name into a diary."""

    def __init__(self, name: str, seconds: float, diary: list[str]) -> None:
        super().__init__(COCO17, Framing(64))
        self.name, self.seconds, self.diary = name, seconds, diary

    def infer(self, pixels: Floats) -> list[InputPeople]:
        self.diary.append(self.name)
        time.sleep(self.seconds)
        return [ONE for _ in pixels]


PICTURES = [np.zeros((48, 64, 3), np.uint8)] * 2


def test_variants_take_turns_and_the_slower_one_is_slower():
    diary: list[str] = []
    models = {"fast": Sleeper("fast", 0.002, diary), "slow": Sleeper("slow", 0.02, diary)}
    report = latency(models, PICTURES, warmup_runs=1, runs=4, threads=1)
    uncounted, counted = diary[::2], diary[1::2]
    assert uncounted == counted, "each run comes after an uncounted one of the same variant"
    assert len(counted) == 2 * (1 + 4)
    assert all(set(counted[i : i + 2]) == {"fast", "slow"} for i in range(0, len(counted), 2))
    assert set(counted[::2]) == {"fast", "slow"}, "either goes first at times"
    assert report.ratio("slow", "fast") > 2
    assert report.mean_people == {"fast": 1, "slow": 1}


def test_the_ratio_of_paired_runs_has_an_interval_around_it():
    measured = latency({"a": Sleeper("a", 0, [])}, PICTURES, warmup_runs=0, runs=2, threads=1)
    assert len(measured.totals_ms["a"]) == 2
    # The machine becomes ten times slower halfway; the pairs do not notice.
    fast = np.repeat([10.0, 100.0], 20)
    slow = fast * np.tile([1.9, 2.0, 2.0, 2.1], 10)
    report = measured.model_copy(update={"totals_ms": {"slow": tuple(slow), "fast": tuple(fast)}})
    ratio = report.paired_ratio("slow", "fast")
    assert ratio.median == 2
    assert 1.9 <= ratio.low <= 2 <= ratio.high <= 2.1
    same = report.paired_ratio("fast", "fast")
    assert (same.low, same.median, same.high) == (1, 1, 1)


def test_the_report_says_which_pictures_were_fed():
    def digest(pictures: list[np.ndarray]) -> str:
        model = {"a": Sleeper("a", 0, [])}
        return latency(model, pictures, warmup_runs=0, runs=1, threads=1).pictures_sha256

    assert digest(PICTURES) == digest([picture.copy() for picture in PICTURES])
    assert digest(PICTURES) != digest(PICTURES[:1])
    assert digest(PICTURES) != digest([picture + 1 for picture in PICTURES])


def test_throughput_counts_pictures_and_not_calls():
    diary: list[str] = []
    rates = throughput({"a": Sleeper("a", 0.02, diary)}, PICTURES, batch=4, runs=3)
    assert len(diary) == 2 * 3, "a call before each is not counted"
    assert 20 < rates["a"] < 4 / 0.02


def test_the_steps_make_up_the_total():
    report = latency({"a": Sleeper("a", 0.01, [])}, PICTURES, warmup_runs=0, runs=5, threads=1)
    steps = report.latency["a"]
    assert tuple(steps) == STEPS
    parts = sum(steps[step].p50_ms for step in ("pre", "net", "post"))
    assert parts == pytest.approx(steps["total"].p50_ms, rel=0.2)
    assert steps["net"].p50_ms > 9


def test_the_machine_is_named():
    machine = hardware()
    assert machine.cpu
    assert machine.logical_cpus >= 1
    assert "numpy" in machine.versions


def test_nothing_to_measure_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        latency({}, PICTURES, warmup_runs=0, runs=1, threads=1)
