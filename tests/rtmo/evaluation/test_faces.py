"""Faces, told by pixels: nothing is left inside, nothing changes outside."""

import numpy as np
import pytest

from rtmo.evaluation.faces import blur_faces, blur_words, blurred_reader, face_parts
from rtmo.evaluation.inputs import Detections, GroundTruth
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

HAND = Skeleton(
    name="hand5",
    keypoints=("palm", "left_tip", "right_tip", "left_base", "right_base"),
    flip_pairs=((1, 2), (3, 4)),
    limbs=((0, 3),),
    sigmas=(0.05, 0.03, 0.03, 0.06, 0.06),
)
FOREMAN = Skeleton(
    name="foreman",
    keypoints=("Left-Eye", "right_eye", "left_hand"),
    flip_pairs=((0, 1),),
    limbs=((0, 1),),
    sigmas=(0.03, 0.03, 0.06),
)
BOX = np.array([[60.0, 40.0, 80.0, 200.0]])
HEAD = (100, 65)
"""Where the head of the person in the box is: x, y."""


def chessboard() -> np.ndarray:
    """Black and white cells of 4 px: the strongest detail there is."""
    y, x = np.mgrid[:280, :200]
    return np.repeat((((x // 4 + y // 4) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)


def standing(skeleton: Skeleton) -> np.ndarray:
    """(1, K, 3) of somebody in the box."""
    places = {
        "nose": (100, 66), "left_eye": (106, 61), "right_eye": (94, 61), "left_ear": (112, 64),
        "right_ear": (88, 64), "top_head": (100, 42), "neck": (100, 88),
        "left_shoulder": (118, 92), "right_shoulder": (82, 92), "Left-Eye": (106, 61),
    }  # fmt: skip
    points = [(*places.get(name, (100, 180)), 2.0) for name in skeleton.keypoints]
    return np.array([points], dtype=float)


def detail(image: np.ndarray, centre: tuple[int, int], radius: int) -> float:
    """Standard deviation of grey levels in a square; 127 for the chessboard, 0 for one colour."""
    x, y = centre
    return float(image[y - radius : y + radius, x - radius : x + radius].std())


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14, FOREMAN], ids=lambda s: s.name)
def test_nothing_is_left_of_a_face_and_the_body_is_as_it_was(skeleton):
    before = chessboard()
    after = blur_faces(before, standing(skeleton), BOX, skeleton)
    assert detail(before, HEAD, 8) > 120
    assert detail(after, HEAD, 8) < 30
    np.testing.assert_array_equal(after[120:], before[120:])
    np.testing.assert_array_equal(after[:, :40], before[:, :40])
    np.testing.assert_array_equal(before, chessboard())  # the picture itself is not touched


@pytest.mark.parametrize(
    ("unknown", "what"),
    [
        (slice(0, 5), "the shoulders tell"),
        (slice(0, 17), "the box tells"),
    ],
)
def test_without_face_keypoints_the_head_is_estimated(unknown, what):
    people = standing(COCO17)
    people[0, unknown, 2] = 0
    after = blur_faces(chessboard(), people, BOX, COCO17)
    assert detail(after, HEAD, 8) < 30, what
    np.testing.assert_array_equal(after[140:], chessboard()[140:])


def test_one_ear_alone_still_hides_the_head():
    people = standing(COCO17)
    people[0, [0, 1, 2, 4], 2] = 0
    assert detail(blur_faces(chessboard(), people, BOX, COCO17), (112, 64), 8) < 30


def test_one_keypoint_astray_does_not_hide_the_picture():
    people = standing(COCO17)
    people[0, 0, :2] = (190, 270)
    after = blur_faces(chessboard(), people, BOX, COCO17)
    assert (after != chessboard()).any(axis=2).mean() < 0.6


def test_a_face_at_the_border_or_outside_is_no_error():
    people = standing(COCO17)
    for shift in (-100.0, 60.0, 5000.0):
        moved = people + np.array([shift, -60.0, 0.0])
        blur_faces(chessboard(), moved, BOX + np.array([shift, -60.0, 0.0, 0.0]), COCO17)


def test_a_skeleton_without_a_head_is_not_blurred_and_says_so():
    people = np.full((1, 5, 3), 100.0)
    np.testing.assert_array_equal(blur_faces(chessboard(), people, BOX, HAND), chessboard())
    assert face_parts(HAND).how == "nowhere"
    assert "could not be blurred: skeleton hand5" in blur_words(HAND)
    assert "top of the head" in blur_words(CROWDPOSE14)


def test_annotated_and_found_people_of_the_image_are_blurred():
    person = standing(COCO17)[0]
    truth = GroundTruth(
        image_ids=np.array([1, 2]),
        crowd_index=None,
        ids=np.array([1]),
        image=np.array([0]),
        keypoints=person[None],
        boxes_xywh=BOX,
        areas=np.array([8000.0]),
        num_keypoints=np.array([17]),
        is_crowd=np.array([False]),
    )
    beside = person - (50.0, 0.0, 1.2)
    found = Detections(np.array([1]), beside[None], np.array([0.9]), BOX - (50.0, 0, 0, 0))
    read = blurred_reader(lambda _: chessboard(), truth, [found], COCO17)
    annotated, detected = read(0), read(1)
    assert detail(annotated, HEAD, 8) < 30
    assert detail(annotated, (50, 65), 8) > 120
    assert detail(detected, (50, 65), 8) < 30
    assert detail(detected, HEAD, 4) > 120
