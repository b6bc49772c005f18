"""Keypoints of one skeleton as those of another, for training on several sets at once.

A keypoint is taken for the one of the same name, apart from what the published recipes do with the
head and neck of CrowdPose's skeleton. Source: SPEC section 11; mmpose's body7 configurations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from rtmo.formats.records import FormatError, ImageRecord
from rtmo.skeleton import Skeleton

HEAD_AND_NECK: Mapping[tuple[str, str], Mapping[str, str | None]] = MappingProxyType(
    {
        ("aic14", "crowdpose14"): {"head_top": "top_head"},
        ("halpe26", "crowdpose14"): {"neck": None},
        ("jhmdb15", "crowdpose14"): {"head": "top_head"},
        ("mpii16", "crowdpose14"): {"head_top": "top_head", "thorax": "neck"},
        ("posetrack17", "crowdpose14"): {"head_top": "top_head", "head_bottom": "neck"},
    }
)
"""(source, target) -> source keypoint -> target keypoint, where names do not say it; None for a
keypoint that is not taken for the one of its name."""


def keypoint_mapping(source: Skeleton, target: Skeleton) -> dict[int, int]:
    """Source index -> target index of every keypoint that both skeletons have.

    Raises:
        FormatError: if they have none in common.

    Example:
        >>> from rtmo.skeleton import COCO17, CROWDPOSE14
        >>> keypoint_mapping(COCO17, CROWDPOSE14)[5]
        0
    """
    renamed = HEAD_AND_NECK.get((source.name, target.name), {})
    indices = {name: index for index, name in enumerate(target.keypoints)}
    wanted = (renamed.get(name, name) for name in source.keypoints)
    mapping = {index: indices[name] for index, name in enumerate(wanted) if name in indices}
    if not mapping:
        raise FormatError(
            f"skeletons {source.name!r} and {target.name!r} have no keypoint name in common: "
            f"{', '.join(source.keypoints)} and {', '.join(target.keypoints)}; call the same joint "
            "by the same name in the source file"
        )
    return mapping


def map_keypoints(
    record: ImageRecord, mapping: Mapping[int, int], num_keypoints: int
) -> ImageRecord:
    """The same people with `num_keypoints` keypoints; those without a source are unlabelled at 0.

    `num_keypoints` of a person stays that of the file: it says whether the person was labelled.
    """
    people = []
    for person in record.people:
        numbers = [0.0] * (3 * num_keypoints)
        for source, target in mapping.items():
            numbers[3 * target : 3 * target + 3] = person.keypoints[3 * source : 3 * source + 3]
        people.append(replace(person, keypoints=tuple(numbers)))
    return replace(record, people=tuple(people))
