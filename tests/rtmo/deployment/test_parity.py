"""The comparison of two runtimes."""

import numpy as np
import pytest

from rtmo.deployment.framing import Framing
from rtmo.deployment.parity import match_people, parity
from rtmo.deployment.postprocess import Floats, InputPeople
from rtmo.deployment.runners import Predictor
from rtmo.skeleton import COCO17


def people(corners: list[float], shift: float = 0.0) -> InputPeople:
    start = np.array(corners, np.float32)[:, None] + np.zeros((1, 2), np.float32)
    return InputPeople(
        boxes_xyxy=np.concatenate([start, start + 20], axis=1),
        scores=np.linspace(0.9, 0.5, len(corners), dtype=np.float32),
        keypoints_xy=np.repeat(start[:, None] + np.float32(shift), 17, axis=1),
        keypoint_scores=np.full((len(corners), 17), 0.5, np.float32),
    )


class Fixed(Predictor):
    """Finds the same people in every picture."""

    def __init__(self, found: InputPeople, size: int = 64) -> None:
        super().__init__(COCO17, Framing(size))
        self.found = found

    def infer(self, pixels: Floats) -> list[InputPeople]:
        return [self.found for _ in pixels]


PICTURE = np.zeros((48, 64, 3), np.uint8)


def test_equal_predictors_differ_by_nothing():
    predictor = Fixed(people([0, 30]))
    report = parity(predictor, predictor, [PICTURE] * 3, batch=2)
    assert (report.images, report.people_reference, report.people_matched) == (3, 6, 6)
    assert report.keypoint_px_max == report.box_px_max == report.score_max == 0
    assert report.unmatched_share == 0


def test_a_shift_of_the_keypoints_is_measured_in_pixels():
    report = parity(Fixed(people([0, 30])), Fixed(people([0, 30], shift=3.0)), [PICTURE])
    assert report.keypoint_px_median == pytest.approx(3 * np.sqrt(2))
    assert report.keypoint_px_p99 == pytest.approx(3 * np.sqrt(2))


def test_people_that_only_one_finds_are_counted():
    report = parity(Fixed(people([0, 30])), Fixed(people([30])), [PICTURE])
    assert (report.people_reference, report.people_candidate, report.people_matched) == (2, 1, 1)
    assert report.unmatched_share == pytest.approx(1 / 3)


def test_nobody_anywhere_is_no_difference():
    nobody = people([0])[np.zeros(0, np.intp)]
    report = parity(Fixed(nobody), Fixed(nobody), [PICTURE])
    assert report.people_matched == 0
    assert report.unmatched_share == 0
    assert report.keypoint_px_max == 0


def test_everybody_is_matched_at_most_once():
    rows, columns = match_people(people([0, 1]), people([0]))
    assert (rows.tolist(), columns.tolist()) == ([0], [0])


def test_predictors_with_other_inputs_are_not_compared():
    with pytest.raises(ValueError, match="cannot be compared"):
        parity(Fixed(people([0])), Fixed(people([0]), size=96), [PICTURE])
