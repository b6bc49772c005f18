"""Two models on the same split: who became right and who became wrong. P annotated people."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.evaluation.inputs import GroundTruth
from rtmo.evaluation.taxonomy import DetectionKind, Outcome

RIGHT_OKS = 0.75
"""OKS from which a person is right."""

WRONG_OKS = 0.5
"""OKS below which a person is wrong. What lies between changes with every training."""


@dataclass(frozen=True, slots=True)
class HeadToHead:
    """Rows of `GroundTruth` of people on whom the two models differ."""

    became_right: np.ndarray
    """The champion wrong or blind, the challenger right; those with the largest change first."""
    became_wrong: np.ndarray
    """The other way round."""


def head_to_head(truth: GroundTruth, challenger: Outcome, champion: Outcome) -> HeadToHead:
    """Compare two models person by person."""
    now, before = person_oks(truth, challenger), person_oks(truth, champion)
    gain = np.where(truth.is_ignored, 0.0, now - before)
    better = np.flatnonzero((now >= RIGHT_OKS) & (before < WRONG_OKS) & ~truth.is_ignored)
    worse = np.flatnonzero((now < WRONG_OKS) & (before >= RIGHT_OKS) & ~truth.is_ignored)
    return HeadToHead(
        became_right=better[np.argsort(-gain[better], kind="stable")],
        became_wrong=worse[np.argsort(gain[worse], kind="stable")],
    )


def person_oks(truth: GroundTruth, outcome: Outcome) -> np.ndarray:
    """(P,) OKS of the detection that found each person; 0 for nobody."""
    errors = outcome.errors
    found = errors.kind == DetectionKind.FOUND
    oks = np.zeros(len(truth.ids))
    oks[errors.person[found]] = errors.oks[found]
    return oks
