import json
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from rtmo.synthetic import (
    SyntheticConfig,
    coco_annotations,
    crowd_index,
    crowdpose_annotations,
    generate,
)
from rtmo.synthetic.masks import outline, run_lengths

CONFIG = SyntheticConfig(num_images={"train": 60}, crowd_region_prob=0.2)


@pytest.fixture(scope="module")
def images():
    return list(generate(CONFIG, "train"))


@pytest.fixture(scope="module")
def coco(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("coco") / "person_keypoints_train2017.json"
    path.write_text(json.dumps(coco_annotations(images)))
    return COCO(str(path))


@pytest.fixture(scope="module")
def crowdpose(images, tmp_path_factory):
    path = tmp_path_factory.mktemp("crowdpose") / "crowdpose_train.json"
    path.write_text(json.dumps(crowdpose_annotations(images)))
    return COCO(str(path))


def test_pycocotools_reads_both_files(images, coco, crowdpose):
    people = sum(len(image.people) for image in images)
    for index in (coco, crowdpose):
        assert len(index.imgs) == len(images)
        assert len(index.anns) == people
        assert index.getCatIds(catNms=["person"]) == [1]


def test_the_files_have_the_official_keys(shared, coco, crowdpose):
    folder = shared / "real"
    official = json.loads(
        (folder / "coco-original/annotations/person_keypoints_val2017.json").read_text()
    )
    ours = coco.dataset
    assert ours.keys() == official.keys()
    assert ours["categories"] == official["categories"]
    assert ours["annotations"][0].keys() == official["annotations"][0].keys()
    assert ours["images"][0].keys() <= official["images"][0].keys()
    official = json.loads((folder / "crowdpose/crowdpose_val.json").read_text())
    ours = crowdpose.dataset
    assert ours.keys() == official.keys()
    assert ours["categories"] == official["categories"]
    assert ours["annotations"][0].keys() == official["annotations"][0].keys()
    assert ours["images"][0].keys() == official["images"][0].keys()


def test_area_is_the_area_of_the_segmentation(coco):
    for annotation in coco.anns.values():
        pixels = int(coco_mask.area(coco.annToRLE(annotation)))
        assert pixels == pytest.approx(annotation["area"], rel=0.04, abs=10)


def test_the_box_bounds_the_segmentation(coco):
    for annotation in coco.anns.values():
        box = coco_mask.toBbox(coco.annToRLE(annotation))
        np.testing.assert_allclose(annotation["bbox"], box, atol=1.5)


def test_crowd_regions_are_run_lengths_without_keypoints(coco):
    regions = [a for a in coco.anns.values() if a["iscrowd"]]
    assert regions
    for region in regions:
        assert region["segmentation"].keys() == {"size", "counts"}
        assert region["num_keypoints"] == 0
        assert not any(region["keypoints"])
        assert coco_mask.area(coco.annToRLE(region)) == region["area"]


def test_num_keypoints_counts_what_the_official_files_count(coco, crowdpose, shared):
    for annotation in coco.anns.values():
        assert annotation["num_keypoints"] == sum(v > 0 for v in annotation["keypoints"][2::3])
    path = shared / "real/crowdpose/crowdpose_val.json"
    official = json.loads(path.read_text())["annotations"]
    for annotation in (*crowdpose.anns.values(), *official):
        limbs = annotation["keypoints"][2:36:3]
        assert annotation["num_keypoints"] == sum(v > 0 for v in limbs)


def test_crowdpose_files_have_no_area_and_boxes_hold_all_labelled_keypoints(crowdpose):
    for annotation in crowdpose.dataset["annotations"]:
        assert "segmentation" not in annotation
        x, y, width, height = annotation["bbox"]
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        points = points[points[:, 2] > 0, :2]
        assert (points >= (x - 0.02, y - 0.02)).all()
        assert (points <= (x + width + 0.02, y + height + 0.02)).all()


def _person(*points: tuple[float, float, int]) -> np.ndarray:
    return np.array(points, float)


ALONE = _person((1, 1, 2), (3, 3, 1))
ASIDE = _person((21, 1, 2), (23, 3, 2))


def test_people_apart_have_crowd_index_zero():
    assert crowd_index([ALONE, ASIDE], [(0, 0, 4, 4), (20, 0, 4, 4)]) == 0.0
    assert crowd_index([ALONE], [(0, 0, 4, 4)]) == 0.0
    assert crowd_index([], []) == 0.0


def test_one_foreign_joint_in_one_of_two_boxes_counts_half_its_share():
    intruder = _person((2, 2, 1), (30, 30, 2))
    boxes = [(0.0, 0.0, 4.0, 4.0), (29.0, 29.0, 2.0, 2.0)]
    assert crowd_index([ALONE, intruder], boxes) == pytest.approx((1 / 2 + 0 / 2) / 2)


def test_unlabelled_joints_do_not_count_in_the_crowd_index():
    unlabelled = _person((2, 2, 0), (30, 30, 2))
    boxes = [(0.0, 0.0, 4.0, 4.0), (29.0, 29.0, 2.0, 2.0)]
    assert crowd_index([ALONE, unlabelled], boxes) == 0.0


def test_people_without_joints_are_left_out_of_the_mean():
    nobody = _person((0, 0, 0), (0, 0, 0))
    twins = [ALONE, ALONE, nobody]
    assert crowd_index(twins, [(0, 0, 4, 4)] * 3) == pytest.approx(1.0)


def test_the_crowd_index_can_exceed_one():
    assert crowd_index([ALONE] * 4, [(0, 0, 4, 4)] * 4) == pytest.approx(3.0)


def test_most_published_crowd_indices_are_reproduced(shared):
    official = json.loads((shared / "real/crowdpose/crowdpose_val.json").read_text())
    people: dict[int, list[dict]] = {}
    for annotation in official["annotations"]:
        if not annotation["iscrowd"]:
            people.setdefault(annotation["image_id"], []).append(annotation)
    agree = []
    for image in official["images"]:
        own = people.get(image["id"], [])
        points = [np.array(a["keypoints"], float).reshape(-1, 3) for a in own]
        index = crowd_index(points, [a["bbox"] for a in own])
        agree.append(abs(index - image["crowdIndex"]) < 0.0051)
    assert np.mean(agree) > 0.75


def test_run_lengths_agree_with_pycocotools():
    mask = np.random.default_rng(0).random((7, 9)) < 0.5
    ours = run_lengths(mask)
    decoded = coco_mask.decode(coco_mask.frPyObjects(ours, 7, 9))
    np.testing.assert_array_equal(decoded, mask)


def test_polygons_enclose_exactly_the_mask_they_were_made_from():
    mask = np.zeros((20, 30), bool)
    mask[4:15, 6:21] = True
    mask[8:10, 10:13] = False
    polygons, filled = outline(mask, (0, 0))
    rle = coco_mask.merge(coco_mask.frPyObjects(polygons, 20, 30))
    np.testing.assert_array_equal(coco_mask.decode(rle), filled)
    assert filled.sum() == 11 * 15


def test_polygons_are_placed_at_the_window(images):
    mask = np.ones((5, 6), bool)
    (here,), _ = outline(mask, (0, 0))
    (there,), _ = outline(mask, (100, 40))
    np.testing.assert_allclose(
        np.reshape(there, (-1, 2)) - np.reshape(here, (-1, 2)), [[100, 40]] * (len(here) // 2)
    )


def test_a_picture_without_people_stays_in_both_files(images):
    empty = replace(images[0], people=())
    for document in (coco_annotations([empty]), crowdpose_annotations([empty])):
        assert len(document["images"]) == 1
        assert document["annotations"] == []
    assert document["images"][0]["crowdIndex"] == 0.0
