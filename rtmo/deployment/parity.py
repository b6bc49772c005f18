"""How far one runtime is from another on the same pictures.

Both get the same input pixels, so that only network, threshold and NMS are compared; distances are
in network-input pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from rtmo._config import Config
from rtmo.deployment.postprocess import Floats, Indices, InputPeople, box_iou
from rtmo.deployment.runners import Predictor

MATCH_IOU = 0.5
"""Boxes of the same person in two runtimes overlap by more than this."""


class ParityReport(Config):
    """A candidate runtime against a reference on a set of pictures."""

    images: int = Field(ge=0)
    """Pictures compared."""
    people_reference: int = Field(ge=0)
    """People that the reference finds."""
    people_candidate: int = Field(ge=0)
    """People that the candidate finds."""
    people_matched: int = Field(ge=0)
    """People that both find."""
    keypoint_px_median: float
    """Distance of the same keypoint of matched people, input pixels."""
    keypoint_px_p99: float
    """99th percentile of it."""
    keypoint_px_p999: float
    """99.9th percentile of it."""
    keypoint_px_max: float
    """Largest of it."""
    box_px_max: float
    """Largest difference of a box coordinate of matched people, input pixels."""
    score_max: float
    """Largest difference of a person's or keypoint's score of matched people."""

    @property
    def unmatched_share(self) -> float:
        """Share of all people found that only one of the two finds; 0 when nobody is found."""
        found = self.people_reference + self.people_candidate
        return (found - 2 * self.people_matched) / found if found else 0.0


@dataclass(frozen=True, slots=True)
class _Differences:
    """Differences of the matched people of one picture."""

    people: tuple[int, int]
    keypoints_px: Floats
    boxes_px: Floats
    scores: Floats


def parity(
    reference: Predictor,
    candidate: Predictor,
    images: Iterable[NDArray[Any]],
    *,
    batch: int = 8,
) -> ParityReport:
    """Run both on the same pictures and compare what they find.

    Args:
        reference: usually torch.
        candidate: the exported model.
        images: BGR uint8 pictures.
        batch: pictures per forward pass, so that more than one row of the batch is compared.

    Raises:
        ValueError: if the two see pictures differently (skeleton, input size, letterbox rule).
    """
    if reference.skeleton != candidate.skeleton or reference.framing != candidate.framing:
        raise ValueError(
            "the two predictors cannot be compared: the reference has skeleton "
            f"{reference.skeleton.name!r} and {reference.framing}, the candidate "
            f"{candidate.skeleton.name!r} and {candidate.framing}"
        )
    pairs: list[tuple[InputPeople, InputPeople]] = []
    for pictures in _chunks(images, batch):
        pixels = reference.framing.prepare(pictures).pixels
        pairs.extend(zip(reference.infer(pixels), candidate.infer(pixels), strict=True))
    return compare_people(pairs)


def compare_people(pairs: Iterable[tuple[InputPeople, InputPeople]]) -> ParityReport:
    """Compare what two runtimes found in the same input pixels, picture by picture.

    Args:
        pairs: people of the reference and of the candidate, one pair per picture.
    """
    return _summary([_compare(ours, theirs) for ours, theirs in pairs])


def match_people(reference: InputPeople, candidate: InputPeople) -> tuple[Indices, Indices]:
    """Pair people by box overlap, best score of the reference first, everyone at most once.

    Returns:
        Rows of the reference and rows of the candidate, of equal length.
    """
    overlaps = box_iou(reference.boxes_xyxy, candidate.boxes_xyxy)
    pairs: list[tuple[int, int]] = []
    for row, overlap in enumerate(overlaps):
        if overlap.size and overlap.max() > MATCH_IOU:
            best = int(overlap.argmax())
            pairs.append((row, best))
            overlaps[:, best] = 0
    rows = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]


def _compare(reference: InputPeople, candidate: InputPeople) -> _Differences:
    rows, columns = match_people(reference, candidate)
    ours, theirs = reference[rows], candidate[columns]
    scores = (ours.scores - theirs.scores, (ours.keypoint_scores - theirs.keypoint_scores).ravel())
    return _Differences(
        people=(len(reference), len(candidate)),
        keypoints_px=np.linalg.norm(ours.keypoints_xy - theirs.keypoints_xy, axis=-1).ravel(),
        boxes_px=np.abs(ours.boxes_xyxy - theirs.boxes_xyxy).max(axis=-1, initial=0),
        scores=np.abs(np.concatenate(scores)),
    )


def _summary(differences: list[_Differences]) -> ParityReport:
    keypoints = _joined([item.keypoints_px for item in differences])
    boxes = _joined([item.boxes_px for item in differences])
    scores = _joined([item.scores for item in differences])
    median, p99, p999 = np.quantile(keypoints, (0.5, 0.99, 0.999)) if keypoints.size else (0, 0, 0)
    return ParityReport(
        images=len(differences),
        people_reference=sum(item.people[0] for item in differences),
        people_candidate=sum(item.people[1] for item in differences),
        people_matched=len(boxes),
        keypoint_px_median=float(median),
        keypoint_px_p99=float(p99),
        keypoint_px_p999=float(p999),
        keypoint_px_max=float(keypoints.max(initial=0)),
        box_px_max=float(boxes.max(initial=0)),
        score_max=float(scores.max(initial=0)),
    )


def _joined(parts: list[Floats]) -> Floats:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)


def _chunks(images: Iterable[NDArray[Any]], size: int) -> Iterable[list[NDArray[Any]]]:
    chunk: list[NDArray[Any]] = []
    for image in images:
        chunk.append(image)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
