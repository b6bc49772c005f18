"""Stage 1 of training: four pictures joined, warped to the input, another blended in.

All random numbers are drawn first (`draw_plan`), so that the same plan can be rendered by another
implementation and compared. Rendering skips what nobody sees:
the canvas is 2S x 2S, but the warp looks at about its top left quarter, so only that region is
built and only the tiles in it are decoded.

Source: SPEC section 5.5; mmpose Mosaic, BottomupRandomAffine, YOLOXMixUp. S is the input's side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

import cv2
import numpy as np

from rtmo.data.augment import Warp, draw_warp, warp_matrix
from rtmo.data.config import MosaicConfig
from rtmo.data.labels import Labels, clip, join, mirror, no_people, scale_and_shift, warp
from rtmo.data.letterbox import PADDING_GREY
from rtmo.skeleton import Skeleton

Box = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels, the second corner outside."""


@dataclass(frozen=True)
class Picture:
    """One picture of the dataset, decoded only when it is needed."""

    size_hw: tuple[int, int]
    labels: Labels
    """In original pixels."""
    read: Callable[[], np.ndarray | None]
    """The pixels (H, W, 3) uint8 BGR; None when the file cannot be read."""
    input_size: int
    """S."""

    @cached_property
    def tile(self) -> np.ndarray | None:
        """The pixels fitted into S x S, as both mosaic and mixup want them."""
        image = self.read()
        return None if image is None else resize(image, fit(self.size_hw, self.input_size)[1])


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
    rng: np.random.Generator,
    config: MosaicConfig,
    index: int,
    partners: Sequence[int],
    input_size: int,
) -> MosaicPlan:
    """The plan of sample `index`; the other pictures are any of `partners`."""
    others = [partners[i] for i in rng.integers(len(partners), size=3)]
    centre_x, centre_y = (rng.uniform(0.5, 1.5, 2) * input_size).astype(int).tolist()
    is_joined = rng.random() < config.mosaic_prob
    warp = draw_warp(rng, config, input_size)
    mixup = MixUp(
        picture=partners[int(rng.integers(len(partners)))],
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

    Only the visible region of the canvas is built; people of tiles that cannot be seen are left
    out, which the final filter would do.
    """
    canvas_side = 2 * input_size if len(plan.pictures) > 1 else input_size
    matrix = warp_matrix(plan.warp, input_size)
    region = visible_region(matrix, canvas_side, input_size)
    left, top, right, bottom = region
    canvas = np.full((bottom - top, right - left, 3), PADDING_GREY, np.uint8)
    parts = [no_people(skeleton.num_keypoints)]
    for picture, scale, placement in _tiles(plan, pictures, input_size, canvas_side):
        seen = _intersection(placement.paste, region)
        if seen is None or (tile := picture.tile) is None:
            continue
        x, y = placement.offset_xy
        x1, y1, x2, y2 = seen
        canvas[y1 - top : y2 - top, x1 - left : x2 - left] = tile[y1 - y : y2 - y, x1 - x : x2 - x]
        parts.append(scale_and_shift(picture.labels, scale, (x, y)))
    shifted = matrix.astype(np.float64) @ np.array([[1, 0, left], [0, 1, top], [0, 0, 1]])
    # The map is affine; warpPerspective would divide by one, in twice the time.
    image = cv2.warpAffine(
        canvas,
        shifted[:2],
        (input_size, input_size),
        flags=cv2.INTER_LINEAR,
        borderValue=(PADDING_GREY,) * 3,
    )
    people = clip(join(parts), (canvas_side, canvas_side))
    return image, clip(warp(people, matrix), (input_size, input_size))


def blend(
    image: np.ndarray, labels: Labels, mixup: MixUp, picture: Picture, skeleton: Skeleton
) -> tuple[np.ndarray, Labels]:
    """Half the image and half a crop of another picture, with the people of both.

    The other picture lies in the top left of an S x S square, the square is resized and possibly
    mirrored, and an S x S crop is taken at a random place. All padding is grey 114, and only the
    picture in the square is ever resized. Another picture that is unreadable, or thinner than a
    pixel, leaves the image as it is. `image` is written over.
    """
    other = picture.tile
    side = len(image)
    other_side = int(side * mixup.scale)
    ratio = other_side / side
    if other is None or min(other.shape[:2]) * ratio < 1:
        return image, labels
    # By ratio, not by size: sampled where the whole square would be.
    tile = cv2.resize(other, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_LINEAR)
    height, width = tile.shape[:2]
    room = max(other_side - side, 0)
    x, y = (int(fraction * (room + 1)) for fraction in mixup.crop_xy)
    left = other_side - width if mixup.is_mirrored else 0
    if mixup.is_mirrored:
        tile = cv2.flip(tile, 1)
    crop = np.full_like(image, PADDING_GREY)
    seen = _intersection((left - x, -y, left - x + width, height - y), (0, 0, side, side))
    if seen is not None:
        x1, y1, x2, y2 = seen
        crop[y1:y2, x1:x2] = tile[y1 + y : y2 + y, x1 + x - left : x2 + x - left]

    fit_scale, _ = fit(picture.size_hw, side)
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
) -> Iterator[tuple[Picture, float, Placement]]:
    """Picture, scale and placement of each tile of the plan."""
    for index, corner in zip(plan.pictures, Corner, strict=False):
        picture = pictures(index)
        scale, tile_hw = fit(picture.size_hw, input_size)
        if len(plan.pictures) == 1:
            yield picture, scale, _centred(tile_hw, canvas_side)
        else:
            yield picture, scale, place(corner, plan.centre_xy, tile_hw, canvas_side)


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


def _half_and_half(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Floor of the mean, without leaving 8 bits."""
    mean: np.ndarray = image ^ other
    mean >>= 1
    image &= other
    mean += image
    return mean
