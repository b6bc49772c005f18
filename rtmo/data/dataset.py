"""Training samples: each is a pure function of (seed, epoch, index). No torch.

Source: SPEC section 5.5.
"""

from __future__ import annotations

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
    image_id: int
    """Of the picture the sample is named after."""
    unreadable_ids: tuple[int, ...]
    """Pictures that did not decode; their place is grey and they contribute no people."""


class TrainingSet:
    """The pictures of a store that have annotations, as augmented samples."""

    def __init__(self, store: Store, input_size: int, augment: AugmentConfig, seed: int) -> None:
        """Keep what is needed to make samples of side `input_size`.

        Raises:
            ValueError: if no picture of the store has a person.
        """
        # Pictures without annotations are left out of training, as in the reference.
        self._pictures = np.flatnonzero(store.people_per_image)
        if not len(self._pictures):
            raise ValueError(
                f"{store.folder} has {len(store)} pictures and no annotated person: nothing to "
                "train on; look at the convert stage's report"
            )
        self._store = store
        self._augment = augment
        self.input_size = input_size
        self.seed = seed

    def __len__(self) -> int:
        return len(self._pictures)

    @property
    def num_keypoints(self) -> int:
        """K."""
        return self._store.skeleton.num_keypoints

    def sample(self, epoch: int, index: int, pipeline: Pipeline) -> Sample:
        """Sample `index` of an epoch; the same three numbers and the seed give the same arrays."""
        rng = generator(Purpose.SAMPLE, self.seed, epoch, index)
        unreadable: list[int] = []
        if pipeline == "mosaic":
            image, labels = self._mosaic(rng, index, unreadable)
            mask = None
        else:
            image, labels, mask = self._letterbox(rng, index, unreadable)
        image = shift_hsv(image, draw_hsv(rng, self._augment.hsv))
        if rng.random() < self._augment.flip_prob:
            image = cv2.flip(image, 1)
            labels = mirror(labels, self.input_size, self._store.skeleton)
            mask = None if mask is None else np.ascontiguousarray(mask[:, ::-1])
        return Sample(
            image=image,
            labels=trainable(labels),
            ignore_mask=mask,
            image_id=int(self._store.image_ids[self._pictures[index]]),
            unreadable_ids=tuple(unreadable),
        )

    def _mosaic(
        self, rng: np.random.Generator, index: int, unreadable: list[int]
    ) -> tuple[np.ndarray, Labels]:
        """Stage 1 before colour and mirroring."""
        plan = draw_plan(rng, self._augment.mosaic, index, len(self), self.input_size)
        pictures = partial(self._picture, unreadable=unreadable)
        skeleton = self._store.skeleton
        image, labels = render_warped(plan, pictures, skeleton, self.input_size)
        if plan.mixup is None:
            return image, labels
        return blend(image, labels, plan.mixup, pictures(plan.mixup.picture), skeleton)

    def _letterbox(
        self, rng: np.random.Generator, index: int, unreadable: list[int]
    ) -> tuple[np.ndarray, Labels, np.ndarray | None]:
        """Stage 2 before colour and mirroring."""
        picture = self._picture(index, unreadable)
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
        return image, labels, self._ignore_mask(index, matrix)

    def _ignore_mask(self, index: int, matrix: np.ndarray) -> np.ndarray | None:
        position = int(self._pictures[index])
        ignored = is_ignored(self._store.people(position))
        if not ignored.any():
            return None
        segmentations = self._store.segmentations(position)
        regions = [
            segmentation
            for segmentation, is_region in zip(segmentations, ignored, strict=True)
            if is_region and segmentation is not None
        ]
        mask = union_mask(regions, self._size_hw(position))
        return warp_mask(mask, matrix, self.input_size) if regions else None

    def _picture(self, index: int, unreadable: list[int]) -> Picture:
        """One picture of the dataset; an unreadable one is noted when it is read."""
        position = int(self._pictures[index])
        people = self._store.people(position)
        labels = Labels(
            boxes_xyxy=people.boxes_xyxy,
            keypoints_xy=people.keypoints[:, :, :2],
            is_labelled=np.minimum(people.keypoints[:, :, 2], 1),
            areas=people.areas,
        )
        return Picture(self._size_hw(position), labels, partial(self._read, position, unreadable))

    def _size_hw(self, position: int) -> tuple[int, int]:
        height, width = self._store.sizes_hw[position].tolist()
        return height, width

    def _read(self, position: int, unreadable: list[int]) -> np.ndarray | None:
        try:
            return self._store.read_image(position)
        except StoreError:
            unreadable.append(int(self._store.image_ids[position]))
            return None
