"""Corrections of annotated people: kept beside a dataset, applied to its records by id.

The publisher's annotation file stays what it is. What people corrected is a small file of its own,
in git, that says what changed: keypoints of a person, a person added, a person removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from rtmo._config import Config
from rtmo.formats.coco import estimated_area
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord


class Changed(Config):
    """Other keypoints of a person; box, area and segmentation stay."""

    action: Literal["changed"] = "changed"
    image_id: int
    annotation_id: int
    keypoints: tuple[float, ...]
    """x, y, v for each keypoint, in picture pixels."""


class Added(Config):
    """A person whom nobody had labelled."""

    action: Literal["added"] = "added"
    image_id: int
    annotation_id: int
    """New in the dataset."""
    keypoints: tuple[float, ...]
    """x, y, v for each keypoint, in picture pixels."""
    box_xywh: tuple[float, float, float, float]
    """In picture pixels."""


class Removed(Config):
    """A label of nobody."""

    action: Literal["removed"] = "removed"
    image_id: int
    annotation_id: int


Correction = Annotated[Changed | Added | Removed, Field(discriminator="action")]


class Corrections(Config):
    """What `sources/corrections/<dataset>.json` says."""

    dataset: str
    """Name of the source file."""
    splits: dict[Literal["train", "val", "gate"], tuple[Correction, ...]] = Field(default={})
    """By the split whose annotation file they correct, ordered by image and annotation id."""


class CorrectionCounts(Config):
    """What was corrected in a split; part of the data's meta."""

    sha256: str
    """Of the corrections of this split: the same hash, the same corrections."""
    changed: int
    added: int
    removed: int


def apply_corrections(
    records: Iterable[ImageRecord], corrections: Sequence[Correction], *, num_counted: int
) -> list[ImageRecord]:
    """The records with every correction made; making them again changes nothing.

    Args:
        records: as the annotation file has them.
        corrections: of this annotation file.
        num_counted: `num_keypoints` counts the labelled among the first this many keypoints.

    Raises:
        FormatError: if a correction is of an image or a person that the records do not have, or
            has another number of keypoints.
    """
    by_image: dict[int, list[Correction]] = {}
    for correction in corrections:
        by_image.setdefault(correction.image_id, []).append(correction)
    corrected = [_corrected(record, by_image.pop(record.id, ()), num_counted) for record in records]
    if by_image:
        raise FormatError(
            f"corrections name {len(by_image)} images that the annotation file does not have (the "
            f"first is {min(by_image)}); were they made for another version of the dataset?"
        )
    return corrected


def count_corrections(corrections: Sequence[Correction], sha256: str) -> CorrectionCounts:
    """How many people were changed, added and removed."""
    counts = Counter(correction.action for correction in corrections)
    return CorrectionCounts(
        sha256=sha256, changed=counts["changed"], added=counts["added"], removed=counts["removed"]
    )


def _corrected(
    record: ImageRecord, corrections: Sequence[Correction], num_counted: int
) -> ImageRecord:
    people = {person.id: person for person in record.people}
    for correction in corrections:
        known = people.get(correction.annotation_id)
        match correction:
            case Changed():
                person = _require(known, correction)
                _require_width(correction, person.keypoints)
                people[person.id] = replace(
                    person,
                    keypoints=correction.keypoints,
                    num_keypoints=_num_labelled(correction.keypoints, num_counted),
                )
            case Added():
                person = _new_person(correction, record, num_counted)
                if known is not None and known != person:
                    raise FormatError(
                        f"the corrections add annotation {correction.annotation_id} to image "
                        f"{record.id}, which has another person of that id; was the annotation "
                        "file renewed? Give the added person an id that is free"
                    )
                people[person.id] = person
            case Removed():
                people.pop(correction.annotation_id, None)
    return replace(record, people=tuple(people.values())) if corrections else record


def _require(person: PersonRecord | None, correction: Changed) -> PersonRecord:
    if person is None:
        raise FormatError(
            f"the corrections change annotation {correction.annotation_id} of image "
            f"{correction.image_id}, which does not have it; were they made for another version "
            "of the dataset?"
        )
    return person


def _require_width(correction: Changed, keypoints: tuple[float, ...]) -> None:
    if len(correction.keypoints) != len(keypoints):
        raise FormatError(
            f"the correction of annotation {correction.annotation_id} has "
            f"{len(correction.keypoints)} numbers for its keypoints, the dataset {len(keypoints)}"
        )


def _new_person(added: Added, record: ImageRecord, num_counted: int) -> PersonRecord:
    """Areas are estimated where the format has them: CrowdPose, told by crowdIndex, has none."""
    return PersonRecord(
        id=added.annotation_id,
        box_xywh=added.box_xywh,
        keypoints=added.keypoints,
        num_keypoints=_num_labelled(added.keypoints, num_counted),
        is_crowd=False,
        area=estimated_area(added.box_xywh[2:]) if record.crowd_index is None else None,
        segmentation=None,
    )


def _num_labelled(keypoints: tuple[float, ...], num_counted: int) -> int:
    return sum(v > 0 for v in keypoints[2 : 3 * num_counted : 3])
