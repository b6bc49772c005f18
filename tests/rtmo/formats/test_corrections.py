"""Corrections: what a tool gives back becomes the difference to the dataset, and only that."""

from dataclasses import replace

import pytest

from rtmo.formats.coco import write_coco
from rtmo.formats.corrections import Added, Changed, Removed, apply_corrections
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.formats.relabelled import derive_corrections, read_relabelled
from rtmo.skeleton import COCO17, CROWDPOSE14

MIRROR = COCO17.flip_permutation


def person(number: int, left: float, *, labelled: int = 17) -> PersonRecord:
    points = [
        (left + 7.3 * (k % 4), 11.1 + 9.7 * (k // 4), 2) if k < labelled else (0, 0, 0)
        for k in range(17)
    ]
    return PersonRecord(
        id=number,
        box_xywh=(left, 10.0, 30.0, 50.0),
        keypoints=tuple(float(value) for point in points for value in point),
        num_keypoints=labelled,
        is_crowd=False,
        area=700.0,
        segmentation=None,
    )


def picture(number: int, *people: PersonRecord) -> ImageRecord:
    return ImageRecord(
        id=number,
        file_name=f"{number}.jpg",
        height=100,
        width=200,
        crowd_index=None,
        is_turned=False,
        people=people,
    )


def exchanged(one: PersonRecord) -> PersonRecord:
    points = [one.keypoints[3 * k : 3 * k + 3] for k in MIRROR]
    return replace(one, keypoints=tuple(value for point in points for value in point))


DATASET = [
    picture(40, person(401, 5.0), person(402, 60.0), person(403, 120.0)),
    picture(50, person(501, 5.0), person(502, 60.0, labelled=0)),
    picture(60, person(601, 5.0)),
]
CROWD = replace(person(603, 120.0, labelled=0), is_crowd=True)


def renumbered(records: list[ImageRecord]) -> list[ImageRecord]:
    """As CVAT writes: pictures and people are counted from 1, keypoints have two digits, boxes are
    those of the keypoints, people without keypoints are gone.
    """
    numbers = iter(range(1, 100))
    return [
        replace(
            record,
            id=count,
            people=tuple(
                replace(
                    one,
                    id=next(numbers),
                    keypoints=tuple(round(value + 0.004, 2) for value in one.keypoints),
                )
                for one in record.people
                if one.num_keypoints
            ),
        )
        for count, record in enumerate(records, start=1)
    ]


def corrected() -> list[ImageRecord]:
    """401 has left and right exchanged, 402 is gone, somebody new stands in picture 50."""
    first, second, _ = DATASET
    fixed = exchanged(first.people[0])
    return [
        replace(first, people=(fixed, first.people[2])),
        replace(second, people=(*second.people, person(-1, 150.0, labelled=9))),
    ]


@pytest.mark.parametrize("tool", [list, renumbered], ids=["ids kept", "renumbered"])
def test_what_changed_is_named_by_the_ids_of_the_dataset(tool):
    found = derive_corrections(DATASET, tool(corrected()), ())
    assert [(type(one), one.image_id, one.annotation_id) for one in found] == [
        (Changed, 40, 401),
        (Removed, 40, 402),
        (Added, 50, 602),
    ]
    assert found[0].keypoints == pytest.approx(exchanged(DATASET[0].people[0]).keypoints, abs=0.01)


@pytest.mark.parametrize("tool", [list, renumbered], ids=["ids kept", "renumbered"])
def test_taking_the_same_file_again_changes_nothing(tool):
    once = derive_corrections(DATASET, tool(corrected()), ())
    assert derive_corrections(DATASET, tool(corrected()), once) == once


@pytest.mark.parametrize("tool", [list, renumbered], ids=["ids kept", "renumbered"])
def test_an_untouched_file_corrects_nothing(tool):
    assert derive_corrections(DATASET, tool(DATASET), ()) == ()


def test_applied_corrections_give_what_the_file_says_and_again_the_same():
    corrections = derive_corrections(DATASET, corrected(), ())
    once = apply_corrections(DATASET, corrections, num_counted=17)
    people = {one.id: one for record in once for one in record.people}
    assert people[401].keypoints == exchanged(DATASET[0].people[0]).keypoints
    assert people[401].box_xywh == DATASET[0].people[0].box_xywh
    assert set(people) == {401, 403, 501, 502, 601, 602}
    assert people[602].num_keypoints == 9
    assert once[2] is DATASET[2]
    assert apply_corrections(once, corrections, num_counted=17) == once


def test_a_second_round_replaces_the_first_in_its_pictures_and_keeps_the_others():
    first = derive_corrections(DATASET, corrected(), ())
    state = apply_corrections(DATASET, first, num_counted=17)
    # Somebody takes back all of picture 40, and moves a point of the person added in 50.
    moved = list(state[1].people[2].keypoints)
    moved[0] += 5
    second = [
        DATASET[0],
        replace(
            state[1],
            people=(*state[1].people[:2], replace(state[1].people[2], keypoints=tuple(moved))),
        ),
    ]
    (left,) = derive_corrections(DATASET, second, first)
    assert (type(left), left.annotation_id, left.keypoints[0]) == (Added, 602, moved[0])


def test_a_person_labelled_for_the_first_time_is_changed_not_doubled():
    labelled = replace(DATASET[1].people[1], keypoints=person(0, 60.0).keypoints, num_keypoints=17)
    (only,) = derive_corrections(
        DATASET, renumbered([replace(DATASET[1], people=(DATASET[1].people[0], labelled))]), ()
    )
    assert (type(only), only.annotation_id) == (Changed, 502)


def test_a_crowd_region_that_the_tool_left_out_stays():
    dataset = [replace(DATASET[2], people=(*DATASET[2].people, CROWD))]
    assert derive_corrections(dataset, renumbered([DATASET[2]]), ()) == ()


def test_unknown_pictures_and_people_are_errors():
    with pytest.raises(FormatError, match=r"1 of 1 pictures are not in the dataset: 99.jpg"):
        derive_corrections(DATASET, [picture(99, person(1, 5.0))], ())
    stranger = replace(DATASET[2], people=(person(401, 5.0),))
    with pytest.raises(FormatError, match=r"image 60 has no annotation 401; it has \[601\]"):
        derive_corrections(DATASET, [stranger], ())


@pytest.mark.parametrize(
    ("correction", "message"),
    [
        (Removed(image_id=7, annotation_id=1), "corrections name 1 images"),
        (Changed(image_id=40, annotation_id=7, keypoints=(0.0,) * 51), "annotation 7 of image 40"),
        (Changed(image_id=40, annotation_id=401, keypoints=(0.0,) * 42), "has 42 numbers"),
        (
            Added(
                image_id=40,
                annotation_id=401,
                keypoints=(0.0,) * 51,
                box_xywh=(0.0, 0.0, 1.0, 1.0),
            ),
            "has another person of that id",
        ),
    ],
)
def test_corrections_of_another_version_are_refused(correction, message):
    with pytest.raises(FormatError, match=message):
        apply_corrections(DATASET, [correction], num_counted=17)


def test_crowdpose_counts_limb_keypoints_only():
    keypoints = (1.0, 1.0, 2.0) * 14
    one = replace(person(1, 5.0), keypoints=(0.0,) * 42, num_keypoints=0, area=None)
    record = replace(picture(1, one), crowd_index=0.5)
    change = Changed(image_id=1, annotation_id=1, keypoints=keypoints)
    add = Added(image_id=1, annotation_id=2, keypoints=keypoints, box_xywh=(0.0, 0.0, 9.0, 9.0))
    (result,) = apply_corrections([record], [change, add], num_counted=12)
    assert [one.num_keypoints for one in result.people] == [12, 12]
    assert result.people[1].area is None


def test_a_file_of_another_skeleton_or_order_is_refused():
    document = write_coco(DATASET, COCO17)
    assert len(read_relabelled(document, COCO17)) == 3
    names = document["categories"][0]["keypoints"]
    names[5], names[6] = names[6], names[5]
    with pytest.raises(FormatError, match="in the order"):
        read_relabelled(document, COCO17)
    with pytest.raises(FormatError, match="17 keypoints"):
        read_relabelled(document, CROWDPOSE14)


def test_what_would_be_left_out_is_an_error():
    document = write_coco(DATASET, COCO17)
    document["annotations"][0]["image_id"] = 12345
    with pytest.raises(FormatError, match="orphan_annotation: annotation 401"):
        read_relabelled(document, COCO17)
