"""What transforms do to people."""

from dataclasses import fields

import numpy as np
import pytest

from rtmo.data.augment import Warp, warp_matrix
from rtmo.data.labels import Labels, clip, join, mirror, no_people, trainable, warp
from rtmo.skeleton import COCO17, CROWDPOSE14


def people(count: int, num_keypoints: int = 17, seed: int = 0) -> Labels:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (count, 2))
    return Labels(
        np.concatenate([corner, corner + rng.uniform(5, 40, (count, 2))], 1).astype(np.float32),
        rng.uniform(0, 99, (count, num_keypoints, 2)).astype(np.float32),
        rng.integers(0, 2, (count, num_keypoints)).astype(np.float32),
        rng.integers(0, 2, (count, num_keypoints)).astype(np.float32),
        rng.uniform(10, 500, count).astype(np.float32),
    )


def assert_equal(a: Labels, b: Labels, atol: float = 0) -> None:
    np.testing.assert_allclose(a.boxes_xyxy, b.boxes_xyxy, atol=atol)
    np.testing.assert_allclose(a.keypoints_xy, b.keypoints_xy, atol=atol)
    np.testing.assert_array_equal(a.is_labelled, b.is_labelled)
    np.testing.assert_array_equal(a.is_annotated, b.is_annotated)
    np.testing.assert_allclose(a.areas, b.areas, atol=atol)


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14])
@pytest.mark.parametrize("count", [0, 1, 4])
def test_mirroring_twice_changes_nothing(skeleton, count):
    labels = people(count, skeleton.num_keypoints)
    twice = mirror(mirror(labels, 100, skeleton), 100, skeleton)
    assert_equal(twice, labels, atol=1e-5)


def test_mirroring_is_the_official_one(golden):
    labels = Labels(
        np.array([[10, 20, 110, 220]], np.float32),
        np.arange(34, dtype=np.float32).reshape(1, 17, 2),
        np.arange(17, dtype=np.float32)[None],
        np.arange(17, dtype=np.float32)[None],
        np.ones(1, np.float32),
    )
    mirrored = mirror(labels, 640, COCO17)
    np.testing.assert_array_equal(mirrored.boxes_xyxy, golden["flip.bbox"])
    np.testing.assert_array_equal(mirrored.keypoints_xy, golden["flip.kp"])
    np.testing.assert_array_equal(mirrored.is_labelled, golden["flip.vis"])
    np.testing.assert_array_equal(mirrored.is_annotated, golden["flip.vis"])


@pytest.mark.parametrize("case", range(4))
def test_the_stage_2_warp_of_people_is_the_official_one(golden, case):
    areas = np.array([100, 200, 300], np.float32)
    given = Labels(
        golden[f"aff{case}.bbox_in"],
        golden[f"aff{case}.kp_in"],
        np.ones((3, 17)),
        np.ones((3, 17)),
        areas,
    )
    moved = clip(warp(given, golden[f"aff{case}.warp"]), (640, 640))
    # 1e-3 px: float32 on both sides, summed in another order.
    np.testing.assert_allclose(moved.boxes_xyxy, golden[f"aff{case}.bbox_out"], atol=1e-3)
    np.testing.assert_allclose(moved.keypoints_xy, golden[f"aff{case}.kp_out"], atol=1e-3)
    np.testing.assert_array_equal(moved.is_labelled, golden[f"aff{case}.vis_out"])
    np.testing.assert_allclose(moved.areas, golden[f"aff{case}.area_out"], rtol=1e-5)


def test_the_warp_by_identity_changes_nothing():
    labels = people(3)
    assert_equal(warp(labels, np.eye(3)), labels, atol=1e-4)


def test_clipping_cuts_boxes_and_unlabels_what_is_outside():
    labels = Labels(
        np.array([[-5, 10, 30, 120]], np.float32),
        np.array([[[0, 0], [100, 80], [100.5, 3], [5, -0.1]]], np.float32),
        np.ones((1, 4), np.float32),
        np.ones((1, 4), np.float32),
        np.ones(1, np.float32),
    )
    clipped = clip(labels, (80, 100))
    assert clipped.boxes_xyxy.tolist() == [[0, 10, 30, 80]]
    assert clipped.is_labelled.tolist() == [[1, 1, 0, 0]]
    assert clipped.is_annotated.tolist() == [[1, 1, 1, 1]]
    np.testing.assert_array_equal(clipped.keypoints_xy, labels.keypoints_xy)


def test_only_people_with_a_box_and_a_keypoint_are_trained_on():
    labels = people(3)
    labels.boxes_xyxy[0, 2] = labels.boxes_xyxy[0, 0] + 1  # exactly one pixel is too narrow
    labels.is_labelled[1] = 0
    labels.is_labelled[2, 3] = 1
    assert_equal(
        trainable(labels), Labels(*(getattr(labels, field.name)[2:] for field in fields(labels)))
    )


def test_no_people_go_through_everything():
    nobody = no_people(17)
    matrix = warp_matrix(Warp((3, 4), 5, 0.9, (1, 2)), 64)
    moved = trainable(mirror(clip(warp(nobody, matrix), (64, 64)), 64, COCO17))
    assert len(join([moved, nobody])) == 0
    assert moved.keypoints_xy.shape == (0, 17, 2)
