"""Training samples: each is a pure function of (seed, epoch, index). No torch.

Source: SPEC section 5.5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Literal

import cv2
import numpy as np

from rtmo.data.augment import draw_hsv, draw_window_matrix, shift_hsv
from rtmo.data.config import AugmentConfig
from rtmo.data.ignore_mask import is_ignored, union_mask, warp_mask
from rtmo.data.labels import Labels, clip, mirror, no_people, trainable, warp
from rtmo.data.letterbox import PADDING_GREY
from rtmo.data.mixture import MergedStore, Mixture, Place
from rtmo.data.mosaic import Picture, blend, draw_plan, render_warped
from rtmo.data.randomness import Purpose, generator
from rtmo.store import Store, StoreError

Pipeline = Literal["mosaic", "letterbox"]
ReadImage = Callable[[Store, int], np.ndarray]
"""A store and the index of a picture -> (H, W, 3) uint8 BGR, the size of the stored one."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One network input and its targets."""

    image: np.ndarray
    """(S, S, 3) uint8 BGR."""
    labels: Labels
    """In input pixels."""
    ignore_mask: np.ndarray | None
    """(S, S) bool, True where no loss is taken; None when there is no such region."""
    image_name: str
    """Of the picture the sample is named after, `<dataset>/<image id>`."""
    unreadable: tuple[str, ...]
    """Pictures that did not decode; their place is grey and they contribute no people."""


@dataclass(frozen=True, slots=True)
class _Around:
    """What the samples of one batch are made of."""

    partners: Sequence[int]
    """Samples whose pictures a mosaic may be joined of."""
    picture: Callable[[int], Picture]
    """What a sample shows."""
    unreadable: list[str]
    """Pictures that were read and did not decode."""


class TrainingSet:
    """The pictures of a store, and of those merged with it, as augmented samples."""

    def __init__(
        self,
        store: Store,
        input_size: int,
        augment: AugmentConfig,
        seed: int,
        merged: Sequence[MergedStore] = (),
        read_image: ReadImage = Store.read_image,
    ) -> None:
        """Keep what is needed to make samples of side `input_size`.

        Raises:
            ValueError: if a store has no person, or a merged one another skeleton.
        """
        self._mixture = Mixture(store, merged, seed)
        self.skeleton = store.skeleton
        self._augment = augment
        self._read_image = read_image
        self.input_size = input_size
        self.seed = seed

    def num_samples(self, epoch: int) -> int:
        """Samples of an epoch (0-based); it changes where a merged store leaves."""
        return self._mixture.num_samples(epoch)

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self.skeleton.num_keypoints

    def samples(self, epoch: int, indices: Sequence[int], pipeline: Pipeline) -> list[Sample]:
        """The samples of a batch, in order.

        Each is a function of the seed, the epoch and its index; where mosaics are made of the
        pictures of a batch (`MosaicConfig.partners`), of the batch's indices too.
        """
        around = self._around(epoch, indices)
        return [self._sample(epoch, index, pipeline, around) for index in indices]

    def _around(self, epoch: int, indices: Sequence[int]) -> _Around:
        unreadable: list[str] = []
        picture = partial(self._picture, epoch, unreadable=unreadable)
        if self._augment.mosaic.partners == "batch":
            # What several samples show is decoded once.
            return _Around(indices, cache(picture), unreadable)
        return _Around(range(self.num_samples(epoch)), picture, unreadable)

    def _sample(self, epoch: int, index: int, pipeline: Pipeline, around: _Around) -> Sample:
        rng = generator(Purpose.SAMPLE, self.seed, epoch, index)
        place = self._mixture.place(epoch, index)
        num_unreadable = len(around.unreadable)
        if pipeline == "mosaic":
            image, labels = self._mosaic(rng, index, around)
            mask = None
        else:
            image, labels, mask = self._letterbox(rng, place, around.picture(index))
        image = shift_hsv(image, draw_hsv(rng, self._augment.hsv))
        if rng.random() < self._augment.flip_prob:
            image = cv2.flip(image, 1)
            labels = mirror(labels, self.input_size, self.skeleton)
            mask = None if mask is None else np.ascontiguousarray(mask[:, ::-1])
        return Sample(
            image=image,
            labels=trainable(labels),
            ignore_mask=mask,
            image_name=_name(place),
            unreadable=tuple(around.unreadable[num_unreadable:]),
        )

    def _mosaic(
        self, rng: np.random.Generator, index: int, around: _Around
    ) -> tuple[np.ndarray, Labels]:
        """Stage 1 before colour and mirroring."""
        plan = draw_plan(rng, self._augment.mosaic, index, around.partners, self.input_size)
        image, labels = render_warped(plan, around.picture, self.skeleton, self.input_size)
        if plan.mixup is None:
            return image, labels
        other = around.picture(plan.mixup.picture)
        return blend(image, labels, plan.mixup, other, self.skeleton)

    def _letterbox(
        self, rng: np.random.Generator, place: Place, picture: Picture
    ) -> tuple[np.ndarray, Labels, np.ndarray | None]:
        """Stage 2 before colour and mirroring."""
        size = self.input_size
        matrix = draw_window_matrix(rng, self._augment.letterbox, picture.size_hw, size)
        pixels = picture.read()
        if pixels is None:
            grey = np.full((size, size, 3), PADDING_GREY, np.uint8)
            return grey, no_people(self.num_keypoints), None
        image = cv2.warpAffine(
            pixels,
            matrix,
            (size, size),
            flags=cv2.INTER_LINEAR,
            borderValue=(PADDING_GREY,) * 3,
        )
        labels = clip(warp(picture.labels, matrix), (size, size))
        return image, labels, _ignore_mask(place, matrix, size)

    def _picture(self, epoch: int, index: int, unreadable: list[str]) -> Picture:
        """What a sample shows; an unreadable picture is noted when it is read."""
        place = self._mixture.place(epoch, index)
        people = place.store.people(place.position)
        labels = Labels(
            boxes_xyxy=people.boxes_xyxy,
            keypoints_xy=people.keypoints[:, :, :2],
            is_labelled=np.minimum(people.keypoints[:, :, 2], 1),
            is_annotated=np.tile(place.store.is_annotated, (len(people), 1)),
            areas=people.areas,
        )
        read = partial(self._read, place, unreadable)
        return Picture(_size_hw(place), labels, read, self.input_size)

    def _read(self, place: Place, unreadable: list[str]) -> np.ndarray | None:
        try:
            return self._read_image(place.store, place.position)
        except StoreError:
            unreadable.append(_name(place))
            return None


def _ignore_mask(place: Place, matrix: np.ndarray, input_size: int) -> np.ndarray | None:
    store, position = place
    ignored = is_ignored(store.people(position))
    if not ignored.any():
        return None
    segmentations = store.segmentations(position)
    regions = [
        segmentation
        for segmentation, is_region in zip(segmentations, ignored, strict=True)
        if is_region and segmentation is not None
    ]
    mask = union_mask(regions, _size_hw(place))
    return warp_mask(mask, matrix, input_size) if regions else None


def _size_hw(place: Place) -> tuple[int, int]:
    height, width = place.store.sizes_hw[place.position].tolist()
    return height, width


def _name(place: Place) -> str:
    return f"{place.store.meta.dataset}/{place.store.image_ids[place.position]}"
