"""A skeleton out of what the files declare, what a person says, and what the names suggest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from rtmo.formats.label_set import DeclaredSkeleton
from rtmo.formats.records import FormatError
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

DEFAULT_SIGMA = 0.072
"""For keypoints of unknown names: the median of COCO's 17 (its elbow)."""
KNOWN_SIGMAS = dict(zip(COCO17.keypoints, COCO17.sigmas, strict=True)) | dict(
    zip(CROWDPOSE14.keypoints, CROWDPOSE14.sigmas, strict=True)
)
SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person says of the skeleton; None leaves it to the files and the names."""

    flip_pairs: tuple[tuple[str, str], ...] | None = None
    """Names that change places in a mirror."""
    sigmas: Mapping[str, float] | None = None
    """COCO's sigma by keypoint name; keypoints left out get the default."""


@dataclass(frozen=True, slots=True)
class SettledSkeleton:
    """A whole skeleton and where its parts come from."""

    skeleton: Skeleton
    remarks: tuple[str, ...]
    """One sentence for each part."""


def settle_skeleton(name: str, declared: DeclaredSkeleton, answers: Answers) -> SettledSkeleton:
    """Fill in what the files leave open, and say how.

    Raises:
        FormatError: if an answer names a keypoint that there is not, or is impossible.
    """
    pairs, pairs_remark = _flip_pairs(declared, answers)
    sigmas, sigmas_remark = _sigmas(declared.keypoints, answers)
    try:
        skeleton = Skeleton(
            name=name,
            keypoints=declared.keypoints,
            flip_pairs=pairs,
            limbs=declared.limbs,
            sigmas=sigmas,
        )
    except ValueError as error:
        raise FormatError(f"the skeleton cannot be used: {error}") from None
    for known in (COCO17, CROWDPOSE14):
        if (known.keypoints, set(known.flip_pairs), known.sigmas) == (
            skeleton.keypoints,
            set(skeleton.flip_pairs),
            skeleton.sigmas,
        ):
            skeleton = known
    remarks = (declared.remark, pairs_remark, sigmas_remark)
    return SettledSkeleton(skeleton, tuple(filter(None, remarks)))


def flip_pairs_of(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs (left, right) whose names differ in their side only.

    Example:
        >>> flip_pairs_of(("nose", "left_eye", "right_eye", "LKnee", "RKnee", "hip-r", "hip-l"))
        ((1, 2), (3, 4), (6, 5))
    """
    left: dict[tuple[str, ...], int] = {}
    right: dict[tuple[str, ...], int] = {}
    for index, name in enumerate(names):
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+", name)]
        sides = [place for place, word in enumerate(words) if word in SIDES]
        if len(sides) != 1 or len(words) == 1:
            continue
        (place,) = sides
        rest = (*words[:place], "", *words[place + 1 :])
        (left if SIDES[words[place]] == "left" else right)[rest] = index
    return tuple((index, right[rest]) for rest, index in left.items() if rest in right)


def _flip_pairs(
    declared: DeclaredSkeleton, answers: Answers
) -> tuple[tuple[tuple[int, int], ...], str]:
    names = declared.keypoints
    if answers.flip_pairs is not None:
        pairs = tuple(
            (_index(first, names, "flip pair"), _index(second, names, "flip pair"))
            for first, second in answers.flip_pairs
        )
        return pairs, f"flip pairs: {len(pairs)} as given"
    if declared.flip_pairs is not None:
        return declared.flip_pairs, f"flip pairs: {_named(declared.flip_pairs, names)}, as declared"
    pairs = flip_pairs_of(names)
    if not pairs:
        return (), "flip pairs: NONE found in the names; give --flip-pairs left:right,..."
    return pairs, f"flip pairs: {_named(pairs, names)}, guessed from the names"


def _sigmas(names: tuple[str, ...], answers: Answers) -> tuple[tuple[float, ...], str]:
    given = answers.sigmas or {}
    for name in given:
        _index(name, names, "sigma")
    known = [name for name in names if name not in given and name in KNOWN_SIGMAS]
    others = [name for name in names if name not in given and name not in KNOWN_SIGMAS]
    parts = (
        f"{len(given)} as given" if given else "",
        f"{len(known)} of COCO's or CrowdPose's name have theirs" if known else "",
        f"{', '.join(others)} have {DEFAULT_SIGMA} (COCO's median; --sigmas NAME:VALUE sets others)"
        if others
        else "",
    )
    sigmas = tuple(given.get(name, KNOWN_SIGMAS.get(name, DEFAULT_SIGMA)) for name in names)
    return sigmas, f"sigmas: {'; '.join(filter(None, parts))}"


def _index(name: str, names: tuple[str, ...], what: str) -> int:
    if name not in names:
        raise FormatError(f"a {what} names {name!r}; the keypoints are {', '.join(names)}")
    return names.index(name)


def _named(pairs: tuple[tuple[int, int], ...], names: tuple[str, ...]) -> str:
    return ", ".join(f"{names[first]}:{names[second]}" for first, second in pairs) or "none"
