"""Planted errors are named as what they are, and correcting them gains what they cost."""

import json
from pathlib import Path

import numpy as np
import pytest

from rtmo.evaluation.impact import STEPS, impact
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.taxonomy import DetectionKind, KeypointError, classify
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

HAND = Skeleton(
    name="hand5",
    keypoints=("palm", "left_tip", "right_tip", "left_base", "right_base"),
    flip_pairs=((1, 2), (3, 4)),
    limbs=((0, 3), (0, 4), (3, 1), (4, 2)),
    sigmas=(0.05, 0.03, 0.03, 0.06, 0.06),
)
SKELETONS = pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14, HAND], ids=lambda s: s.name)

SIDE = 400.0
"""Box side of every planted person, px."""
AREA = 0.5 * SIDE**2
PEOPLE_PER_IMAGE = 3
PLANTABLE = (
    KeypointError.GOOD,
    KeypointError.JITTER,
    KeypointError.INVERSION,
    KeypointError.SWAP,
    KeypointError.MISS,
)


def grid(skeleton):
    """(K, 2) places spread evenly over the box, so that no two body parts are near each other."""
    columns = int(np.ceil(np.sqrt(skeleton.num_keypoints)))
    index = np.arange(skeleton.num_keypoints)
    return np.stack([index % columns, index // columns], axis=1) * SIDE / columns


def people(skeleton, num_images):
    """(I, 3, K, 2) true places of three people side by side per image."""
    origin = np.arange(PEOPLE_PER_IMAGE)[None, :, None, None] * np.array([2 * SIDE, 0.0])
    return np.tile(origin + grid(skeleton), (num_images, 1, 1, 1))


def annotation_file(true):
    annotations = [
        {
            "id": 1 + PEOPLE_PER_IMAGE * image + place,
            "image_id": image + 1,
            "category_id": 1,
            "keypoints": np.insert(points, 2, 2, axis=1).ravel().tolist(),
            "num_keypoints": len(points),
            "area": AREA,
            "bbox": [*points.min(axis=0), SIDE, SIDE],
            "iscrowd": 0,
        }
        for image, row in enumerate(true)
        for place, points in enumerate(row)
    ]
    return {"images": [{"id": i + 1} for i in range(len(true))], "annotations": annotations}


def result_list(points, scores):
    """Points (I, N, K, 2) with scores (I, N)."""
    return [
        {
            "image_id": image + 1,
            "category_id": 1,
            "keypoints": np.insert(one, 2, 1.0, axis=1).ravel().tolist(),
            "score": float(score),
        }
        for image, (row, row_scores) in enumerate(zip(points, scores, strict=True))
        for one, score in zip(row, row_scores, strict=True)
    ]


def planted(true, errors, skeleton, generator):
    """Each keypoint (I, 3, K) moved as its error says."""
    mirror = np.array(skeleton.flip_permutation)
    # Distance at which the similarity is s: sqrt(-2 ln s) * 2 * sigma * sqrt(area).
    reach = 2 * np.array(skeleton.sigmas) * np.sqrt(AREA)
    good = np.sqrt(-2 * np.log(generator.uniform(0.86, 1.0, errors.shape))) * reach
    jitter = np.sqrt(-2 * np.log(generator.uniform(0.51, 0.84, errors.shape))) * reach
    angle = generator.uniform(0, 2 * np.pi, errors.shape)
    direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    neighbour = np.roll(true, 1, axis=1)
    places = {
        KeypointError.GOOD: true + good[..., None] * direction,
        KeypointError.JITTER: true + jitter[..., None] * direction,
        KeypointError.INVERSION: true[:, :, mirror],
        KeypointError.SWAP: neighbour,
        KeypointError.MISS: true + np.array([0.0, 20 * SIDE]),
    }
    points = true.copy()
    for error, place in places.items():
        points[errors == error] = place[errors == error]
    return points


def random_errors(skeleton, num_images, generator):
    """(I, 3, K): mostly good, so that each detection still is about its person."""
    shape = (num_images, PEOPLE_PER_IMAGE, skeleton.num_keypoints)
    errors = generator.choice(PLANTABLE, size=shape, p=[0.6, 0.1, 0.1, 0.1, 0.1])
    unpaired = np.array(skeleton.flip_permutation) == np.arange(skeleton.num_keypoints)
    errors[..., unpaired] = np.where(
        errors[..., unpaired] == KeypointError.INVERSION, KeypointError.GOOD, errors[..., unpaired]
    )
    return errors


def classified(annotations, detections, skeleton):
    truth = read_ground_truth(annotations, skeleton, "coco")
    found = read_detections(detections, truth, skeleton)
    return truth, found, classify(truth, found, skeleton)


@SKELETONS
def test_planted_keypoint_errors_come_back_as_planted(skeleton):
    generator = np.random.default_rng(0)
    true = people(skeleton, 60)
    errors = random_errors(skeleton, 60, generator)
    points = planted(true, errors, skeleton, generator)
    scores = np.tile([0.9, 0.8, 0.7], (60, 1))
    _, _, result = classified(annotation_file(true), result_list(points, scores), skeleton)

    named = np.full(errors.shape, KeypointError.UNLABELLED)
    is_found = result.kind == DetectionKind.FOUND
    rows = result.detections[is_found]
    named.reshape(-1, skeleton.num_keypoints)[rows] = result.keypoints[is_found]
    same_person = np.zeros(errors.shape[:2], dtype=bool)
    same_person.ravel()[rows] = result.person[is_found] == rows
    assert same_person.mean() > 0.9  # the rest were planted beyond recognition
    confusion = np.zeros((6, 6), dtype=int)
    np.add.at(confusion, (errors[same_person].ravel(), named[same_person].ravel()), 1)
    assert (confusion.sum(axis=1)[:5] > 40).all()
    recalled = np.diag(confusion)[:5] / confusion.sum(axis=1)[:5]
    assert (recalled > 0.98).all(), confusion


@SKELETONS
def test_correcting_everything_ends_at_ap_one_and_never_loses(skeleton):
    generator = np.random.default_rng(1)
    true = people(skeleton, 20)
    points = planted(true, random_errors(skeleton, 20, generator), skeleton, generator)
    everywhere = np.full((20, 1, skeleton.num_keypoints, 2), -1000.0)  # nobody is there
    points = np.concatenate([points[:, 1:], everywhere], axis=1)  # one person is missed
    scores = generator.uniform(0.2, 1.0, (20, PEOPLE_PER_IMAGE))
    truth, found, result = classified(annotation_file(true), result_list(points, scores), skeleton)
    gained = impact(truth, found, result, skeleton)
    steps = [gained.ap, *gained.progressive.values()]
    assert tuple(gained.progressive) == STEPS
    assert steps[-1] == pytest.approx(1.0)
    assert (np.diff(steps) >= -1e-12).all()


def test_the_starting_ap_is_the_official_one(repository: Path):
    golden = repository / "tests" / "golden"
    annotations = json.loads((golden / "eval_crowdpose_gt.json").read_text())
    detections = json.loads((golden / "eval_crowdpose_dt.json").read_text())
    truth = read_ground_truth(annotations, CROWDPOSE14, "crowdpose")
    found = read_detections(detections, truth, CROWDPOSE14)
    result = impact(truth, found, classify(truth, found, CROWDPOSE14), CROWDPOSE14)
    official = evaluate_keypoints(
        annotations, detections, skeleton=CROWDPOSE14, protocol="crowdpose"
    )
    assert result.ap == pytest.approx(official.metrics["AP"], abs=1e-12)
    assert result.progressive["missed"] == pytest.approx(1.0)


def only(error):
    """One detection per person in which a third of the keypoints have this error alone."""
    generator = np.random.default_rng(2)
    true = people(COCO17, 30)
    errors = np.full((30, PEOPLE_PER_IMAGE, 17), KeypointError.GOOD)
    errors[..., 5:11] = error
    points = planted(true, errors, COCO17, generator)
    points[..., :5, :] = true[..., :5, :]
    points[..., 11:, :] = true[..., 11:, :]
    scores = np.full((30, PEOPLE_PER_IMAGE), 0.5)
    return classified(annotation_file(true), result_list(points, scores), COCO17)


@pytest.mark.parametrize("name", ["miss", "swap", "inversion", "jitter"])
def test_one_kind_of_keypoint_error_is_worth_all_the_ap_and_the_others_nothing(name):
    truth, found, result = only(KeypointError[name.upper()])
    gained = impact(truth, found, result, COCO17)
    assert gained.ap < 0.95
    assert gained.alone[name] == pytest.approx(1.0)
    others = set(STEPS) - {name}
    assert {other: gained.alone[other] for other in others} == dict.fromkeys(others, gained.ap)


def test_a_second_worse_detection_is_a_score_error_and_a_stray_one_is_background():
    true = people(COCO17, 4)
    stray = np.full((4, 1, 17, 2), -1000.0)
    points = np.concatenate([true, true[:, :1] + 15.0, stray], axis=1)
    scores = np.tile([0.6, 0.6, 0.6, 0.9, 0.95], (4, 1))
    truth, found, result = classified(annotation_file(true), result_list(points, scores), COCO17)
    by_rank = result.kind.reshape(4, 5)
    assert (by_rank[:, 0] == DetectionKind.BACKGROUND).all()
    assert (by_rank[:, 1] == DetectionKind.FOUND).all()  # the worse one: it has the higher score
    assert (by_rank[:, 2:] == DetectionKind.SCORE).sum() == 4
    gained = impact(truth, found, result, COCO17)
    assert gained.ap < gained.alone["score"] < 1.0
    assert gained.ap < gained.alone["background"] < 1.0
    assert gained.progressive["background"] == pytest.approx(1.0)


def test_missed_people_are_named():
    true = people(COCO17, 5)
    detections = result_list(true[:, 1:], np.full((5, 2), 0.5))
    truth, found, result = classified(annotation_file(true), detections, COCO17)
    assert result.missed.tolist() == [0, 3, 6, 9, 12]
    assert impact(truth, found, result, COCO17).alone["missed"] == pytest.approx(1.0)


def test_detections_on_people_who_do_not_count_are_no_errors():
    true = people(COCO17, 2)
    annotations = annotation_file(true)
    annotations["annotations"][0]["iscrowd"] = 1
    _, _, result = classified(
        annotations, result_list(true, np.full((2, PEOPLE_PER_IMAGE), 0.5)), COCO17
    )
    assert (result.kind == DetectionKind.IGNORED).sum() == 1
    assert (result.kind == DetectionKind.FOUND).sum() == 5
    assert len(result.missed) == 0


def test_keypoints_without_label_have_no_error():
    true = people(COCO17, 1)
    annotations = annotation_file(true)
    annotations["annotations"][0]["keypoints"][2] = 0
    detections = result_list(true, np.full((1, PEOPLE_PER_IMAGE), 0.5))
    _, _, result = classified(annotations, detections, COCO17)
    assert result.keypoints[0, 0] == KeypointError.UNLABELLED
    assert (result.keypoints[0, 1:] == KeypointError.GOOD).all()


def test_no_detection_at_all_means_that_everybody_is_missed():
    true = people(COCO17, 3)
    truth, found, result = classified(annotation_file(true), [], COCO17)
    assert len(result.missed) == 9
    gained = impact(truth, found, result, COCO17)
    assert gained.ap == 0.0
    assert gained.progressive["background"] == 0.0
    assert gained.progressive["missed"] == 1.0
