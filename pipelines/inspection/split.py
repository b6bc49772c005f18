"""What is shown of a data split: its people, the detections of the models and their errors."""

from __future__ import annotations

from dataclasses import dataclass

from rtmo.evaluation.head_to_head import HeadToHead
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.taxonomy import Errors, Outcome
from rtmo.store import Store

CHALLENGER = "challenger"
"""Name of the inspected model."""

PREDICTIONS_FIELD = "predictions"
"""Field of the inspected model's boxes; its keypoints are in `predictions_keypoints`."""

CHAMPION_FIELD = "champion"
"""Field of the champion's boxes; its keypoints are in `champion_keypoints`."""


@dataclass(frozen=True, slots=True)
class ShownModel:
    """Another model on the same split."""

    name: str
    """As `version 3`."""
    outcome: Outcome
    changes: HeadToHead
    """People on whom it and the inspected model differ."""


@dataclass(frozen=True, slots=True)
class InspectedSplit:
    """One split with its detections and their errors."""

    name: str
    """Of the FiftyOne dataset: one per data version."""
    store: Store
    truth: GroundTruth
    found: Detections
    errors: Errors
    champion: ShownModel | None = None
    """The model that this one is compared with."""

    @property
    def models(self) -> dict[str, tuple[str, Outcome]]:
        """Name and outcome of each model, by the field of its boxes."""
        models = {PREDICTIONS_FIELD: (CHALLENGER, Outcome(self.found, self.errors))}
        if self.champion is not None:
            models[CHAMPION_FIELD] = (self.champion.name, self.champion.outcome)
        return models
