"""Prediction over a store, with a store of three plain images."""

from dataclasses import dataclass

import numpy as np
import pytest

from rtmo.evaluation.predict import coco_results, predict_store
from rtmo.structures import Poses


@dataclass
class ThreeImages:
    """The part of a store that prediction reads."""

    image_ids = np.array([5, 7, 11])

    def __len__(self) -> int:
        return 3

    def read_image(self, index: int) -> np.ndarray:
        return np.full((4, 6, 3), index, np.uint8)


def poses(count: int, x: float) -> Poses:
    return Poses(
        boxes_xyxy=np.tile(np.array([[x, 0, x + 4, 8]], np.float32), (count, 1)),
        scores=np.full(count, 0.5, np.float32),
        keypoints_xy=np.full((count, 2, 2), x, np.float32),
        keypoint_scores=np.full((count, 2), 0.25, np.float32),
    )


def test_every_image_is_predicted_once_in_batches_and_progress_is_told():
    seen, told = [], []

    def predict(images):
        seen.append([int(image[0, 0, 0]) for image in images])
        return [poses(int(image[0, 0, 0]), 1.0) for image in images]

    found = predict_store(
        predict, ThreeImages(), batch=2, progress=lambda done, total: told.append((done, total))
    )
    assert seen == [[0, 1], [2]]
    assert told == [(2, 3), (3, 3)]
    assert [row["image_id"] for row in found] == [7, 11, 11]


def test_a_result_has_coco_form():
    assert coco_results(5, poses(1, 0.12345)) == [
        {
            "image_id": 5,
            "category_id": 1,
            "keypoints": [0.123, 0.123, 0.25, 0.123, 0.123, 0.25],
            "score": 0.5,
            "bbox": [0.123, 0.0, 4.0, 8.0],
        }
    ]


def test_no_people_give_no_rows():
    assert coco_results(5, poses(0, 0.0)) == []


def test_a_predictor_that_loses_images_is_an_error():
    with pytest.raises(ValueError, match="1 results for 2 images"):
        predict_store(lambda images: [poses(1, 0.0)][: len(images)], ThreeImages(), 2, print)
