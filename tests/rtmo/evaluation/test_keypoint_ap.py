"""Agreement with the official evaluations, and what happens to input that is not right."""

import copy
import gzip
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from rtmo.evaluation.config import Evaluator
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.skeleton import COCO17, CROWDPOSE14


@pytest.fixture(scope="module")
def golden(repository: Path) -> Path:
    return repository / "tests" / "golden"


def read(path: Path):
    return json.loads(path.read_text())


@pytest.fixture(scope="module")
def coco(golden: Path):
    return read(golden / "eval_coco_gt.json"), read(golden / "eval_coco_dt.json")


EVALUATORS = pytest.mark.parametrize("evaluator", get_args(Evaluator))


@EVALUATORS
def test_coco_numbers_equal_pycocotools_to_the_last_digit(golden: Path, coco, evaluator):
    report = evaluate_keypoints(*coco, skeleton=COCO17, protocol="coco", evaluator=evaluator)
    assert report.metrics == read(golden / "eval_expected.json")["coco_pycocotools"]


@EVALUATORS
def test_crowdpose_numbers_equal_the_official_evaluation_to_the_last_digit(golden, evaluator):
    report = evaluate_keypoints(
        read(golden / "eval_crowdpose_gt.json"),
        read(golden / "eval_crowdpose_dt.json"),
        skeleton=CROWDPOSE14,
        protocol="crowdpose",
        evaluator=evaluator,
    )
    assert report.metrics == read(golden / "eval_expected.json")["crowdpose_xtcocotools"]


@EVALUATORS
def test_val2017_with_real_detections_gives_the_known_ten_numbers(shared: Path, evaluator):
    scale = shared / "real" / "scale"
    annotations = json.loads(
        gzip.decompress((scale / "coco_val2017_keypoints.json.gz").read_bytes())
    )
    detections = json.loads(gzip.decompress((scale / "detections_val2017.json.gz").read_bytes()))
    report = evaluate_keypoints(
        annotations, detections, skeleton=COCO17, protocol="coco", evaluator=evaluator
    )
    assert list(report.metrics.values()) == read(scale / "expected_stats.json")["stats"]
    assert report.num_images == 2693
    assert report.num_detections == 25963


def test_the_input_is_left_as_it_was(coco):
    before = copy.deepcopy(coco)
    evaluate_keypoints(*coco, skeleton=COCO17, protocol="coco")
    assert coco == before


def test_ground_truth_as_detections_is_perfect(coco):
    annotations, _ = coco
    detections = [
        {
            "image_id": person["image_id"],
            "category_id": 1,
            "keypoints": person["keypoints"],
            "bbox": person["bbox"],
            "score": 0.5,
        }
        for person in annotations["annotations"]
        if person["num_keypoints"] and not person["iscrowd"]
    ]
    few = {
        image["id"]
        for image in annotations["images"]
        if sum(person["image_id"] == image["id"] for person in detections) <= 20
    }
    annotations = {
        "images": [image for image in annotations["images"] if image["id"] in few],
        "annotations": [row for row in annotations["annotations"] if row["image_id"] in few],
    }
    detections = [row for row in detections if row["image_id"] in few]
    report = evaluate_keypoints(annotations, detections, skeleton=COCO17, protocol="coco")
    assert report.metrics["AP"] == pytest.approx(1.0)
    assert report.metrics["AR"] == 1.0
    assert all(
        quality.mean_similarity == 1.0 for quality in report.per_keypoint if quality.num_labelled
    )


def test_no_detections_score_zero(coco):
    report = evaluate_keypoints(coco[0], [], skeleton=COCO17, protocol="coco")
    assert report.metrics == dict.fromkeys(report.metrics, 0.0)
    assert report.num_detections == 0
    assert len(report.matched_oks) == 0


def test_results_without_boxes_take_the_extent_of_the_keypoints(coco):
    annotations, detections = coco
    bare = [{key: row[key] for key in row if key != "bbox"} for row in detections]
    report = evaluate_keypoints(annotations, bare, skeleton=COCO17, protocol="coco")
    full = evaluate_keypoints(annotations, detections, skeleton=COCO17, protocol="coco")
    assert report.metrics["AP"] == full.metrics["AP"]  # boxes decide only in APM and APL


def changed(detections, **fields):
    return [{**detections[0], **fields}, *detections[1:]]


def test_a_detection_of_an_unknown_image_is_an_error_that_names_it(coco):
    with pytest.raises(ValueError, match=r"1 of 156 detections are of 1 images .*\[999999\]"):
        evaluate_keypoints(
            coco[0], changed(coco[1], image_id=999999), skeleton=COCO17, protocol="coco"
        )


def test_another_skeleton_is_an_error_that_gives_both_counts(coco):
    with pytest.raises(ValueError, match="has 17 keypoints, skeleton 'crowdpose14' has 14"):
        evaluate_keypoints(*coco, skeleton=CROWDPOSE14, protocol="coco")


@pytest.mark.parametrize("field", ["keypoints", "bbox"])
def test_a_nan_is_an_error(coco, field):
    values = list(coco[1][0][field])
    values[1] = float("nan")
    with pytest.raises(ValueError, match=f"detection 0 .*{field} holds NaN"):
        evaluate_keypoints(
            coco[0], changed(coco[1], **{field: values}), skeleton=COCO17, protocol="coco"
        )


def test_a_score_that_is_no_number_is_an_error(coco):
    with pytest.raises(ValueError, match="detection 0 has score nan"):
        evaluate_keypoints(
            coco[0], changed(coco[1], score=float("nan")), skeleton=COCO17, protocol="coco"
        )


def test_boxes_on_some_detections_only_are_an_error(coco):
    first = {key: value for key, value in coco[1][0].items() if key != "bbox"}
    with pytest.raises(ValueError, match="155 of 156 detections have a bbox"):
        evaluate_keypoints(coco[0], [first, *coco[1][1:]], skeleton=COCO17, protocol="coco")


def test_annotations_in_which_nobody_counts_are_an_error(coco):
    annotations = copy.deepcopy(coco[0])
    for person in annotations["annotations"]:
        person["num_keypoints"] = 0
    with pytest.raises(ValueError, match=r"none of the 127 annotated people .* can be scored"):
        evaluate_keypoints(annotations, coco[1], skeleton=COCO17, protocol="coco")


def test_annotations_without_area_are_an_error_under_cocos_protocol(coco):
    annotations = copy.deepcopy(coco[0])
    del annotations["annotations"][3]["area"]
    with pytest.raises(ValueError, match=r"annotation \d+ has no 'area'"):
        evaluate_keypoints(annotations, coco[1], skeleton=COCO17, protocol="coco")


def test_crowdpose_needs_the_crowd_index(coco):
    with pytest.raises(ValueError, match="CrowdPose image 1000 has no 'crowdIndex'"):
        evaluate_keypoints(*coco, skeleton=COCO17, protocol="crowdpose")


def test_a_file_in_another_layout_is_an_error(coco):
    with pytest.raises(ValueError, match="no list 'images'"):
        evaluate_keypoints({"data": []}, coco[1], skeleton=COCO17, protocol="coco")


def test_an_empty_crowd_level_is_reported_as_minus_one_like_the_official_script(golden: Path):
    annotations = read(golden / "eval_crowdpose_gt.json")
    for image in annotations["images"]:
        image["crowdIndex"] = 0.1
    report = evaluate_keypoints(
        annotations,
        read(golden / "eval_crowdpose_dt.json"),
        skeleton=CROWDPOSE14,
        protocol="crowdpose",
    )
    assert report.metrics["AP_hard"] == -1.0
    assert report.metrics["AP_easy"] == pytest.approx(report.metrics["AP"], abs=1e-4)


def test_the_precision_curve_averages_to_ap(coco):
    report = evaluate_keypoints(*coco, skeleton=COCO17, protocol="coco")
    assert report.precision.shape == (len(report.oks_thresholds), len(report.recall_levels))
    assert np.mean(report.precision) == report.metrics["AP"]
