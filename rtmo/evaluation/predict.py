"""Run a predictor over a store and write down what it found, in COCO's result format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from rtmo.structures import Poses

if TYPE_CHECKING:
    from rtmo.store import Store

PIXEL_DECIMALS = 3
"""A thousandth of a pixel; keeps result files small and comparable."""
SCORE_DECIMALS = 6


def predict_store(
    predict: Callable[[list[np.ndarray]], Sequence[Poses]],
    store: Store,
    batch: int,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Detections for every image of the store, images in the store's order.

    Args:
        predict: BGR uint8 images of any sizes -> one `Poses` each, in original-image pixels.
        store: the images.
        batch: images per call of `predict`; the last call may get fewer.
        progress: called after each batch with (images done, images in all).

    Returns:
        A COCO result list: `image_id`, `category_id` 1, `keypoints` [x, y, score] * K, `score`,
        `bbox` (x, y, w, h).

    Raises:
        ValueError: if `predict` does not answer with one `Poses` per image.
    """
    detections: list[dict[str, Any]] = []
    for start in range(0, len(store), batch):
        rows = range(start, min(start + batch, len(store)))
        found = predict([store.read_image(row) for row in rows])
        if len(found) != len(rows):
            raise ValueError(f"the predictor gave {len(found)} results for {len(rows)} images")
        for row, poses in zip(rows, found, strict=True):
            detections.extend(coco_results(int(store.image_ids[row]), poses))
        progress(rows.stop, len(store))
    return detections


def predict_files(
    predict: Callable[[np.ndarray], Poses],
    images: Sequence[Mapping[str, Any]],
    folder: Path,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """Detections for the pictures that an annotation file lists, one picture at a time.

    EXIF orientations are ignored, as the annotations of COCO and CrowdPose ignore them.

    Args:
        predict: BGR uint8 image -> `Poses` in its pixels.
        images: the file's `images`: `id` and `file_name` of each.
        folder: where the pictures are.
        progress: called after each picture with (pictures done, pictures in all).

    Returns:
        A COCO result list, as of `predict_store`.

    Raises:
        FileNotFoundError: if a picture is missing or does not decode.
    """
    detections: list[dict[str, Any]] = []
    for done, image in enumerate(images, start=1):
        poses = predict(read_listed(image, folder))
        detections.extend(coco_results(int(image["id"]), poses))
        progress(done, len(images))
    return detections


def read_listed(image: Mapping[str, Any], folder: Path) -> np.ndarray:
    """A picture that an annotation file lists, as it lies in the file: EXIF is ignored.

    Raises:
        FileNotFoundError: if it is missing or does not decode.
    """
    path = folder / str(image["file_name"])
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise FileNotFoundError(f"image {image['id']}: there is no readable picture {path}")
    return pixels


def coco_results(image_id: int, poses: Poses) -> list[dict[str, Any]]:
    """The people of one image as entries of a COCO result list, best score first.

    Example:
        >>> poses = Poses(
        ...     boxes_xyxy=np.array([[1, 2, 11, 22]], np.float32),
        ...     scores=np.array([0.5], np.float32),
        ...     keypoints_xy=np.array([[[3, 4]]], np.float32),
        ...     keypoint_scores=np.array([[0.25]], np.float32),
        ... )
        >>> coco_results(7, poses)
        [{'image_id': 7, 'category_id': 1, 'keypoints': [3.0, 4.0, 0.25], 'score': 0.5,
          'bbox': [1.0, 2.0, 10.0, 20.0]}]
    """
    boxes = poses.boxes_xyxy.astype(np.float64)
    boxes_xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    keypoints = np.concatenate(
        [
            poses.keypoints_xy.astype(np.float64).round(PIXEL_DECIMALS),
            poses.keypoint_scores.astype(np.float64).round(SCORE_DECIMALS)[..., None],
        ],
        axis=2,
    )
    return [
        {
            "image_id": image_id,
            "category_id": 1,
            "keypoints": keypoints[row].ravel().tolist(),
            "score": round(float(poses.scores[row]), SCORE_DECIMALS),
            "bbox": boxes_xywh[row].round(PIXEL_DECIMALS).tolist(),
        }
        for row in range(len(poses))
    ]
