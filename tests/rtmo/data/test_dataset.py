"""Samples: the official stage 2 on real pictures, and pure functions of where they are."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rtmo.data.config import AugmentConfig, HsvConfig
from rtmo.data.dataset import TrainingSet
from rtmo.formats.coco import read_coco
from rtmo.formats.crowdpose import read_crowdpose
from rtmo.formats.findings import Findings
from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.store import Licence, Store, StoreMeta
from rtmo.store_writer import write_store

STILL = HsvConfig(hue=0, saturation=0, value=0)
READERS = {"coco": (read_coco, COCO17), "crowdpose": (read_crowdpose, CROWDPOSE14)}


@pytest.fixture(params=["coco", "crowdpose"])
def reference(request, shared, tmp_path):
    """The store of the reference pictures and what the official pipeline makes of them."""
    folder = shared / "real/reference-images" / request.param
    read, skeleton = READERS[request.param]
    records = read(
        json.loads((folder / f"test_{request.param}.json").read_text()), skeleton, Findings()
    )
    meta = StoreMeta(
        dataset="reference",
        split="train",
        protocol=request.param,
        skeleton=skeleton,
        licence=Licence(name="test only", url="https://example.org", commercial_use="no"),
    )
    jpegs = [(folder / record.file_name).read_bytes() for record in records]
    write_store(tmp_path, meta, zip(records, jpegs, strict=True))
    golden = dict(np.load(shared / f"rtmo/golden/realdata_{request.param}.npz"))
    return Store.open(tmp_path), golden


def test_people_are_loaded_as_the_official_loader_does(reference):
    store, golden = reference
    for index, image_id in enumerate(store.image_ids.tolist()):
        people = store.people(index)
        raw = {key: golden[f"img{image_id}.raw.{key}"] for key in ("bbox", "area", "keypoints")}
        np.testing.assert_array_equal(people.boxes_xyxy, raw["bbox"])
        np.testing.assert_array_equal(people.areas, raw["area"])
        np.testing.assert_array_equal(people.keypoints[:, :, :2], raw["keypoints"])


@pytest.mark.parametrize(("flip_prob", "name"), [(0.0, "noflip"), (1.0, "flip")])
def test_stage_2_is_the_official_one(reference, flip_prob, name):
    store, golden = reference
    augment = AugmentConfig(hsv=STILL, flip_prob=flip_prob)
    dataset = TrainingSet(store, 640, augment, seed=0)
    for index, image_id in enumerate(store.image_ids.tolist()):
        sample = dataset.samples(0, [index], "letterbox")[0]
        expected = {
            key.split(".")[-1]: value
            for key, value in golden.items()
            if key.startswith(f"img{image_id}.stage2.{name}.")
        }
        # 1e-4 px: float32 on both sides.
        labels = sample.labels
        np.testing.assert_allclose(labels.boxes_xyxy, expected["bboxes"], atol=1e-4)
        np.testing.assert_allclose(labels.keypoints_xy, expected["keypoints"], atol=1e-4)
        np.testing.assert_array_equal(labels.is_labelled, expected["keypoints_visible"])
        np.testing.assert_allclose(labels.areas, expected["areas"], rtol=1e-6)
        # One grey level: colours go to HSV and back, which OpenCV has changed since the goldens.
        image = sample.image.transpose(2, 0, 1)[:, ::16, ::16].astype(int)
        np.testing.assert_allclose(image, expected["img_sub16"].astype(int), atol=1, rtol=0)
        mask = sample.ignore_mask
        mask = np.zeros((640, 640), bool) if mask is None else mask
        assert mask.sum() == expected["mask_sum"]
        np.testing.assert_array_equal(np.packbits(mask[::8, ::8]), expected["mask_sub8"])


def same(a, b) -> bool:
    masks = (a.ignore_mask, b.ignore_mask)
    return (
        np.array_equal(a.image, b.image)
        and np.array_equal(a.labels.boxes_xyxy, b.labels.boxes_xyxy)
        and np.array_equal(a.labels.keypoints_xy, b.labels.keypoints_xy)
        and (masks == (None, None) or np.array_equal(*masks))
    )


@pytest.mark.parametrize("pipeline", ["mosaic", "letterbox"])
def test_a_sample_is_a_function_of_seed_epoch_and_index(random_store, pipeline):
    store = random_store(12)
    first, second = (TrainingSet(store, 64, AugmentConfig(), seed=3) for _ in range(2))
    second.samples(5, [1], pipeline)[0]  # what was drawn before does not matter
    assert same(first.samples(2, [4], pipeline)[0], second.samples(2, [4], pipeline)[0])
    other_seed = TrainingSet(store, 64, AugmentConfig(), seed=4)
    for other in (
        first.samples(3, [4], pipeline)[0],
        first.samples(2, [5], pipeline)[0],
        other_seed.samples(2, [4], pipeline)[0],
    ):
        assert not same(first.samples(2, [4], pipeline)[0], other)


def test_pictures_without_annotations_are_left_out(random_store):
    store = random_store(12)
    dataset = TrainingSet(store, 64, AugmentConfig(), seed=0)
    assert dataset.num_samples(0) == 9
    empty = {f"random/{store.image_ids[index]}" for index in (0, 4, 8)}
    assert empty.isdisjoint(dataset.samples(0, [i], "letterbox")[0].image_name for i in range(9))


def test_a_picture_whose_people_are_all_filtered_out_is_kept(random_store, tmp_path):
    store = random_store(2)
    record = list(store.records())[1]
    person = replace(record.people[0], keypoints=(0.0,) * 51, num_keypoints=0)
    jpeg = store.image_bytes(1).tobytes()
    write_store(tmp_path / "b", store.meta, [(replace(record, people=(person,)), jpeg)])
    dataset = TrainingSet(Store.open(tmp_path / "b"), 64, AugmentConfig(), seed=0)
    sample = dataset.samples(0, [0], "letterbox")[0]
    assert len(sample.labels) == 0
    assert sample.ignore_mask is not None
    assert sample.ignore_mask.any()


@pytest.mark.parametrize("pipeline", ["mosaic", "letterbox"])
def test_an_unreadable_picture_is_grey_and_reported(random_store, pipeline):
    store = random_store(2)
    (store.folder / "images-00000.bin").write_bytes(
        b"\xff" * (store.folder / "images-00000.bin").stat().st_size
    )
    augment = AugmentConfig(hsv=STILL)
    sample = TrainingSet(Store.open(store.folder), 64, augment, 0).samples(0, [0], pipeline)[0]
    assert (sample.image == 114).all()
    assert len(sample.labels) == 0
    assert set(sample.unreadable) == {"random/11"}


def test_a_split_without_people_is_refused(random_store):
    store = random_store(1)
    with pytest.raises(ValueError, match="1 pictures and no annotated person"):
        TrainingSet(store, 64, AugmentConfig(), seed=0)
