"""Warps and colour, against the official ones."""

import cv2
import numpy as np
import pytest

from rtmo.data.augment import (
    HsvShift,
    Warp,
    draw_hsv,
    draw_warp,
    draw_window_matrix,
    shift_hsv,
    warp_matrix,
)
from rtmo.data.config import HsvConfig, LetterboxConfig, MosaicConfig
from rtmo.data.labels import Labels, warp
from rtmo.data.letterbox import PADDING_GREY, Letterbox


@pytest.mark.parametrize("case", range(3))
def test_the_stage_1_warp_is_the_official_one(golden, golden_image, case):
    x, y, scale, rotation, shear_x, shear_y = golden[f"pers{case}.params"].tolist()
    matrix = warp_matrix(Warp((x, y), rotation, scale, (shear_x, shear_y)), 640)
    np.testing.assert_array_equal(matrix, golden[f"pers{case}.M"])
    image = cv2.warpPerspective(
        golden_image("pers", 1280, 1280), matrix, (640, 640), borderValue=(PADDING_GREY,) * 3
    )
    np.testing.assert_array_equal(image[::9, ::9], golden[f"pers{case}.pix_sub9"])
    boxes = golden[f"pers{case}.bbox_in"]
    labels = Labels(boxes, np.zeros((2, 1, 2)), np.zeros((2, 1)), np.ones((2, 1)), np.ones(2))
    moved = warp(labels, matrix)
    np.testing.assert_allclose(moved.boxes_xyxy, golden[f"pers{case}.bbox_out"], atol=1e-4)
    np.testing.assert_allclose(moved.areas, golden[f"pers{case}.det"], rtol=1e-6)


@pytest.mark.parametrize("case", range(3))
def test_colour_is_the_official_one(golden, case):
    gains = golden[f"hsv{case}.gains"].tolist()
    result = shift_hsv(golden["hsv.in"], HsvShift(*gains))
    # One grey level: OpenCV 4.14 rounds HSV to BGR another way than the goldens' 4.11.
    np.testing.assert_allclose(
        result.astype(int), golden[f"hsv{case}.out"].astype(int), atol=1, rtol=0
    )


@pytest.mark.parametrize("gains", [(5, 30, 30), (-5, -30, -30), (0, 0, 0), (-4, 0, 17)])
def test_colour_by_table_is_colour_by_arithmetic(golden_image, gains):
    image = golden_image("colour", 64, 64)
    hsv = cv2.cvtColor(image, cv2.COLOR_BGR2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] + gains[0]) % 180
    hsv[..., 1:] = np.clip(hsv[..., 1:] + gains[1:], 0, 255)
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
    np.testing.assert_array_equal(shift_hsv(image, HsvShift(*gains)), expected)


def test_draws_stay_in_their_ranges_and_fill_them():
    rng = np.random.default_rng(0)
    config = MosaicConfig()
    warps = [draw_warp(rng, config, 100) for _ in range(2000)]
    for values, low, high in (
        ([w.shift_px[0] for w in warps], -10, 10),
        ([w.rotation_deg for w in warps], -10, 10),
        ([w.scale for w in warps], 0.75, 1.0),
        ([w.shear_deg[1] for w in warps], -2, 2),
    ):
        assert low <= min(values) < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < max(values) <= high


def test_each_colour_channel_is_left_alone_half_the_time():
    rng = np.random.default_rng(0)
    shifts = [draw_hsv(rng, HsvConfig()) for _ in range(4000)]
    # Above one half, since draws below one grey level are cut to zero as well.
    still = np.mean([shift.saturation == 0 for shift in shifts])
    assert 0.49 < still < 0.55
    assert max(abs(shift.value) for shift in shifts) == 29
    assert max(abs(shift.hue) for shift in shifts) == 4


def test_a_window_without_jitter_is_the_letterbox():
    matrix = draw_window_matrix(np.random.default_rng(0), LetterboxConfig(), (30, 50), 64)
    np.testing.assert_array_equal(matrix, Letterbox.centred((30, 50), 64).matrix)


def test_a_jittered_window_stays_in_its_ranges():
    config = LetterboxConfig(shift=0.2, scale=(0.75, 1.5), rotation_deg=30)
    rng = np.random.default_rng(0)
    scales, turns = [], []
    for _ in range(1000):
        linear = draw_window_matrix(rng, config, (100, 100), 100)[:, :2]
        scales.append(1 / np.sqrt(np.linalg.det(linear)))
        turns.append(np.degrees(np.arctan2(linear[1, 0], linear[0, 0])))
    assert 0.75 <= min(scales) < 0.8
    assert 1.45 < max(scales) <= 1.5
    assert -30 <= min(turns) < -28
    assert 28 < max(turns) <= 30
    # A normal cut at one standard deviation: closer to the middle than a uniform draw's 1/sqrt(3).
    assert np.std(turns) / 30 == pytest.approx(0.54, abs=0.02)
