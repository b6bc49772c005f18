"""The dataset doctor."""

from dataclasses import replace

import pytest

from rtmo.formats.doctor import check_picture, examine
from rtmo.formats.findings import Findings, Problem
from rtmo.skeleton import COCO17, CROWDPOSE14


@pytest.fixture
def record(random_records):
    return replace(random_records(2)[1], height=60, width=90)


def checked(record, jpeg):
    findings = Findings()
    return check_picture(record, jpeg, findings), dict(findings.counts)


def test_a_sound_picture_passes_unchanged(record, picture_file):
    assert checked(record, picture_file(60, 90)) == (record, {})


def test_a_wrong_size_is_replaced_by_that_of_the_picture(record, picture_file):
    repaired, problems = checked(replace(record, height=90, width=60), picture_file(60, 90))
    assert repaired == record
    assert problems == {Problem.IMAGE_SIZE_WRONG: 1}


def test_a_missing_size_is_filled_in(record, picture_file):
    assert checked(replace(record, height=0), picture_file(60, 90)) == (record, {})


def test_a_truncated_picture_is_dropped(record, picture_file):
    assert checked(record, picture_file(60, 90)[:-40]) == (None, {Problem.IMAGE_TRUNCATED: 1})


def test_something_else_than_a_picture_is_dropped(record):
    assert checked(record, b"<html>") == (None, {Problem.IMAGE_UNREADABLE: 1})


def test_exif_orientation_counts_only_where_the_annotated_size_says_so(record, picture_file):
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\0\0MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\0\0\0\0"
    jpeg = picture_file(60, 90)
    jpeg = jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
    assert checked(record, jpeg) == (record, {Problem.IMAGE_ROTATED: 1})
    turned = replace(record, height=90, width=60)
    assert checked(turned, jpeg) == (
        replace(turned, is_turned=True),
        {Problem.IMAGE_TURNED: 1},
    )


def examined(record, skeleton=COCO17, **changes):
    findings = Findings()
    person = replace(record.people[0], **changes)
    examine(replace(record, people=(person,)), skeleton, findings)
    return set(findings.counts)


def posed(skeleton, **places):
    """Keypoints at x = place, y = 30, by name."""
    return tuple(
        number
        for name in skeleton.keypoints
        for number in ((places[name], 30, 2) if name in places else (0, 0, 0))
    )


def test_what_is_worth_knowing_is_counted(record):
    assert Problem.BOX_OUTSIDE in examined(record, box_xywh=(-1, 5, 10, 10))
    assert Problem.BOX_OUTSIDE in examined(record, box_xywh=(85, 5, 10, 10))
    assert Problem.BOX_EMPTY in examined(record, box_xywh=(5, 5, 0, 10))
    assert Problem.ZERO_KEYPOINTS in examined(record, num_keypoints=0)
    assert examined(record, is_crowd=True, num_keypoints=0) >= {Problem.CROWD}
    assert Problem.KEYPOINT_OUTSIDE in examined(record, keypoints=posed(COCO17, nose=95))


FACING = {"left_eye": 50, "right_eye": 40, "left_ear": 55, "right_ear": 35}
TORSO = {"left_shoulder": 60, "right_shoulder": 30, "left_hip": 58, "right_hip": 32}
SWAPPED_TORSO = {"left_shoulder": 30, "right_shoulder": 60, "left_hip": 32, "right_hip": 58}


def test_a_torso_against_the_face_is_noticed(record):
    assert examined(record, keypoints=posed(COCO17, **FACING, **SWAPPED_TORSO)) == {
        Problem.LEFT_RIGHT
    }
    assert examined(record, keypoints=posed(COCO17, **FACING, **TORSO)) == set()
    assert examined(record, keypoints=posed(COCO17, **SWAPPED_TORSO)) == set()


def test_a_skeleton_without_a_face_has_no_left_right_finding(record):
    keypoints = posed(CROWDPOSE14, **SWAPPED_TORSO)
    assert examined(record, CROWDPOSE14, keypoints=keypoints) == set()
