import dataclasses

import pytest

from pipelines.params import RegisterConfig
from pipelines.registry.gate import (
    ASSUMED_SEED_STD,
    Comparison,
    Evidence,
    LatencyChange,
    MetricChange,
    decide,
)
from rtmo.evaluation.bootstrap import Interval

RULES = RegisterConfig(
    name="rtmo",
    floor_ap=0.2,
    bootstrap_samples=1000,
    confidence=0.95,
    min_effect=0.01,
    max_latency_ratio=1.1,
    seed_std=0.0,
)
FIRST = Evidence(
    gate_ap=Interval(0.5, 0.45, 0.55),
    looks=3,
    parity_failures=(),
    unsigned_licences=(),
    comparison="no champion",
)
LOW, NOBODY = Interval(0.1, 0.0, 0.2), Interval(-1.0, -1.0, -1.0)
UNCHANGED = MetricChange("AR", 0.0, -0.01, 0.01)
SAME_SPEED = LatencyChange(1.0, 0.97, 1.15)


def against_champion(*changes: MetricChange, latency: LatencyChange = SAME_SPEED) -> Evidence:
    return dataclasses.replace(FIRST, comparison=Comparison(3, changes, latency))


@pytest.mark.parametrize(
    ("evidence", "kind", "words"),
    [
        (FIRST, "first", "AP 0.5000 (0.4500 to 0.5500) on the gate split reaches"),
        (
            dataclasses.replace(FIRST, gate_ap=LOW),
            "blocked",
            "below the floor 0.2000",
        ),
        (
            dataclasses.replace(FIRST, gate_ap=NOBODY),
            "blocked",
            "below the floor",
        ),
        (
            dataclasses.replace(FIRST, parity_failures=("rtmo.onnx: AP falls by 0.02",)),
            "blocked",
            "rtmo.onnx: AP falls by 0.02",
        ),
        (
            dataclasses.replace(FIRST, unsigned_licences=("CC BY-NC 4.0",)),
            "blocked",
            "CC BY-NC 4.0",
        ),
        (
            dataclasses.replace(
                against_champion(MetricChange("AP", 0.03, 0.015, 0.045)),
                broken_conditions=("swap_rate rises from 0.01 to 0.02",),
            ),
            "blocked",
            "swap_rate rises",
        ),
        (dataclasses.replace(FIRST, comparison="is the champion"), "same", "the champion's"),
        (
            against_champion(MetricChange("AP", 0.03, 0.015, 0.045), UNCHANGED),
            "better",
            "AP +0.0300 (+0.0150 to +0.0450)",
        ),
        (
            against_champion(MetricChange("AP", -0.03, -0.045, -0.015), UNCHANGED),
            "worse",
            "loses AP",
        ),
        (
            against_champion(MetricChange("AP", 0.005, -0.01, 0.02), UNCHANGED),
            "cannot tell",
            "about +0.0250 AP would be needed",
        ),
        (
            against_champion(MetricChange("AP", 0.008, 0.001, 0.015), UNCHANGED),
            "cannot tell",  # surely better, but by less than min_effect
            "version 3",
        ),
        (
            against_champion(
                MetricChange("AP", 0.03, 0.015, 0.045), MetricChange("AR", -0.02, -0.03, -0.01)
            ),
            "worse",
            "loses AR",
        ),
        (
            against_champion(
                MetricChange("AP", 0.03, 0.015, 0.045),
                UNCHANGED,
                MetricChange("AP_hard", -0.05, -0.08, -0.02),
            ),
            "worse",
            "loses AP_hard",
        ),
        (
            against_champion(
                MetricChange("AP", 0.03, 0.015, 0.045), latency=LatencyChange(1.2, 1.15, 1.3)
            ),
            "blocked",
            "latency 1.20 times (1.15 to 1.30), allowed 1.10 times",
        ),
        (
            against_champion(
                MetricChange("AP", 0.03, 0.015, 0.045), latency=LatencyChange(1.2, 0.9, 1.5)
            ),
            "cannot tell",
            "quieter machine",
        ),
        (
            dataclasses.replace(
                FIRST, comparison=Comparison(3, (), None, "the champion has skeleton coco17")
            ),
            "cannot tell",
            "the champion has skeleton coco17",
        ),
    ],
)
def test_the_gate_says(evidence: Evidence, kind: str, words: str) -> None:
    verdict = decide(RULES, evidence)
    assert verdict.kind == kind
    assert words in verdict.words
    assert verdict.promotes == (kind in ("first", "better"))


def test_every_blocker_is_named() -> None:
    evidence = dataclasses.replace(
        FIRST, parity_failures=("rtmo.onnx: far",), unsigned_licences=("X", "Y")
    )
    words = decide(RULES, evidence).words
    assert "rtmo.onnx: far" in words
    assert "X, Y" in words


def test_every_verdict_counts_the_looks_and_says_what_could_show() -> None:
    change = MetricChange("AP", 0.03, 0.015, 0.045)
    for evidence in (FIRST, against_champion(change), against_champion(change, latency=None)):
        assert "look 3 at it" in decide(RULES, evidence).words
    assert "about +0.0250 AP would be needed" in decide(RULES, against_champion(change)).words
    assert "known to 0.0500 only" in decide(RULES, FIRST).words


def test_a_blocked_model_is_told_how_it_compares() -> None:
    change = MetricChange("AP", 0.03, 0.015, 0.045)
    evidence = dataclasses.replace(against_champion(change), unsigned_licences=("X",))
    assert "Apart from that better: AP +0.0300" in decide(RULES, evidence).words


def test_what_the_seed_explains_is_no_improvement() -> None:
    evidence = against_champion(MetricChange("AP", 0.03, 0.015, 0.045))
    assert decide(RULES, evidence).kind == "better"
    rules = RULES.model_copy(update={"seed_std": 0.02})
    verdict = decide(rules, evidence)
    assert verdict.kind == "cannot tell"
    assert "seed deviation 0.0200, as measured" in verdict.words


def test_a_seed_deviation_that_nobody_measured_is_assumed_and_said_so() -> None:
    rules = RULES.model_copy(update={"seed_std": None})
    for mean, kind in ((0.02, "cannot tell"), (0.03, "better")):
        evidence = against_champion(MetricChange("AP", mean, mean - 0.005, mean + 0.005))
        assert decide(RULES, evidence).kind == "better"
        verdict = decide(rules, evidence)
        assert verdict.kind == kind
        assert f"seed deviation {ASSUMED_SEED_STD:.4f}, assumed: register.seed_std" in verdict.words
