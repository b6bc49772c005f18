"""Stage 1 of training: four pictures joined, warped to the input, another blended in.

All random numbers are drawn first (`draw_plan`), so that the same plan can be rendered by another
implementation and compared. Rendering gives the reference's pixels and skips what nobody sees:
the canvas is 2S x 2S, but the warp looks at about its top left quarter, so only that region is
built and only the tiles in it are decoded.

Source: SPEC section 5.5; mmpose Mosaic, BottomupRandomAffine, YOLOXMixUp. S is the input's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import cv2
import numpy as np

from rtmo.data.augment import Warp, draw_warp, warp_matrix
from rtmo.data.config import MosaicConfig
from rtmo.data.labels import Labels, clip, join, mirror, no_people, scale_and_shift, warp
from rtmo.data.letterbox import PADDING_GREY
from rtmo.skeleton import Skeleton

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, the second corner outside."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the dataset, decoded only when it is needed."""

    size_hw: tuple[int, int]
    labels: Labels
    """In original pixels."""
    read: Callable[[], np.ndarray | None]
    """The pixels (H, W, 3) uint8 BGR; None when the file cannot be read."""


class Corner(Enum):
    """Which way a tile lies from the centre of the mosaic: (right, below)."""

    TOP_LEFT = (False, False)
    TOP_RIGHT = (True, False)
    BOTTOM_LEFT = (False, True)
    BOTTOM_RIGHT = (True, True)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a resized tile lies: canvas[paste] = tile[crop]."""

    paste: Box
    crop: Box

    @property
    def offset_xy(self) -> tuple[int, int]:
        """Canvas position of the tile's own top left corner; may be negative."""
        return self.paste[0] - self.crop[0], self.paste[1] - self.crop[1]


@dataclass(frozen=True, slots=True)
class MixUp:
    """A drawn blending."""

    picture: int
    """Position in the dataset."""
    scale: float
    """Extra scale after the picture was fitted into the input."""
    is_mirrored: bool
    crop_xy: tuple[float, float]
    """Where the S x S crop lies between its first and last possible place, each in [0, 1)."""


@dataclass(frozen=True, slots=True)
class MosaicPlan:
    """Everything random about one stage-1 sample except colour and mirroring."""

    pictures: tuple[int, ...]
    """Positions in the dataset of the tiles, in the order of `Corner`; one if not joined."""
    centre_xy: tuple[int, int]
    """Where the four tiles touch, canvas pixels."""
    warp: Warp
    mixup: MixUp | None


def draw_plan(
    rng: np.random.Generator, config: MosaicConfig, index: int, num_pictures: int, input_size: int
) -> MosaicPlan:
    """The plan of sample `index`; the other pictures are any of the dataset."""
    others = rng.integers(num_pictures, size=3).tolist()
    centre_x, centre_y = (rng.uniform(0.5, 1.5, 2) * input_size).astype(int).tolist()
    is_joined = rng.random() < config.mosaic_prob
    warp = draw_warp(rng, config, input_size)
    mixup = MixUp(
        picture=int(rng.integers(num_pictures)),
        scale=rng.uniform(*config.mixup_scale),
        is_mirrored=bool(rng.random() < 0.5),
        crop_xy=(rng.random(), rng.random()),
    )
    return MosaicPlan(
        pictures=(index, *others) if is_joined else (index,),
        centre_xy=(centre_x, centre_y),
        warp=warp,
        mixup=mixup if rng.random() < config.mixup_prob else None,
    )


def fit(size_hw: tuple[int, int], side: int) -> tuple[float, tuple[int, int]]:
    """Scale and resulting (height, width) that fit a picture into a square.

    Example:
        >>> fit((480, 640), 320)
        (0.5, (240, 320))
    """
    height, width = size_hw
    scale = min(side / height, side / width)
    return scale, (max(1, int(height * scale)), max(1, int(width * scale)))


def place(
    corner: Corner, centre_xy: tuple[int, int], tile_hw: tuple[int, int], canvas_side: int
) -> Placement:
    """Lay a tile against the centre; what reaches outside the canvas is cut off.

    Example:
        >>> place(Corner.TOP_LEFT, (330, 950), (480, 640), 1280)
        Placement(paste=(0, 470, 330, 950), crop=(310, 0, 640, 480))
    """
    is_right, is_below = corner.value
    x1, x2, crop_x1, crop_x2 = _lay(is_right, centre_xy[0], tile_hw[1], canvas_side)
    y1, y2, crop_y1, crop_y2 = _lay(is_below, centre_xy[1], tile_hw[0], canvas_side)
    return Placement((x1, y1, x2, y2), (crop_x1, crop_y1, crop_x2, crop_y2))


def visible_region(matrix: np.ndarray, canvas_side: int, input_size: int) -> Box:
    """The part of the canvas that the warped input can show, with a border of two pixels."""
    last = input_size - 1
    corners = np.array([[0, 0, 1], [last, 0, 1], [last, last, 1], [0, last, 1]], np.float64)
    seen = (np.linalg.inv(matrix.astype(np.float64)) @ corners.T)[:2]
    # At least one pixel, so that there is always a canvas to warp.
    x1, y1 = np.clip(np.floor(seen.min(axis=1)) - 2, 0, canvas_side - 1).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(seen.max(axis=1)) + 3, 1, canvas_side).astype(int).tolist()
    return x1, y1, x2, y2


def render_warped(
    plan: MosaicPlan, pictures: Callable[[int], Picture], skeleton: Skeleton, input_size: int
) -> tuple[np.ndarray, Labels]:
    """The joined and warped picture (S, S, 3) uint8 and its people, before blending.

    Only the visible region of the canvas is built. The pixels are those of warping the whole
    canvas; people of tiles that cannot be seen are left out, which the final filter would do.
    """
    canvas_side = 2 * input_size if len(plan.pictures) > 1 else input_size
    matrix = warp_matrix(plan.warp, input_size)
    region = visible_region(matrix, canvas_side, input_size)
    left, top, right, bottom = region
    canvas = np.full((bottom - top, right - left, 3), PADDING_GREY, np.uint8)
    parts = [no_people(skeleton.num_keypoints)]
    for picture, scale, tile_hw, placement in _tiles(plan, pictures, input_size, canvas_side):
        seen = _intersection(placement.paste, region)
        if seen is None or (image := picture.read()) is None:
            continue
        x, y = placement.offset_xy
        x1, y1, x2, y2 = seen
        tile = resize(image, tile_hw)[y1 - y : y2 - y, x1 - x : x2 - x]
        canvas[y1 - top : y2 - top, x1 - left : x2 - left] = tile
        moved = scale_and_shift(picture.labels, scale, (x, y))
        parts.append(clip(moved, (canvas_side, canvas_side)))
    shifted = matrix.astype(np.float64) @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    image = cv2.warpPerspective(
        canvas,
        shifted,
        (input_size, input_size),
        flags=cv2.INTER_LINEAR,
        borderValue=(PADDING_GREY,) * 3,
    )
    return image, clip(warp(join(parts), matrix), (input_size, input_size))


def blend(
    image: np.ndarray, labels: Labels, mixup: MixUp, picture: Picture, skeleton: Skeleton
) -> tuple[np.ndarray, Labels]:
    """Half the image and half a crop of another picture, with the people of both.

    The other picture is fitted into the top left of an S x S square, the square is resized and
    possibly mirrored, and an S x S crop is taken at a random place. All padding is grey 114.
    An unreadable other picture leaves the image as it is.
    """
    other = picture.read()
    if other is None:
        return image, labels
    side = len(image)
    fit_scale, tile_hw = fit(picture.size_hw, side)
    square = np.full((side, side, 3), PADDING_GREY, np.uint8)
    square[: tile_hw[0], : tile_hw[1]] = resize(other, tile_hw)
    other_side = int(side * mixup.scale)
    square = resize(square, (other_side, other_side))
    if mixup.is_mirrored:
        square = square[:, ::-1]
    room = max(other_side - side, 0)
    x, y = (int(fraction * (room + 1)) for fraction in mixup.crop_xy)
    crop = square[y : y + side, x : x + side]

    moved = scale_and_shift(picture.labels, fit_scale * mixup.scale, (0, 0))
    moved = clip(moved, (other_side, other_side))
    if mixup.is_mirrored:
        moved = mirror(moved, other_side, skeleton)
    moved = scale_and_shift(moved, 1.0, (-x, -y))
    return _half_and_half(image, crop), clip(join([labels, moved]), (side, side))


def resize(image: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Bilinear, as the reference; the same array when the size is right already."""
    if image.shape[:2] == size_hw:
        return image
    resized: np.ndarray = cv2.resize(
        image, (size_hw[1], size_hw[0]), interpolation=cv2.INTER_LINEAR
    )
    return resized


def _tiles(
    plan: MosaicPlan, pictures: Callable[[int], Picture], input_size: int, canvas_side: int
) -> Iterator[tuple[Picture, float, tuple[int, int], Placement]]:
    """Picture, scale, resized (height, width) and placement of each tile of the plan."""
    for index, corner in zip(plan.pictures, Corner, strict=False):
        picture = pictures(index)
        scale, tile_hw = fit(picture.size_hw, input_size)
        if len(plan.pictures) == 1:
            yield picture, scale, tile_hw, _centred(tile_hw, canvas_side)
        else:
            yield picture, scale, tile_hw, place(corner, plan.centre_xy, tile_hw, canvas_side)


def _centred(tile_hw: tuple[int, int], canvas_side: int) -> Placement:
    height, width = tile_hw
    x, y = (canvas_side - width) // 2, (canvas_side - height) // 2
    return Placement((x, y, x + width, y + height), (0, 0, width, height))


def _lay(is_after: bool, centre: int, length: int, limit: int) -> tuple[int, int, int, int]:  # noqa: FBT001
    """Along one axis: start and end on the canvas, start and end on the tile."""
    if is_after:
        end = min(centre + length, limit)
        return centre, end, 0, end - centre
    start = max(centre - length, 0)
    return start, centre, length - (centre - start), length


def _intersection(a: Box, b: Box) -> Box | None:
    x1, y1, x2, y2 = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (x1, y1, x2, y2) if x1 < x2 and y1 < y2 else None


def _half_and_half(image: np.ndarray, crop: np.ndarray) -> np.ndarray:
    """Floor of the mean, with grey 114 where the crop is smaller than the image."""
    height, width = crop.shape[:2]
    other = crop
    if crop.shape != image.shape:
        other = np.full_like(image, PADDING_GREY)
        other[:height, :width] = crop
    # floor((a + b) / 2) without leaving 8 bits.
    mean: np.ndarray = image ^ other
    mean >>= 1
    mean += image & other
    return mean
