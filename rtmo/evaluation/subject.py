"""What the inspection is about: a model's errors on a split, and the model it is compared with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtmo.evaluation.head_to_head import HeadToHead
from rtmo.evaluation.impact import Impact
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.taxonomy import Errors, Outcome
from rtmo.skeleton import Skeleton


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that the subject is compared with."""

    name: str
    """As `version 3`."""
    outcome: Outcome
    impact: Impact
    changes: HeadToHead
    """People on whom the two differ."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What the page is about."""

    title: str
    """Data set and split."""
    skeleton: Skeleton
    truth: GroundTruth
    sizes_hw: np.ndarray
    """(I, 2) of the pictures, px."""
    found: Detections
    errors: Errors
    impact: Impact
    champion: Champion | None

    @property
    def outcome(self) -> Outcome:
        """Detections and errors together."""
        return Outcome(self.found, self.errors)
