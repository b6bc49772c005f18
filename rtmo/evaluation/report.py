"""The error inspection as one HTML page that needs no server and loads nothing from outside.

Pictures are inside the page; skeletons and errors are drawn over them as SVG, so that every
keypoint says what it is when pointed at.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import cv2
import jinja2
import numpy as np

from rtmo.evaluation.gallery import Case, crop_xyxy
from rtmo.evaluation.head_to_head import HeadToHead
from rtmo.evaluation.impact import STEPS, Impact
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.evaluation.rates import CROWDED, error_rates
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
from rtmo.evaluation.taxonomy import DetectionKind, Errors, KeypointError, Outcome
from rtmo.skeleton import Skeleton

PICTURE_PX = 360
"""Longer side of a picture in the page."""

JPEG_QUALITY = 82

SHOWN_CHANGE = 5e-4
"""Differences below half a unit of the last digit shown are none."""

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


@dataclass(frozen=True, slots=True)
class Difference:
    """One figure of both models."""

    words: str
    champion: float
    challenger: float
    better: Literal["challenger", "champion", "neither"]


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


@dataclass(frozen=True, slots=True)
class Dot:
    """A keypoint in a picture, in its pixels."""

    x: float
    y: float
    kind: str
    """Of error, in lower case; `truth` for the annotation."""
    words: str


@dataclass(frozen=True, slots=True)
class Line:
    """A limb in a picture."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str
    """`truth` or `found`."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A crop with what is drawn over it."""

    jpeg_base64: str
    width: int
    height: int
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...]
    caption: str


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
            (gallery, [_picture(case, subject, read_image) for case in gallery.cases])
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


def _picture(case: Case, subject: Subject, read_image: Callable[[int], np.ndarray]) -> Picture:
    image = read_image(case.image)
    height, width = image.shape[:2]
    x1, y1, x2, y2 = crop_xyxy(case, subject.truth, subject.found, subject.errors, (height, width))
    scale = PICTURE_PX / max(x2 - x1, y2 - y1)
    size = (max(1, round((x2 - x1) * scale)), max(1, round((y2 - y1) * scale)))
    interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    crop = cv2.resize(image[y1:y2, x1:x2], size, interpolation=interpolation)
    written, jpeg = cv2.imencode(".jpg", crop, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    assert written, "a crop of a decoded picture can be encoded"
    lines, dots = _overlay(case, subject, np.array([x1, y1]), scale)
    return Picture(
        jpeg_base64=base64.b64encode(jpeg.tobytes()).decode("ascii"),
        width=size[0],
        height=size[1],
        lines=lines,
        dots=dots,
        caption=_caption(case, subject),
    )


def _overlay(
    case: Case, subject: Subject, origin: np.ndarray, scale: float
) -> tuple[tuple[Line, ...], tuple[Dot, ...]]:
    """Annotation first, detection over it."""
    lines: list[Line] = []
    dots: list[Dot] = []
    names = subject.skeleton.keypoints
    if case.person is not None:
        points = (subject.truth.keypoints[case.person, :, :2] - origin) * scale
        drawn = subject.truth.is_labelled[case.person]
        lines += _limbs(points, drawn, subject.skeleton, "truth")
        dots += [
            Dot(*_xy(points[index]), "truth", f"{names[index]}, annotated")
            for index in np.flatnonzero(drawn)
        ]
    if case.error is not None:
        found = subject.found.keypoints[subject.errors.detections[case.error]]
        points = (found[:, :2] - origin) * scale
        lines += _limbs(points, np.ones(len(points), dtype=bool), subject.skeleton, "found")
        for index, error in enumerate(subject.errors.keypoints[case.error]):
            kind = KeypointError(error).name.lower()
            words = f"{names[index]}: {kind}, score {found[index, 2]:.2f}"
            dots.append(Dot(*_xy(points[index]), kind, words))
    return tuple(lines), tuple(dots)


def _limbs(points: np.ndarray, drawn: np.ndarray, skeleton: Skeleton, kind: str) -> list[Line]:
    return [
        Line(*_xy(points[a]), *_xy(points[b]), kind)
        for a, b in skeleton.limbs
        if drawn[a] and drawn[b]
    ]


def _xy(point: np.ndarray) -> tuple[float, float]:
    return round(float(point[0]), 1), round(float(point[1]), 1)


def _caption(case: Case, subject: Subject) -> str:
    words = [f"image {subject.truth.image_ids[case.image]}"]
    if case.person is not None:
        words.append(f"annotation {subject.truth.ids[case.person]}")
    if case.error is not None:
        score = subject.found.scores[subject.errors.detections[case.error]]
        words.append(f"score {score:.2f}")
    if case.person is not None and case.error is not None:
        words.append(f"OKS {subject.errors.oks[case.error]:.2f}")
    return ", ".join(words)
