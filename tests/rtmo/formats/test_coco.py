"""COCO files: read, repaired by stated rules, written back."""

import gzip
import json

import pytest

from rtmo.formats.coco import read_coco, write_coco
from rtmo.formats.findings import Findings, Problem
from rtmo.formats.records import FormatError, Polygons, RunLengths
from rtmo.skeleton import COCO17, CROWDPOSE14


def person(**changes):
    values = {
        "id": 1,
        "image_id": 7,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [10, 20, 30, 40],
        "area": 600.0,
        "keypoints": [15, 25, 2] + [0, 0, 0] * 16,
        "num_keypoints": 1,
        "segmentation": [[10, 20, 40, 20, 40, 60]],
    }
    return {key: value for key, value in (values | changes).items() if value is not ...}


def document(*people, images=None):
    return {
        "images": images or [{"id": 7, "file_name": "a.jpg", "height": 100, "width": 120}],
        "annotations": list(people),
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}],
    }


def read(*people, **others):
    findings = Findings()
    records = read_coco(document(*people, **others), COCO17, findings)
    return records, {problem: count for problem, count in findings.counts.items() if count}


def test_a_sound_file_has_no_findings():
    records, problems = read(person())
    assert problems == {}
    assert records[0].people[0].box_xywh == (10, 20, 30, 40)
    assert records[0].people[0].segmentation == Polygons(((10, 20, 40, 20, 40, 60),))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"image_id": 8}, Problem.ORPHAN_ANNOTATION),
        ({"category_id": 2}, Problem.OTHER_CATEGORY),
        ({"keypoints": ...}, Problem.NO_KEYPOINTS_FIELD),
        ({"bbox": [1, 2, 3]}, Problem.NO_BOX),
        ({"bbox": [1, 2, float("nan"), 3]}, Problem.NO_BOX),
        ({"bbox": ...}, Problem.NO_BOX),
        ({"keypoints": [float("inf"), 25, 2] + [0, 0, 0] * 16}, Problem.NOT_FINITE),
        ({"keypoints": [None, 25, 2] + [0, 0, 0] * 16}, Problem.NOT_FINITE),
    ],
)
def test_an_unusable_annotation_is_dropped_and_counted(changes, problem):
    records, problems = read(person(**changes))
    assert records[0].people == ()
    assert problems == {problem: 1}
    assert problem.action == "dropped"


@pytest.mark.parametrize(
    ("changes", "problem", "field", "value"),
    [
        ({"area": ...}, Problem.AREA_MISSING, "area", 0.53 * 30 * 40),
        ({"area": 0}, Problem.AREA_MISSING, "area", 0.53 * 30 * 40),
        ({"num_keypoints": ...}, Problem.NUM_KEYPOINTS_MISSING, "num_keypoints", 1),
        ({"num_keypoints": 5}, Problem.NUM_KEYPOINTS_WRONG, "num_keypoints", 5),
        ({"segmentation": [[1, 2, 3]]}, Problem.BAD_SEGMENTATION, "segmentation", None),
        ({"segmentation": "x"}, Problem.BAD_SEGMENTATION, "segmentation", None),
        (
            {"segmentation": {"size": [2, 2], "counts": [1, 2]}},
            Problem.BAD_SEGMENTATION,
            "segmentation",
            None,
        ),
    ],
)
def test_a_fault_in_a_field_is_repaired_or_kept_by_its_rule(changes, problem, field, value):
    records, problems = read(person(**changes))
    assert getattr(records[0].people[0], field) == value
    assert problems == {problem: 1}


def test_visibility_flags_are_brought_to_0_1_2():
    records, problems = read(person(keypoints=[15, 25, 3, 1, 1, -1] + [0, 0, 0] * 15))
    assert records[0].people[0].keypoints[2::3][:2] == (2, 0)
    assert problems == {Problem.BAD_VISIBILITY: 1}


def test_the_first_of_two_equal_ids_is_kept():
    image = {"id": 7, "file_name": "a.jpg", "height": 100, "width": 120}
    other = image | {"file_name": "b.jpg"}
    records, problems = read(person(), person(bbox=[0, 0, 1, 1]), images=[image, other])
    assert [record.file_name for record in records] == ["a.jpg"]
    assert records[0].people[0].box_xywh == (10, 20, 30, 40)
    assert problems == {Problem.DUPLICATE_IMAGE: 1, Problem.DUPLICATE_ANNOTATION: 1}


def test_a_missing_picture_size_is_noted():
    records, problems = read(person(), images=[{"id": 7, "file_name": "a.jpg", "width": 120}])
    assert (records[0].height, records[0].width) == (0, 120)
    assert problems == {Problem.IMAGE_SIZE_MISSING: 1}


def test_pictures_come_ordered_by_id_whatever_the_file_says():
    images = [
        {"id": number, "file_name": f"{number}.jpg", "height": 9, "width": 9} for number in (9, 7)
    ]
    records, _ = read(person(), images=images)
    assert [record.id for record in records] == [7, 9]
    assert len(records[0].people) == 1


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ([], "holds a list"),
        ({"images": []}, "no list of objects 'annotations'"),
        (document(person(keypoints=[1, 2, 3])), "3 numbers for its keypoints, expected 51"),
        (document(person(id="x")), "an annotation has id 'x'"),
        (document() | {"categories": []}, "no category"),
        (document(images=[{"id": 7, "height": 1, "width": 1}]), "image 7 has no file_name"),
    ],
)
def test_a_file_of_another_kind_is_refused_with_a_reason(broken, message):
    with pytest.raises(FormatError, match=message):
        read_coco(broken, COCO17, Findings())


def test_the_wrong_skeleton_is_named():
    with pytest.raises(FormatError, match=r"has 17 keypoints.*'crowdpose14'"):
        read_coco(document(person()), CROWDPOSE14, Findings())


def test_the_skeletons_names_in_another_order_are_refused():
    turned, spelled_otherwise = document(person()), document(person())
    turned["categories"][0]["keypoints"][1:3] = ["right_eye", "left_eye"]
    spelled_otherwise["categories"][0]["keypoints"] = [f"point {k}" for k in range(17)]
    with pytest.raises(FormatError, match=r"in the order.*poses would be mixed up"):
        read_coco(turned, COCO17, Findings())
    assert len(read_coco(spelled_otherwise, COCO17, Findings())) == 1


def test_writing_gives_the_annotations_that_were_read():
    crowd = person(id=2, iscrowd=1, segmentation={"size": [2, 3], "counts": [1, 2, 3]}, area=3.5)
    records, _ = read(person(), crowd)
    assert records[0].people[1].segmentation == RunLengths((2, 3), (1, 2, 3))
    written = write_coco(records, COCO17)
    assert written["annotations"] == [person(), crowd]
    assert written["images"] == document()["images"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_official_records_survive_a_round_trip(shared, split):
    path = shared / "real/coco-original/annotations" / f"person_keypoints_{split}2017.json"
    official = json.loads(path.read_text())
    findings = Findings()
    written = write_coco(read_coco(official, COCO17, findings), COCO17)
    assert not findings.counts
    by_id = {annotation["id"]: annotation for annotation in official["annotations"]}
    assert {annotation["id"]: annotation for annotation in written["annotations"]} == by_id
    assert len(written["images"]) == len(official["images"])


def test_all_people_of_coco_val_survive_a_round_trip(shared):
    with gzip.open(shared / "real/scale/coco_val2017_keypoints.json.gz") as file:
        official = json.load(file)
    written = write_coco(read_coco(official, COCO17, Findings()), COCO17)
    assert len(written["annotations"]) == 11_004
    by_id = {annotation["id"]: annotation for annotation in official["annotations"]}
    for annotation in written["annotations"]:
        same = by_id[annotation["id"]]
        assert annotation == {key: same[key] for key in annotation}
