"""From an annotation file that people corrected in a tool to corrections of the dataset.

A picture of the file is taken as a whole: people with other keypoints are changed, new ones added,
missing ones removed. Tools differ in what they keep: some return the ids they were given, others
(CVAT) count pictures and people anew. So pictures are found by file name, and people by their
annotation id where ids were kept, else by the keypoints that stayed where they were.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rtmo.formats.coco import read_coco
from rtmo.formats.corrections import Added, Changed, Correction, Removed
from rtmo.formats.findings import Findings
from rtmo.formats.overlap import box_ious
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import Skeleton

MOVED_PX = 0.02
"""A keypoint that moved less is where it was: tools round to a hundredth of a pixel."""

SAME_PLACE_PX = 2.0
"""How near a keypoint is to some former one of a person, so that it speaks for that person."""

MIN_SAME = 0.3
"""Share of a person's keypoints that have to speak for a former one; any name will do, for left
and right may have been exchanged."""

MIN_IOU = 0.5
"""Overlap of the keypoints' extents that makes two people one if all keypoints moved."""


def read_relabelled(document: Any, skeleton: Skeleton) -> list[ImageRecord]:  # noqa: ANN401 - JSON
    """The pictures of a file that came back from an annotation tool.

    Raises:
        FormatError: if it is no keypoint file of this skeleton, names the keypoints in another
            order, or holds anything that would have to be left out.
    """
    findings = Findings()
    records = read_coco(document, skeleton, findings)
    for problem, examples in findings.examples.items():
        if problem.action == "dropped":
            raise FormatError(f"{problem.label}: {', '.join(examples)}. Correct the file first")
    return records


def derive_corrections(
    dataset: Sequence[ImageRecord],
    relabelled: Sequence[ImageRecord],
    former: Sequence[Correction],
) -> tuple[Correction, ...]:
    """All corrections of the dataset, once the relabelled pictures say what they say.

    Corrections of other pictures stay; taking the same file again changes nothing.

    Args:
        dataset: every picture of the annotation file, without corrections.
        relabelled: `read_relabelled(...)`.
        former: corrections so far.

    Raises:
        FormatError: if the file has a picture, or with ids kept a person, that the dataset does
            not have.
    """
    pictures = _found_pictures(dataset, relabelled)
    added = {(one.image_id, one.annotation_id): one for one in former if isinstance(one, Added)}
    ids_kept = all(picture.id == record.id for record, picture in pictures)
    touched = {record.id for record, _ in pictures}
    kept = [one for one in former if one.image_id not in touched]
    known = {person.id for record in dataset for person in record.people}
    free = _free_ids(known | {one.annotation_id for one in former})
    new: list[Correction] = []
    for record, picture in pictures:
        before = [one for (image_id, _), one in added.items() if image_id == record.id]
        people: list[PersonRecord | Added] = [*record.people, *before]
        pair = _by_id(record, picture, people) if ids_kept else _by_place(people, picture.people)
        new += _differences(record, picture, people, pair, free)
    return tuple(sorted([*kept, *new], key=lambda one: (one.image_id, one.annotation_id)))


def _found_pictures(
    dataset: Sequence[ImageRecord], relabelled: Sequence[ImageRecord]
) -> list[tuple[ImageRecord, ImageRecord]]:
    """Each relabelled picture after the dataset's one of the same file name."""
    by_name = {record.file_name: record for record in dataset}
    unknown = [record for record in relabelled if record.file_name not in by_name]
    if unknown:
        names = ", ".join(f"{record.file_name} (id {record.id})" for record in unknown[:3])
        raise FormatError(
            f"{len(unknown)} of {len(relabelled)} pictures are not in the dataset: {names}; is the "
            "file of another dataset or split, or did the tool rename pictures?"
        )
    return [(by_name[record.file_name], record) for record in relabelled]


def _free_ids(taken: set[int]) -> Iterator[int]:
    """Annotation ids above all that are taken."""
    following = max(taken, default=0) + 1
    while True:
        yield following
        following += 1


def _by_id(
    record: ImageRecord, picture: ImageRecord, people: Sequence[PersonRecord | Added]
) -> list[int | None]:
    """For each relabelled person its place among `people`; ids below 1 are new people."""
    place = {_id(person): index for index, person in enumerate(people)}
    unknown = [one.id for one in picture.people if one.id > 0 and one.id not in place]
    if unknown:
        raise FormatError(
            f"image {record.id} has no annotation {unknown[0]}; it has {sorted(place)}. Give a "
            "person who is new an id below 1"
        )
    pair = [place.get(one.id) for one in picture.people]
    # Those added the last time this file was taken are not added twice.
    again = [index for index, person in enumerate(people) if index not in pair]
    again = [index for index in again if isinstance(people[index], Added)]
    fresh = [row for row, index in enumerate(pair) if index is None]
    found = _by_place([people[index] for index in again], [picture.people[row] for row in fresh])
    for row, column in zip(fresh, found, strict=True):
        pair[row] = None if column is None else again[column]
    return pair


def _by_place(
    people: Sequence[PersonRecord | Added], relabelled: Sequence[PersonRecord]
) -> list[int | None]:
    """For each relabelled person the place among `people` of whom its keypoints speak for."""
    alike = np.array([[_likeness(one, other) for other in people] for one in relabelled])
    pair: list[int | None] = [None] * len(relabelled)
    while alike.size and alike.max() >= MIN_SAME:
        row, column = np.unravel_index(alike.argmax(), alike.shape)
        pair[int(row)] = int(column)
        alike[row, :] = alike[:, column] = 0.0
    return pair


def _likeness(one: PersonRecord, former: PersonRecord | Added) -> float:
    """Share of keypoints at the same place under any name; where all moved, whether they overlap.

    A former person without keypoints is known by the box; a crowd region is nobody.
    """
    points, others = _labelled_xy(one), _labelled_xy(former)
    if len(points) == 0 or (isinstance(former, PersonRecord) and former.is_crowd):
        return 0.0
    if len(others) == 0:
        iou = box_ious(np.array([one.box_xywh]), np.array([former.box_xywh]))
        return MIN_SAME if iou[0, 0] >= MIN_IOU else 0.0
    distance = np.linalg.norm(points[:, None] - others[None], axis=2)
    same = float((distance.min(axis=1) <= SAME_PLACE_PX).sum() / max(len(points), len(others)))
    iou = box_ious(_extent(points), _extent(others))
    return max(same, MIN_SAME if iou[0, 0] >= MIN_IOU else 0.0)


def _differences(
    record: ImageRecord,
    picture: ImageRecord,
    people: Sequence[PersonRecord | Added],
    pair: Sequence[int | None],
    free: Iterator[int],
) -> Iterator[Correction]:
    """What is to be done to the dataset's picture so that it says what the relabelled one says."""
    for one, place in zip(picture.people, pair, strict=True):
        if place is None:
            if len(_labelled_xy(one)):
                yield Added(
                    image_id=record.id,
                    annotation_id=next(free),
                    keypoints=one.keypoints,
                    box_xywh=one.box_xywh,
                )
            continue
        former = people[place]
        if isinstance(former, Added):
            is_moved = _is_moved(one.keypoints, former.keypoints)
            yield former.model_copy(update={"keypoints": one.keypoints}) if is_moved else former
        elif _is_moved(one.keypoints, former.keypoints):
            yield Changed(image_id=record.id, annotation_id=former.id, keypoints=one.keypoints)
    for place, former in enumerate(people):
        if place not in pair and isinstance(former, PersonRecord) and _is_expected_back(former):
            yield Removed(image_id=record.id, annotation_id=former.id)


def _is_expected_back(person: PersonRecord) -> bool:
    """A tool for keypoints need not return crowd regions and people without any."""
    return len(_labelled_xy(person)) > 0 and not person.is_crowd


def _is_moved(keypoints: tuple[float, ...], former: tuple[float, ...]) -> bool:
    now, before = (np.array(numbers, dtype=float).reshape(-1, 3) for numbers in (keypoints, former))
    if (now[:, 2] != before[:, 2]).any():
        return True
    distance = np.abs(now[:, :2] - before[:, :2]).max(axis=1)
    return bool((distance[now[:, 2] > 0] > MOVED_PX).any())


def _id(person: PersonRecord | Added) -> int:
    return person.annotation_id if isinstance(person, Added) else person.id


def _labelled_xy(person: PersonRecord | Added) -> np.ndarray:
    """(labelled, 2)."""
    numbers = np.array(person.keypoints, dtype=float).reshape(-1, 3)
    return np.asarray(numbers[numbers[:, 2] > 0, :2])


def _extent(points: np.ndarray) -> np.ndarray:
    """(1, 4) box around points."""
    low, high = points.min(axis=0), points.max(axis=0)
    return np.concatenate([low, high - low])[None]
