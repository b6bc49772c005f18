"""Conditions on error rates, and what a release does with them."""

import pytest

from pipelines.params import ParamsError, RateCondition, read_yaml, validate_params
from pipelines.registry.comparison import GateData
from pipelines.registry.conditions import broken_conditions, rates_on
from pipelines.registry.reference import NoReference, Reference, champion_reference
from pipelines.registry.release import register
from pipelines.tracking.versions import get_version
from rtmo.store import Store

SWAPS = RateCondition(metric="swap_rate_crowded", max_increase=0.01)


@pytest.mark.parametrize(
    ("challenger", "champion", "words"),
    [
        ({"swap_rate_crowded": 0.03}, {"swap_rate_crowded": 0.02}, None),
        ({"swap_rate_crowded": 0.0}, {"swap_rate_crowded": 0.02}, None),
        ({"swap_rate_crowded": 0.04}, {"swap_rate_crowded": 0.02}, "rises from 0.0200 to 0.0400"),
        ({}, {"swap_rate_crowded": 0.02}, "the challenger gives nothing"),
        ({"swap_rate_crowded": 0.03}, {}, "the champion gives nothing"),
    ],
)
def test_a_condition_is_met_or_says_why_not(challenger, champion, words):
    broken = list(broken_conditions([SWAPS], challenger, champion))
    assert len(broken) == (words is not None)
    assert words is None or words in broken[0]


def test_an_unknown_rate_is_refused_with_the_params(repository):
    content = read_yaml(repository / "params.yaml")
    content["register"]["conditions"] = [{"metric": "swaps", "max_increase": 0.0}]
    with pytest.raises(ParamsError, match=r"register.conditions.0.metric is 'swaps'"):
        validate_params(content, source="params.yaml")


# What these models do: the person on the left and the one on the right, 0 exact, 6 px: jitter.
EXACT_LEFT, EXACT_RIGHT, EXACT = (0.0, 6.0), (6.0, 0.0), (0.0, 0.0)


def test_a_better_model_that_breaks_a_condition_is_not_promoted(tracking, paths, make_workspace):
    # Both see two people in every picture, of whom one is there: the other is background.
    first = register(tracking, make_workspace(paths, (12.0, 0.0)))
    assert first.verdict == "first"
    limit = RateCondition(metric="background_rate", max_increase=0.0)
    good = register(tracking, make_workspace(paths, EXACT, conditions=(limit,)))
    assert good.verdict == "better"

    # Against the exact champion no jitter at all is allowed.
    jitter = RateCondition(metric="jitter_rate", max_increase=0.0)
    worse = register(tracking, make_workspace(paths, EXACT_LEFT, conditions=(jitter,)))
    assert worse.verdict == "blocked"
    assert "jitter_rate rises from 0.0000" in worse.words


def test_rates_are_metrics_of_the_version_once(tracking, paths, make_workspace):
    workspace = make_workspace(paths, EXACT_LEFT)
    for _ in range(2):
        register(tracking, workspace)
    version = get_version(tracking, "rtmo", 1)
    metrics = tracking.client.get_logged_model(version.model_id).metrics
    shown = {metric.key: metric.value for metric in metrics}
    rates = rates_on(workspace.gate.store, workspace.candidate.gate_detections)
    for name, rate in rates.items():
        assert shown[f"gate.{name}"] == pytest.approx(rate)
    assert len(metrics) == len(shown)
    assert rates["jitter_rate"] > 0


def test_nobody_to_score_gives_no_rates(tmp_path, random_store):
    assert rates_on(random_store(1), []) == {}


def test_the_champion_answers_on_any_split_and_is_not_compared_with_itself(
    tracking, paths, make_workspace
):
    workspace = make_workspace(paths, EXACT)
    weights = paths.trained / "weights.safetensors"
    split = GateData(workspace.gate.folder, "md5-of-another-split", workspace.params.evaluate)

    def reference():
        return champion_reference(paths, workspace.params, split, weights)

    assert reference() == NoReference(reason="there is no champion yet")
    register(tracking, workspace)
    assert reference() == NoReference(reason="this model is the champion, version 1")
    make_workspace(paths, EXACT_RIGHT)
    found = reference()
    assert isinstance(found, Reference)
    assert found.name == "version 1"
    assert len(found.detections) == 2 * len(Store.open(split.folder))
    assert Reference.model_validate_json(found.model_dump_json()) == found


def test_a_store_that_does_not_answer_is_a_reason_and_no_failure(
    paths, make_workspace, monkeypatch
):
    workspace = make_workspace(paths, EXACT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    weights = paths.trained / "weights.safetensors"
    found = champion_reference(paths, workspace.params, workspace.gate, weights)
    assert isinstance(found, NoReference)
    assert "127.0.0.1:9" in found.reason
