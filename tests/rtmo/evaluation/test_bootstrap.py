"""Resampling images: intervals that hold what they should, and the paired comparison."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest

from rtmo.evaluation.bootstrap import (
    _metrics,
    _score,
    metric_intervals,
    paired_differences,
)
from rtmo.evaluation.inputs import read_ground_truth
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.skeleton import COCO17, CROWDPOSE14

COCO = {"skeleton": COCO17, "protocol": "coco"}
CROWDPOSE = {"skeleton": CROWDPOSE14, "protocol": "crowdpose"}


@pytest.fixture(scope="module")
def coco(repository: Path):
    golden = repository / "tests" / "golden"
    return tuple(
        json.loads((golden / f"eval_coco_{kind}.json").read_text()) for kind in ("gt", "dt")
    )


@pytest.fixture(scope="module")
def crowdpose(repository: Path):
    golden = repository / "tests" / "golden"
    return tuple(
        json.loads((golden / f"eval_crowdpose_{kind}.json").read_text()) for kind in ("gt", "dt")
    )


def worsened(detections, pixels):
    """The same detections with every keypoint moved to the right."""
    moved = copy.deepcopy(detections)
    for row in moved:
        row["keypoints"][0::3] = [x + pixels for x in row["keypoints"][0::3]]
    return moved


def test_a_resampled_split_scores_as_pycocotools_scores_its_copies(coco):
    """A sample that holds an image three times equals a split in which it was copied twice."""
    annotations, detections = copy.deepcopy(coco)
    first = annotations["images"][0]["id"]
    for copy_number in (1, 2):
        new_id = 900_000 + copy_number
        annotations["images"].append({**annotations["images"][0], "id": new_id})
        annotations["annotations"] += [
            {**row, "id": row["id"] + new_id * 10, "image_id": new_id}
            for row in coco[0]["annotations"]
            if row["image_id"] == first
        ]
        detections += [{**row, "image_id": new_id} for row in coco[1] if row["image_id"] == first]
    official = evaluate_keypoints(annotations, detections, **COCO).metrics["AP"]

    truth = read_ground_truth(coco[0], COCO17, "coco")
    weights = np.ones(len(truth.image_ids))
    weights[np.flatnonzero(truth.image_ids == first)] = 3
    ap, _ = _metrics(_score(truth, coco[1], COCO17), truth, weights)
    assert ap == pytest.approx(official, abs=1e-3)  # copies tie in score; the order of ties differs


def test_the_value_is_the_official_metric_and_lies_in_its_interval(crowdpose):
    intervals = metric_intervals(*crowdpose, **CROWDPOSE, seed=1, samples=200)
    official = evaluate_keypoints(*crowdpose, **CROWDPOSE).metrics
    assert list(intervals) == ["AP", "AR", "AP_easy", "AP_medium", "AP_hard"]
    for name, interval in intervals.items():
        assert interval.value == pytest.approx(official[name], abs=1e-4)
        assert interval.low < interval.value < interval.high


def test_a_model_compared_with_itself_differs_by_exactly_nothing(coco):
    difference = paired_differences(coco[0], coco[1], coco[1], **COCO, seed=1, samples=50)["AP"]
    assert (difference.value, difference.low, difference.high) == (0.0, 0.0, 0.0)
    assert difference.share_a_better == 0.0


def test_a_clearly_worse_model_is_told_apart_and_the_sign_says_which(coco):
    bad = worsened(coco[1], 6.0)
    better = paired_differences(coco[0], coco[1], bad, **COCO, seed=1, samples=300)["AP"]
    assert 0 < better.low < better.value < better.high
    worse = paired_differences(coco[0], bad, coco[1], **COCO, seed=1, samples=300)["AP"]
    assert worse.mean == pytest.approx(-better.mean)
    assert worse.high == pytest.approx(-better.low)


def test_pairing_narrows_the_interval_of_a_small_change(coco):
    slightly = worsened(coco[1], 0.5)
    paired = paired_differences(coco[0], coco[1], slightly, **COCO, seed=1, samples=300)["AP"]
    alone = metric_intervals(*coco, **COCO, seed=1, samples=300)["AP"]
    assert paired.high - paired.low < 0.5 * (alone.high - alone.low)


def test_the_same_seed_gives_the_same_numbers(coco):
    first, again, other = (
        metric_intervals(*coco, **COCO, seed=seed, samples=30) for seed in (3, 3, 4)
    )
    assert first == again
    assert first != other


def test_an_empty_model_against_a_real_one_loses_in_every_metric(crowdpose):
    differences = paired_differences(*crowdpose, [], **CROWDPOSE, seed=1, samples=50)
    assert all(difference.low >= 0 for difference in differences.values())
    assert differences["AP"].share_a_better == 1.0


def test_one_image_cannot_be_resampled(coco):
    annotations = copy.deepcopy(coco[0])
    keep = next(row["image_id"] for row in annotations["annotations"] if row["num_keypoints"])
    annotations["images"] = [row for row in annotations["images"] if row["id"] == keep]
    annotations["annotations"] = [
        row for row in annotations["annotations"] if row["image_id"] == keep
    ]
    with pytest.raises(ValueError, match="has 1 image; resampling images needs two"):
        metric_intervals(annotations, [], **COCO, seed=1, samples=10)
