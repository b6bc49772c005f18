"""Stage 1: placement as the official one, rendering as the plain three steps."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.plain_stage1 import render
from rtmo.data.augment import Warp
from rtmo.data.config import MosaicConfig
from rtmo.data.labels import Labels, no_people, trainable
from rtmo.data.mosaic import (
    Corner,
    MosaicPlan,
    Picture,
    blend,
    draw_plan,
    place,
    render_warped,
    visible_region,
)
from rtmo.skeleton import COCO17

SIDE = 96


@pytest.fixture
def pictures(golden_image):
    """Ten pictures of many sizes with people; reading one is noted."""
    rng = np.random.default_rng(0)
    made, reads = [], []
    for number in range(10):
        height, width = rng.integers(30, 200, 2).tolist()
        count = number % 4
        corner = rng.uniform(0, [width / 2, height / 2], (count, 2))
        boxes = np.concatenate([corner, corner + rng.uniform(5, [width / 2, height / 2])], 1)
        labels = Labels(
            boxes.astype(np.float32),
            rng.uniform(0, [width, height], (count, 17, 2)).astype(np.float32),
            rng.integers(0, 2, (count, 17)).astype(np.float32),
            rng.integers(0, 2, (count, 17)).astype(np.float32),
            rng.uniform(10, 900, count).astype(np.float32),
        )
        image = golden_image(f"mosaic{number}", height, width)

        def read(image=image, number=number):
            reads.append(number)
            return image

        made.append(Picture((height, width), labels, read, SIDE))
    made_at = made.__getitem__
    return made_at, reads


def rendered(plan, pictures, skeleton=COCO17):
    image, labels = render_warped(plan, pictures, skeleton, SIDE)
    if plan.mixup is not None:
        picture = pictures(plan.mixup.picture)
        image, labels = blend(image, labels, plan.mixup, picture, skeleton)
    return image, trainable(labels)


def test_tiles_are_placed_as_the_official_ones(golden):
    keys = [key for key in golden if key.startswith("mosaic.")]
    assert len(keys) == 24
    for key in keys:
        _, corner, centre, size = key.split(".")
        width, height = map(int, size.split("x"))
        x, y = map(int, centre.split("_"))
        placement = place(Corner[corner.upper()], (x, y), (height, width), 1280)
        assert (*placement.paste, *placement.crop) == tuple(golden[key]), key


CONFIGS = {
    "coco": MosaicConfig(),
    "crowdpose": MosaicConfig(shift=0.2, rotation_deg=30, scale=(0.5, 1.5), mixup_scale=(0.6, 1.6)),
    "without mixup": MosaicConfig(mixup_prob=0),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_fast_path_gives_the_plain_path(pictures, config):
    at, _ = pictures
    rng = np.random.default_rng(1)
    people = 0
    for index in range(40):
        plan = draw_plan(rng, config, index % 10, range(10), SIDE)
        fast_image, fast = rendered(plan, at)
        plain_image, plain = render(plan, at, COCO17.flip_permutation, SIDE)
        plain = trainable(plain)
        # Equal but for a few pixels: an affine warp rounds positions another way, 1/32 px at
        # most, and the blended picture's last row and column meet no padding.
        difference = np.abs(fast_image.astype(int) - plain_image)
        assert np.mean(difference > 0) < 0.03
        assert np.mean(difference) < 0.2
        assert len(fast) == len(plain)
        people += len(fast)
        np.testing.assert_allclose(fast.boxes_xyxy, plain.boxes_xyxy, atol=1e-3)
        np.testing.assert_allclose(fast.keypoints_xy, plain.keypoints_xy, atol=1e-3)
        np.testing.assert_array_equal(fast.is_labelled, plain.is_labelled)
        np.testing.assert_allclose(fast.areas, plain.areas, rtol=1e-4)
    assert people > 20


def test_tiles_that_cannot_be_seen_are_not_decoded(pictures):
    at, reads = pictures
    plan = MosaicPlan((1, 2, 3, 4), (140, 140), Warp((0, 0), 0, 1.0, (0, 0)), None)
    rendered(plan, at)
    assert reads == [1]


@pytest.mark.parametrize("is_joined", [True, False])
@pytest.mark.parametrize("is_mirrored", [True, False])
def test_a_white_pixel_stays_under_its_keypoint(is_joined, is_mirrored):
    rng = np.random.default_rng(2)
    seen = 0
    for _ in range(30):
        at = white_spots(rng)
        plan = draw_plan(rng, MosaicConfig(), 0, range(4), SIDE)
        plan = replace(
            plan,
            pictures=(0, 1, 2, 3) if is_joined else (0,),
            mixup=replace(plan.mixup, is_mirrored=is_mirrored),
        )
        image, labels = rendered(plan, at)
        for x, y in labels.keypoints_xy[labels.is_labelled > 0]:
            if 3 <= x < SIDE - 3 and 3 <= y < SIDE - 3:
                seen += 1
                # Half of white over black or grey: 127 at least.
                assert image[round(y), round(x)].min() >= 120
    assert seen > 30


def white_spots(rng):
    """Four black pictures, each with one white spot and a keypoint on it."""
    made = []
    for _ in range(4):
        height, width = rng.integers(100, 200, 2).tolist()
        x, y = rng.integers(20, 80, 2).tolist()
        image = np.zeros((height, width, 3), np.uint8)
        image[y - 6 : y + 7, x - 6 : x + 7] = 255
        labels = Labels(
            np.array([[x - 10, y - 10, x + 10, y + 10]], np.float32),
            np.full((1, 17, 2), [x, y], np.float32),
            np.ones((1, 17), np.float32),
            np.ones((1, 17), np.float32),
            np.array([400], np.float32),
        )
        made.append(Picture((height, width), labels, lambda image=image: image, SIDE))
    return made.__getitem__


def test_a_picture_alone_lies_in_the_middle(golden_image):
    image = golden_image("alone", 48, 96)
    labels = no_people(17)
    picture = Picture((48, 96), labels, lambda: image, SIDE)
    plan = MosaicPlan((0,), (90, 90), Warp((0, 0), 0, 1.0, (0, 0)), None)
    result, _ = render_warped(plan, lambda _: picture, COCO17, SIDE)
    np.testing.assert_array_equal(result[24:72], image)
    assert (result[:24] == 114).all()
    assert (result[72:] == 114).all()


def test_an_unreadable_tile_is_grey_and_brings_no_people(pictures):
    at, _ = pictures
    broken = replace(at(3), read=lambda: None)
    plan = MosaicPlan((3,), (90, 90), Warp((0, 0), 0, 1.0, (0, 0)), None)
    image, labels = render_warped(plan, lambda _: broken, COCO17, SIDE)
    assert (image == 114).all()
    assert len(labels) == 0


def test_the_visible_region_covers_what_the_warp_reads():
    rng = np.random.default_rng(3)
    for _ in range(50):
        angle, scale = rng.uniform(-0.5, 0.5), rng.uniform(0.5, 1.5)
        matrix = np.array(
            [
                [scale * np.cos(angle), -scale * np.sin(angle), rng.uniform(-30, 30)],
                [scale * np.sin(angle), scale * np.cos(angle), rng.uniform(-30, 30)],
                [0, 0, 1],
            ]
        )
        x1, y1, x2, y2 = visible_region(matrix, 2 * SIDE, SIDE)
        points = rng.uniform(0, SIDE - 1, (100, 2))
        back = np.linalg.inv(matrix) @ np.column_stack([points, np.ones(100)]).T
        on_canvas = ((back[:2] >= 0) & (back[:2] <= 2 * SIDE)).all(axis=0)
        assert (back[0, on_canvas] >= x1).all()
        assert (back[0, on_canvas] <= x2).all()
        assert (back[1, on_canvas] >= y1).all()
        assert (back[1, on_canvas] <= y2).all()
