"""An exported model held against torch on the same pictures, in pixels and in AP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray
from pydantic import Field

from rtmo._config import Config
from rtmo.deployment.config import ParityBudget
from rtmo.deployment.framing import Framing, InputBatch
from rtmo.deployment.parity import ParityReport, compare_people
from rtmo.deployment.postprocess import InputPeople
from rtmo.deployment.runners import Predictor, TorchPredictor
from rtmo.structures import Poses


class Accuracy(NamedTuple):
    """Of some poses against annotations, 0..1; -1 where nobody is annotated."""

    ap: float
    """Average precision."""
    ar: float
    """Average recall."""


class Check(Config):
    """One way of running the model against torch."""

    parity: ParityReport
    """On validation pictures."""
    ap_torch: float = Field(ge=-1, le=1)
    """AP of torch on the same pictures; -1 where nobody is annotated."""
    ap_exported: float = Field(ge=-1, le=1)
    """AP of this way of running on them."""
    ar_torch: float = Field(ge=-1, le=1)
    """AR of torch on them."""
    ar_exported: float = Field(ge=-1, le=1)
    """AR of this way of running on them."""

    def over_budget(self, budget: ParityBudget) -> list[str]:
        """Every figure that is worse than the budget, in words; empty when all are within.

        A single person may differ however few there are: a score can lie right at the threshold.
        """
        figures = self.parity
        people = figures.people_reference
        difference = abs(figures.people_candidate - people)
        found = people + figures.people_candidate
        unmatched = found - 2 * figures.people_matched
        median, p99 = figures.keypoint_px_median, figures.keypoint_px_p99
        most_p99 = budget.max_keypoint_px_p99
        drop, recall_drop = self.ap_torch - self.ap_exported, self.ar_torch - self.ar_exported
        problems = []
        if median > budget.max_keypoint_px_median:
            problems.append(
                f"keypoint distance median is {median:.4f} px, allowed "
                f"{budget.max_keypoint_px_median} px"
            )
        if most_p99 is not None and p99 > most_p99:
            problems.append(f"keypoint distance p99 is {p99:.4f} px, allowed {most_p99} px")
        if difference > max(1, budget.max_count_difference * people):
            problems.append(
                f"{figures.people_candidate} people are found, torch finds {people}, allowed "
                f"difference {budget.max_count_difference:.1%}"
            )
        if budget.max_unmatched is not None and unmatched > max(1, budget.max_unmatched * found):
            problems.append(
                f"{unmatched} of {found} people are found by one of the two only, allowed "
                f"{budget.max_unmatched:.1%}"
            )
        if drop > budget.max_ap_drop:
            problems.append(f"AP falls by {drop:.4f}, allowed {budget.max_ap_drop}")
        if recall_drop > budget.max_recall_drop:
            problems.append(f"AR falls by {recall_drop:.4f}, allowed {budget.max_recall_drop}")
        return problems


class Reference:
    """What torch finds in some pictures, kept so that others can be held against it."""

    def __init__(
        self,
        torch: TorchPredictor,
        images: Sequence[NDArray[Any]],
        accuracy: Callable[[Sequence[Poses]], Accuracy],
        *,
        batch: int = 8,
    ) -> None:
        """Run torch once.

        Args:
            torch: the predictor to agree with.
            images: BGR uint8 pictures.
            accuracy: AP and AR of one `Poses` for every picture, in their order.
            batch: pictures per forward pass, so that more than one row of the batch is compared.
        """
        self._torch = torch
        self._accuracy = accuracy
        self._batches = [
            torch.framing.prepare(images[start : start + batch])
            for start in range(0, len(images), batch)
        ]
        self._people, self._reached = self._run(torch)

    @property
    def score_threshold(self) -> float:
        """What torch's people score above."""
        return self._torch.score_threshold

    @property
    def nms_iou(self) -> float:
        """Box overlap at which torch takes two people for one."""
        return self._torch.nms_iou

    @property
    def framing(self) -> Framing:
        """How torch sees pictures."""
        return self._torch.framing

    @property
    def batches(self) -> Sequence[InputBatch]:
        """The pictures as network input."""
        return self._batches

    def check(self, candidate: Predictor) -> Check:
        """Run another predictor on the same pixels.

        Raises:
            ValueError: if the two see pictures differently (skeleton, input size, letterbox rule).
        """
        torch = self._torch
        if torch.skeleton != candidate.skeleton or torch.framing != candidate.framing:
            raise ValueError(
                "the two predictors cannot be compared: torch has skeleton "
                f"{torch.skeleton.name!r} and {torch.framing}, the candidate "
                f"{candidate.skeleton.name!r} and {candidate.framing}"
            )
        people, reached = self._run(candidate)
        return Check(
            parity=compare_people(zip(self._people, people, strict=True)),
            ap_torch=self._reached.ap,
            ap_exported=reached.ap,
            ar_torch=self._reached.ar,
            ar_exported=reached.ar,
        )

    def _run(self, predictor: Predictor) -> tuple[list[InputPeople], Accuracy]:
        found = [predictor.infer(batch.pixels) for batch in self._batches]
        poses = [
            pose
            for people, batch in zip(found, self._batches, strict=True)
            for pose in predictor.framing.finish(people, batch)
        ]
        return [people for batch in found for people in batch], self._accuracy(poses)
