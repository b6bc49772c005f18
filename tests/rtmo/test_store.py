"""A store gives back what was written, in the same bytes every time."""

import pickle
from dataclasses import replace

import cv2
import numpy as np
import pytest

from rtmo.formats.records import RunLengths
from rtmo.skeleton import COCO17
from rtmo.store import Licence, Store, StoreError, StoreMeta
from rtmo.store_writer import write_store

META = StoreMeta(
    dataset="test",
    split="val",
    protocol="coco",
    skeleton=COCO17,
    licence=Licence(name="none", url="https://example.org", commercial_use="yes"),
)


def test_records_come_back_as_they_were_written(tmp_path, random_records):
    records = random_records(9)
    crowd = replace(
        records[1].people[0],
        is_crowd=True,
        area=None,
        segmentation=RunLengths((2, 3), (1, 2, 3)),
    )
    records[1] = replace(records[1], people=(crowd,), crowd_index=0.37)
    records[2] = replace(
        records[2], people=tuple(replace(p, segmentation=None) for p in records[2].people)
    )
    write_store(tmp_path, META, ((record, None) for record in records))
    store = Store.open(tmp_path)
    assert list(store.records()) == records
    assert store.meta == META
    assert store.num_people == sum(len(record.people) for record in records)


def test_jpegs_come_back_as_they_were_written_across_shards(tmp_path, random_records, monkeypatch):
    monkeypatch.setattr("rtmo.store_writer.SHARD_BYTES", 64)
    records = random_records(6)
    contents = [bytes([number]) * (20 + number) for number in range(6)]
    write_store(tmp_path, META, zip(records, contents, strict=True))
    store = Store.open(tmp_path)
    assert [store.image_bytes(index).tobytes() for index in range(6)] == contents
    assert len(list(tmp_path.glob("images-*.bin"))) == 3


def test_two_writes_give_the_same_files(tmp_path, random_records, picture_file):
    records = [(record, picture_file(40, 50)) for record in random_records(5)]
    for name in ("a", "b"):
        write_store(tmp_path / name, META, records)
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "b").iterdir())
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_empty_store_opens(tmp_path):
    write_store(tmp_path, META, [])
    store = Store.open(tmp_path)
    assert len(store) == 0
    assert store.to_coco()["images"] == []


def test_a_store_without_pixels_says_so(tmp_path, random_records):
    write_store(tmp_path, META, ((record, None) for record in random_records(2)))
    with pytest.raises(StoreError, match="holds no pixels of image 1"):
        Store.open(tmp_path).read_image(0)


def test_people_are_read_by_the_official_rules(tmp_path, random_records):
    record = random_records(2)[1]
    person = replace(record.people[0], box_xywh=(-5.0, 3.0, 500.0, 20.0), area=None)
    write_store(tmp_path, META, [(replace(record, people=(person,)), None)])
    people = Store.open(tmp_path).people(0)
    right = record.width - 1
    assert people.boxes_xyxy.tolist() == [[0, 3, right, 23]]
    assert people.areas.tolist() == pytest.approx([0.53 * right * 20])
    assert len(people) == 1


def test_exif_orientation_is_applied_only_where_the_annotations_assume_it(tmp_path, random_records):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20] = 255
    jpeg = turned_on_its_side(cv2.imencode(".jpg", pixels)[1].tobytes())
    first, second = random_records(2)
    records = [
        (replace(first, height=40, width=60), jpeg),
        (replace(second, height=60, width=40, is_turned=True), jpeg),
    ]
    write_store(tmp_path, META, records)
    store = Store.open(tmp_path)
    assert store.read_image(0).shape == (40, 60, 3)
    assert store.read_image(1).shape == (60, 40, 3)


def test_a_store_travels_to_another_process_as_its_folder(random_store):
    store = random_store(3)
    again = pickle.loads(pickle.dumps(store))
    assert list(again.records()) == list(store.records())
    assert len(pickle.dumps(store)) < 500


def test_a_missing_column_is_named(random_store):
    store = random_store(3)
    (store.folder / "areas.npy").unlink()
    with pytest.raises(StoreError, match=r"areas\.npy.*dvc"):
        Store.open(store.folder)


def test_ids_must_increase(tmp_path, random_records):
    first, second = random_records(2)
    with pytest.raises(StoreError, match="image 1 comes after image 11"):
        write_store(tmp_path, META, [(second, None), (first, None)])


def turned_on_its_side(jpeg: bytes) -> bytes:
    """The JPEG with EXIF orientation 6."""
    entry = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
    exif = b"Exif\0\0MM\x00\x2a\x00\x00\x00\x08\x00\x01" + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]
