"""The array form of the matching against pycocotools, and its rules one by one."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.matching import candidates, match, split_ap
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

POINT = Skeleton(name="point", keypoints=("point",), flip_pairs=(), limbs=(), sigmas=(0.1,))


def matched(annotations, detections, skeleton, protocol, thresholds=None):
    truth = read_ground_truth(annotations, skeleton, protocol)
    found = read_detections(detections, truth, skeleton)
    beside = candidates(truth, found, np.array(skeleton.sigmas))
    if thresholds is None:
        return match(truth, found, beside)
    return match(truth, found, beside, np.array(thresholds))


def person(number, x, *, counted=True, crowd=False):
    return {
        "id": number,
        "image_id": 1,
        "category_id": 1,
        "keypoints": [x, 0.0, 2],
        "num_keypoints": int(counted),
        "area": 2500.0,
        "bbox": [x - 25, -25, 50, 50],
        "iscrowd": int(crowd),
    }


def detection(x, score):
    return {"image_id": 1, "category_id": 1, "keypoints": [x, 0.0, 1.0], "score": score}


def one_image(*people):
    return {"images": [{"id": 1}], "annotations": list(people)}


@pytest.mark.parametrize(
    ("name", "skeleton", "protocol"),
    [("coco", COCO17, "coco"), ("crowdpose", CROWDPOSE14, "crowdpose")],
)
def test_ap_and_ar_equal_pycocotools_on_the_golden_files(
    repository: Path, name, skeleton, protocol
):
    golden = repository / "tests" / "golden"
    annotations = json.loads((golden / f"eval_{name}_gt.json").read_text())
    detections = json.loads((golden / f"eval_{name}_dt.json").read_text())
    matches = matched(annotations, detections, skeleton, protocol)
    official = evaluate_keypoints(annotations, detections, skeleton=skeleton, protocol=protocol)
    assert split_ap(matches) == pytest.approx(official.metrics["AP"], abs=1e-12)
    recall = matches.is_hit.sum(axis=1).mean() / matches.people_per_image.sum()
    assert recall == pytest.approx(official.metrics["AR"], abs=1e-12)


def test_ap_equals_pycocotools_on_val2017(shared: Path):
    scale = shared / "real" / "scale"
    annotations, detections = (
        json.loads(gzip.decompress((scale / name).read_bytes()))
        for name in ("coco_val2017_keypoints.json.gz", "detections_val2017.json.gz")
    )
    expected = json.loads((scale / "expected_stats.json").read_text())["stats"]
    matches = matched(annotations, detections, COCO17, "coco")
    assert split_ap(matches) == pytest.approx(expected[0], abs=1e-12)


def test_the_best_score_chooses_first_and_takes_the_nearest_person():
    matches = matched(
        one_image(person(1, 0.0), person(2, 10.0)),
        [detection(4.0, 0.5), detection(3.0, 0.9)],
        POINT,
        "coco",
        [0.1],
    )
    assert matches.detections.tolist() == [1, 0]
    assert matches.person.tolist() == [[0, 1]]


def test_of_two_equally_near_people_the_later_one_is_taken():
    matches = matched(
        one_image(person(1, -5.0), person(2, 5.0)), [detection(0.0, 0.9)], POINT, "coco", [0.1]
    )
    assert matches.person.tolist() == [[1]]


def test_a_person_who_counts_is_preferred_to_a_nearer_one_who_does_not():
    near_but_ignored = {**person(1, 1.0), "num_keypoints": 0}
    matches = matched(
        one_image(near_but_ignored, person(2, 5.0)), [detection(0.0, 0.9)], POINT, "coco", [0.5]
    )
    assert matches.person.tolist() == [[1]]
    assert not matches.is_ignored.any()


def test_a_crowd_region_takes_any_number_of_detections_and_none_counts():
    matches = matched(
        one_image(person(1, 0.0, crowd=True), person(2, 500.0)),
        [detection(0.0, 0.9), detection(1.0, 0.8)],
        POINT,
        "coco",
        [0.5],
    )
    assert matches.is_ignored.tolist() == [[True, True]]
    assert not matches.is_false.any()


def test_a_second_detection_of_a_found_person_is_false():
    matches = matched(
        one_image(person(1, 0.0)), [detection(0.0, 0.9), detection(1.0, 0.8)], POINT, "coco", [0.5]
    )
    assert matches.is_hit.tolist() == [[True, False]]
    assert matches.is_false.tolist() == [[False, True]]


def test_only_the_twenty_best_detections_of_an_image_count():
    many = [detection(0.0, score / 100) for score in range(30)]
    matches = matched(one_image(person(1, 0.0)), many, POINT, "coco")
    assert matches.detections.tolist() == list(range(29, 9, -1))


def test_no_detection_at_all_gives_ap_zero():
    assert split_ap(matched(one_image(person(1, 0.0)), [], POINT, "coco")) == 0.0
