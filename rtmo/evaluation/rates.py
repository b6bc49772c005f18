"""Errors of a model on a split as a few figures, to compare versions by and to gate releases on."""

from __future__ import annotations

import numpy as np

from rtmo.evaluation.inputs import GroundTruth
from rtmo.evaluation.sensitivity import error_shares, num_overlapping
from rtmo.evaluation.taxonomy import DetectionKind, Errors

CROWDED = "_crowded"
"""Ending of the rates among people whose box overlaps that of somebody else."""


def error_rates(truth: GroundTruth, errors: Errors) -> dict[str, float]:
    """Every `ErrorRate` and the `good_rate` of keypoints, in [0, 1].

    Those with nothing to take a share of are left out.
    """
    everybody = ~truth.is_ignored
    crowded = everybody & (num_overlapping(truth) > 0)
    kinds = errors.kind[errors.kind != DetectionKind.IGNORED]
    rates = {**_of_people(everybody, "", errors), **_of_people(crowded, CROWDED, errors)}
    if len(kinds):
        rates["score_rate"] = float((kinds == DetectionKind.SCORE).mean())
        rates["background_rate"] = float((kinds == DetectionKind.BACKGROUND).mean())
    return rates


def _of_people(is_member: np.ndarray, where: str, errors: Errors) -> dict[str, float]:
    """Rates among some of the people who count."""
    rates: dict[str, float] = {}
    found = (errors.kind == DetectionKind.FOUND) & is_member[errors.person]
    shares = error_shares(errors.keypoints[found])
    if sum(shares.values()) > 0:
        rates = {f"{error.name.lower()}_rate{where}": share for error, share in shares.items()}
    if is_member.any():
        rates[f"missed_rate{where}"] = float(is_member[errors.missed].sum() / is_member.sum())
    return rates
