"""The error inspection as one HTML page that needs no server and loads nothing from outside.

Pictures are inside the page; skeletons and errors are drawn over them as SVG, so that every
keypoint says what it is when pointed at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np

from rtmo.evaluation.case_pictures import case_picture
from rtmo.evaluation.differences import differences
from rtmo.evaluation.gallery import Case
from rtmo.evaluation.impact import STEPS, Impact
from rtmo.evaluation.inputs import GroundTruth
from rtmo.evaluation.sensitivity import (
    Group,
    by_confidence,
    crowding,
    error_shares,
    group_errors,
    labelled_keypoints,
    overlaps,
    sizes,
    truncation,
)
from rtmo.evaluation.subject import Subject
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError

STEP_WORDS = {
    "miss": "keypoints near no body part",
    "swap": "keypoints on another person",
    "inversion": "keypoints on the mirrored body part",
    "jitter": "keypoints at the right place, not precisely",
    "imprecision": "good keypoints that are still a little off",
    "score": "further detections of a person found already",
    "background": "detections of nobody, or of people who do not count",
    "missed": "people whom no detection is about",
}
"""What each step corrects, in words."""


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures under one heading."""

    title: str
    note: str
    cases: Sequence[Case]


@dataclass(frozen=True, slots=True)
class Step:
    """One kind of error and what it costs."""

    name: str
    words: str
    count: int
    """Keypoints, detections or people with this error."""
    gain: float
    """AP gained if it alone were corrected."""
    ap_after: float
    """AP after this and all former corrections."""
    gain_after: float
    """AP gained by this step after all former ones."""


def render_report(
    subject: Subject,
    galleries: Sequence[Gallery],
    read_image: Callable[[int], np.ndarray],
    remarks: Sequence[str],
) -> str:
    """The page.

    Args:
        subject: the split and its errors.
        galleries: which people to show.
        read_image: index of an image in the split -> BGR uint8 (H, W, 3).
        remarks: sentences for the end of the page.
    """
    template = jinja2.Environment(
        loader=jinja2.FunctionLoader(_template_text),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("report.html")
    truth, errors = subject.truth, subject.errors
    return template.render(
        subject=subject,
        counts=counts(truth, errors),
        num_images=len(truth.image_ids),
        steps=error_steps(errors, subject.impact),
        kinds=[error.name.lower() for error in _LABELLED],
        all_keypoints=_shares(errors.keypoints),
        keypoints=[
            (name, *_keypoint_row(errors.keypoints[:, index]))
            for index, name in enumerate(subject.skeleton.keypoints)
        ],
        differences=differences(subject),
        groups=[
            (title, group_errors(groups, truth, subject.outcome, subject.skeleton))
            for title, groups in _groupings(subject)
        ],
        confidences=by_confidence(subject.outcome),
        galleries=[
            (gallery, [case_picture(case, subject, read_image) for case in gallery.cases])
            for gallery in galleries
        ],
        remarks=remarks,
    )


_LABELLED = tuple(error for error in KeypointError if error is not KeypointError.UNLABELLED)


def counts(truth: GroundTruth, errors: Errors) -> dict[str, int]:
    """People and detections by what became of them."""
    kinds = np.bincount(errors.kind, minlength=len(DetectionKind)).tolist()
    return {
        "people": int((~truth.is_ignored).sum()),
        "missed": len(errors.missed),
        **{kind.name.lower(): kinds[kind] for kind in DetectionKind},
    }


def error_steps(errors: Errors, impact: Impact) -> list[Step]:
    """Each kind of error with its count and its cost, in the order of correction."""
    keypoints = np.bincount(errors.keypoints.ravel(), minlength=len(KeypointError)).tolist()
    kinds = np.bincount(errors.kind, minlength=len(DetectionKind)).tolist()
    amounts = {
        "miss": keypoints[KeypointError.MISS],
        "swap": keypoints[KeypointError.SWAP],
        "inversion": keypoints[KeypointError.INVERSION],
        "jitter": keypoints[KeypointError.JITTER],
        "imprecision": keypoints[KeypointError.GOOD],
        "score": kinds[DetectionKind.SCORE],
        "background": kinds[DetectionKind.BACKGROUND],
        "missed": len(errors.missed),
    }
    before = (impact.ap, *impact.progressive.values())
    return [
        Step(
            name=name,
            words=STEP_WORDS[name],
            count=amounts[name],
            gain=impact.alone[name] - impact.ap,
            ap_after=impact.progressive[name],
            gain_after=impact.progressive[name] - former,
        )
        for name, former in zip(STEPS, before, strict=False)
    ]


def _template_text(name: str) -> str:
    return (resources.files("rtmo.evaluation") / name).read_text(encoding="utf-8")


def _shares(keypoint_errors: np.ndarray) -> list[float]:
    return list(error_shares(keypoint_errors).values())


def _keypoint_row(keypoint_errors: np.ndarray) -> tuple[int, list[float]]:
    """Labelled occurrences of one keypoint and the share of each error."""
    return int((keypoint_errors != KeypointError.UNLABELLED).sum()), _shares(keypoint_errors)


def _groupings(subject: Subject) -> list[tuple[str, tuple[Group, ...]]]:
    """Title and groups of each way to divide the people."""
    truth = subject.truth
    all_of_them = [
        ("Size", sizes(truth)),
        ("Labelled keypoints", labelled_keypoints(truth)),
        ("Overlaps with", overlaps(truth)),
        ("Crowding of the picture", crowding(truth)),
        ("Truncation", truncation(truth, subject.sizes_hw)),
    ]
    return [(title, groups) for title, groups in all_of_them if groups]
