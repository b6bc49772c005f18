"""Training samples: each is a pure function of (seed, epoch, index). No torch.

Source: SPEC section 5.5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
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


class TrainingSet:
    """The pictures of a store, and of those merged with it, as augmented samples."""

    def __init__(
        self,
        store: Store,
        input_size: int,
        augment: AugmentConfig,
        seed: int,
        merged: Sequence[MergedStore] = (),
    ) -> None:
        """Keep what is needed to make samples of side `input_size`.

        Raises:
            ValueError: if a store has no person, or a merged one another skeleton.
        """
        self._mixture = Mixture(store, merged, seed)
        self.skeleton = store.skeleton
        self._augment = augment
        self.input_size = input_size
        self.seed = seed

    def num_samples(self, epoch: int) -> int:
        """Samples of an epoch (0-based); it changes where a merged store leaves."""
        return self._mixture.num_samples(epoch)

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self.skeleton.num_keypoints

    def sample(self, epoch: int, index: int, pipeline: Pipeline) -> Sample:
        """Sample `index` of an epoch; the same three numbers and the seed give the same arrays."""
        rng = generator(Purpose.SAMPLE, self.seed, epoch, index)
        unreadable: list[str] = []
        place = self._mixture.place(epoch, index)
        if pipeline == "mosaic":
            image, labels = self._mosaic(rng, epoch, index, unreadable)
            mask = None
        else:
            image, labels, mask = self._letterbox(rng, place, unreadable)
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
            unreadable=tuple(unreadable),
        )

    def _mosaic(
        self, rng: np.random.Generator, epoch: int, index: int, unreadable: list[str]
    ) -> tuple[np.ndarray, Labels]:
        """Stage 1 before colour and mirroring."""
        count = self.num_samples(epoch)
        plan = draw_plan(rng, self._augment.mosaic, index, count, self.input_size)
        pictures = partial(self._picture, epoch, unreadable=unreadable)
        image, labels = render_warped(plan, pictures, self.skeleton, self.input_size)
        if plan.mixup is None:
            return image, labels
        return blend(image, labels, plan.mixup, pictures(plan.mixup.picture), self.skeleton)

    def _letterbox(
        self, rng: np.random.Generator, place: Place, unreadable: list[str]
    ) -> tuple[np.ndarray, Labels, np.ndarray | None]:
        """Stage 2 before colour and mirroring."""
        picture = _picture(place, unreadable)
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
        return _picture(self._mixture.place(epoch, index), unreadable)


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


def _picture(place: Place, unreadable: list[str]) -> Picture:
    """One picture of a store; an unreadable one is noted when it is read."""
    store, position = place
    people = store.people(position)
    labels = Labels(
        boxes_xyxy=people.boxes_xyxy,
        keypoints_xy=people.keypoints[:, :, :2],
        is_labelled=np.minimum(people.keypoints[:, :, 2], 1),
        is_annotated=np.tile(store.is_annotated, (len(people), 1)),
        areas=people.areas,
    )
    return Picture(_size_hw(place), labels, partial(_read, place, unreadable))


def _size_hw(place: Place) -> tuple[int, int]:
    height, width = place.store.sizes_hw[place.position].tolist()
    return height, width


def _read(place: Place, unreadable: list[str]) -> np.ndarray | None:
    try:
        return place.store.read_image(place.position)
    except StoreError:
        unreadable.append(_name(place))
        return None


def _name(place: Place) -> str:
    return f"{place.store.meta.dataset}/{place.store.image_ids[place.position]}"
