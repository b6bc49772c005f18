"""Which pixels of a picture hold people that nobody labelled: no loss is taken there in stage 2.

Source: SPEC section 5.5; mmpose BaseCocoStyleDataset._is_valid_instance, BottomupGetHeatmapMask.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from rtmo.formats.records import Segmentation
from rtmo.formats.segmentation import write_segmentation
from rtmo.store import People


def is_ignored(people: People) -> np.ndarray:
    """(G,) bool: crowd regions and people without keypoints or without a box."""
    sides = people.boxes_xyxy[:, 2:] - people.boxes_xyxy[:, :2]
    coordinates = people.keypoints[:, :, :2].reshape(len(people), -1)
    ignored: np.ndarray = people.is_crowd | (people.num_keypoints == 0)
    ignored |= (sides <= 0).any(axis=1)
    ignored |= coordinates.max(axis=1, initial=0) <= 0
    return ignored


def union_mask(segmentations: list[Segmentation], size_hw: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8, 1 inside any of the segmentations of a picture."""
    height, width = size_hw
    encoded: list[Any] = []
    for segmentation in segmentations:
        runs = coco_mask.frPyObjects(write_segmentation(segmentation), height, width)
        encoded.extend(runs if isinstance(runs, list) else [runs])
    if not encoded:
        return np.zeros(size_hw, np.uint8)
    mask: np.ndarray = coco_mask.decode(coco_mask.merge(encoded))
    return mask


def warp_mask(mask: np.ndarray, matrix: np.ndarray, input_size: int) -> np.ndarray:
    """(S, S) bool: the mask under the picture's own affine map, linear, cut at one half."""
    warped = cv2.warpAffine(
        mask.astype(np.float32), matrix, (input_size, input_size), flags=cv2.INTER_LINEAR
    )
    inside: np.ndarray = warped > 0.5
    return inside
