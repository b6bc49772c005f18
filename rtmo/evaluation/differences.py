"""Figures of two models beside each other, and which of the two is better."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rtmo.evaluation.impact import STEPS
from rtmo.evaluation.rates import CROWDED, error_rates
from rtmo.evaluation.subject import Subject

SHOWN_CHANGE = 5e-4
"""Differences below half a unit of the last digit shown are none."""

RATE_WORDS = {
    "good": "keypoints good",
    "jitter": "keypoints not precise",
    "inversion": "keypoints on the mirrored body part",
    "swap": "keypoints on another person",
    "miss": "keypoints near no body part",
    "missed": "people missed",
    "score": "detections of a person found already",
    "background": "detections of nobody",
}
"""What each rate is a share of, in words."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both models."""

    words: str
    champion: float
    challenger: float
    better: Literal["challenger", "champion", "neither"]


def differences(subject: Subject) -> list[tuple[str, str, list[Difference]]]:
    """Figures of champion and subject: heading, unit (`AP` or `share`), rows; none without one."""
    champion = subject.champion
    if champion is None:
        return []
    before = error_rates(subject.truth, champion.outcome.errors)
    now = error_rates(subject.truth, subject.errors)
    both = [name for name in before if name in now]
    everywhere = [name for name in both if not name.endswith(CROWDED)]
    crowded = [name for name in both if name.endswith(CROWDED)]
    costs = [
        _difference(
            step,
            champion.impact.alone[step] - champion.impact.ap,
            subject.impact.alone[step] - subject.impact.ap,
        )
        for step in STEPS
    ]
    parts = [
        ("Everybody", "AP", [_difference("AP", champion.impact.ap, subject.impact.ap)]),
        *(
            (
                title,
                "share",
                [_difference(_rate_words(name), before[name], now[name]) for name in names],
            )
            for title, names in (("", everywhere), ("People who overlap", crowded))
        ),
        ("AP gained if this error alone were corrected", "AP", costs),
    ]
    return [(title, unit, rows) for title, unit, rows in parts if rows]


def _difference(words: str, champion: float, challenger: float) -> Difference:
    """Less is better, but for AP and good keypoints."""
    gain = challenger - champion
    if words not in ("AP", RATE_WORDS["good"]):
        gain = -gain
    if abs(gain) < SHOWN_CHANGE:
        return Difference(words, champion, challenger, "neither")
    return Difference(words, champion, challenger, "challenger" if gain > 0 else "champion")


def _rate_words(name: str) -> str:
    """What a rate is, in words.

    Example:
        >>> _rate_words("swap_rate_crowded")
        'keypoints on another person'
    """
    return RATE_WORDS[name.partition("_rate")[0]]
