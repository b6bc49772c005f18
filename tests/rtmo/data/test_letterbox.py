"""The letterbox, against the official one and against itself."""

import cv2
import numpy as np
import pytest

from rtmo.data.letterbox import PADDING_GREY, Letterbox, window_matrix

SIZES = [(333, 427), (901, 377), (640, 640), (37, 53)]


@pytest.mark.parametrize("case", range(4))
def test_the_centred_letterbox_is_the_official_one(golden, golden_image, case):
    height, width = golden[f"lb{case}.ori_hw"].tolist()
    image = golden_image(f"pre_{height}x{width}", height, width)
    assert int(image.sum()) == int(golden[f"lb{case}.in_sum"])
    letterbox = Letterbox.centred((height, width), 640)
    np.testing.assert_array_equal(letterbox.matrix, golden[f"lb{case}.warp"])
    # Bit-equal: OpenCV below 5 has not changed warpAffine since the goldens' 4.11.
    result = letterbox.apply(image)
    np.testing.assert_array_equal(result[::7, ::7], golden[f"lb{case}.pix_sub7"])
    assert int(result.sum()) == int(golden[f"lb{case}.out_sum"])
    points = letterbox.to_original(golden[f"lb{case}.kp_in"])
    np.testing.assert_allclose(points, golden[f"lb{case}.kp_orig"], atol=1e-9)


@pytest.mark.parametrize("case", range(4))
def test_the_jittered_window_is_the_official_one(golden, golden_image, case):
    height, width, x, y, scale, rotation = golden[f"aff{case}.params"].tolist()
    centre = (width * (0.5 + x), height * (0.5 + y))
    side = max(width, height) * float(np.float32(scale))
    matrix = window_matrix(centre, side, rotation, 640)
    # 2e-5 px: the reference mixes float32 and float64 in its three points.
    np.testing.assert_allclose(matrix, golden[f"aff{case}.warp"], atol=2e-5)
    image = golden_image(f"aff_{int(height)}x{int(width)}", int(height), int(width))
    result = cv2.warpAffine(image, matrix, (640, 640), borderValue=(PADDING_GREY,) * 3)
    np.testing.assert_array_equal(result[::7, ::7], golden[f"aff{case}.pix"])


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("rule", ["centred", "top_left"])
def test_there_and_back_is_the_same_point(size_hw, rule):
    letterbox = make(rule, size_hw, 256)
    points = np.random.default_rng(0).uniform(-50, 1000, (7, 17, 2))
    np.testing.assert_allclose(letterbox.to_original(letterbox.to_input(points)), points, atol=1e-9)


@pytest.mark.parametrize("size_hw", SIZES)
@pytest.mark.parametrize("rule", ["centred", "top_left"])
def test_the_whole_picture_lies_inside_the_input(size_hw, rule):
    height, width = size_hw
    corners = make(rule, size_hw, 256).to_input(np.array([[0, 0], [width, height]], float))
    assert corners.min() >= -1e-9
    assert corners.max() <= 256 + 1e-9
    assert (corners[1] - corners[0]).max() == pytest.approx(256)


@pytest.mark.parametrize("rule", ["centred", "top_left"])
def test_a_white_pixel_stays_under_its_point(rule):
    image = np.zeros((90, 120, 3), np.uint8)
    image[58:63, 38:43] = 255
    letterbox = make(rule, (90, 120), 256)
    result = letterbox.apply(image)
    x, y = letterbox.to_input(np.array([40.0, 60.0]))
    assert (result[round(y), round(x)] == 255).all()
    below = letterbox.to_input(np.array([60.0, 85.0])) + np.array([0, 30])
    assert (result[round(below[1]), round(below[0])] == PADDING_GREY).all()


def test_a_picture_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"\(10, 20, 3\).*\(20, 10, 3\)"):
        Letterbox.centred((20, 10), 64).apply(np.zeros((10, 20, 3), np.uint8))


def make(rule: str, size_hw: tuple[int, int], side: int) -> Letterbox:
    if rule == "centred":
        return Letterbox.centred(size_hw, side)
    return Letterbox.top_left(size_hw, (side, side))


@pytest.mark.parametrize("rule", ["centred", "top_left"])
@pytest.mark.parametrize("size_hw", [(480, 640), (427, 640), (640, 427), (333, 500), (50, 2000)])
def test_trimming_keeps_the_scale_and_the_picture_and_leaves_whole_strides(rule, size_hw):
    square = make(rule, size_hw, 640)
    trimmed = square.trimmed(32)
    assert trimmed.scale == square.scale
    corners = trimmed.to_input(np.array([[0.0, 0.0], [size_hw[1], size_hw[0]]]))
    for axis, side in enumerate(reversed(trimmed.input_hw)):
        padding = side - (corners[1, axis] - corners[0, axis])
        assert side % 32 == 0
        assert -1e-3 < padding < 32
        before = corners[0, axis]
        assert before == pytest.approx(padding / 2 if rule == "centred" else 0, abs=1e-3)
    points = np.array([[3.0, 7.0], [11.5, 2.25]])
    np.testing.assert_allclose(trimmed.to_original(trimmed.to_input(points)), points, atol=1e-9)
    assert trimmed.apply(np.zeros((*size_hw, 3), np.uint8)).shape == (*trimmed.input_hw, 3)
