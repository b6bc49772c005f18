"""The saved views a person opens first, and the figures of each image that they select by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.inspection.split import InspectedSplit
from rtmo.evaluation.taxonomy import DetectionKind, KeypointError

if TYPE_CHECKING:
    import fiftyone as fo

CONFIDENT_SCORE = 0.5
"""From here a detection of nobody is shown as confident."""

LARGE_AREA = 96.0**2
"""px^2; COCO's bound between medium and large people."""

VIEWS = (
    ("worst people", "worst_cost", 0.0, "found with confidence and placed badly, worst first"),
    ("swaps in crowds", "num_swaps_crowded", 0.0, "swaps of people who overlap, most first"),
    ("swaps", "num_swaps", 0.0, "keypoints on another person, most first"),
    (
        "confident background",
        "background_score",
        CONFIDENT_SCORE,
        f"detections of nobody with a score above {CONFIDENT_SCORE}",
    ),
    (
        "missed large people",
        "largest_missed_area",
        LARGE_AREA,
        f"people above {LARGE_AREA:.0f} px^2 whom no detection is about",
    ),
)
"""Name, field that is matched and sorted by, lower bound, description."""

CHAMPION_VIEWS = (
    ("champion right, challenger wrong", "became_wrong", 0.0, "people who became wrong"),
    ("challenger right, champion wrong", "became_right", 0.0, "people who became right"),
)
"""As `VIEWS`; only with a champion."""


def image_figures(
    split: InspectedSplit, people: np.ndarray, detected: np.ndarray, is_crowded: np.ndarray
) -> dict[str, float]:
    """What the saved views select and sort by."""
    found, errors = split.found, split.errors
    scores = found.scores[errors.detections[detected]]
    kind = errors.kind[detected]
    cost = np.where(kind == DetectionKind.FOUND, scores * (1 - errors.oks[detected]), 0.0)
    missed = np.intersect1d(people, errors.missed)
    found_here = detected[kind == DetectionKind.FOUND]
    crowded = found_here[is_crowded[errors.person[found_here]]]
    return {
        "worst_cost": float(cost.max(initial=0.0)),
        "num_swaps": int((errors.keypoints[detected] == KeypointError.SWAP).sum()),
        "num_swaps_crowded": int((errors.keypoints[crowded] == KeypointError.SWAP).sum()),
        "background_score": float(scores[kind == DetectionKind.BACKGROUND].max(initial=0.0)),
        "largest_missed_area": float(split.truth.areas[missed].max(initial=0.0)),
        **_change_figures(split, people),
    }


def save_views(fiftyone: Any, dataset: fo.Dataset, split: InspectedSplit) -> None:  # noqa: ANN401
    """The views a person opens first; saved again under the same names."""
    views = VIEWS if split.champion is None else (*VIEWS, *CHAMPION_VIEWS)
    for name, field, above, description in views:
        view = dataset.match(fiftyone.ViewField(field) > above).sort_by(field, reverse=True)
        dataset.save_view(name, view, description=description, overwrite=True)


def remove_comparison_views(dataset: fo.Dataset) -> None:
    """Delete the views that an earlier inspection with a champion saved."""
    for name, *_ in CHAMPION_VIEWS:
        if dataset.has_saved_view(name):
            dataset.delete_saved_view(name)


def _change_figures(split: InspectedSplit, people: np.ndarray) -> dict[str, float]:
    """How many people of an image became wrong and right; nothing without a champion."""
    if split.champion is None:
        return {}
    changes = split.champion.changes
    return {
        "became_wrong": len(np.intersect1d(people, changes.became_wrong)),
        "became_right": len(np.intersect1d(people, changes.became_right)),
    }
