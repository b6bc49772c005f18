"""A small converted dataset and detections with known errors, for the stages that read them."""

import importlib.util
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.skeleton import COCO17
from rtmo.store import Licence, Store, StoreMeta
from rtmo.store_writer import write_store

SIZE_HW = (192, 256)
PEOPLE_PER_IMAGE = 2


def picture(number: int) -> bytes:
    """A JPEG of coloured noise; its content matters to nobody."""
    generator = np.random.default_rng(number)
    coarse = generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)
    _, jpeg = cv2.imencode(".jpg", cv2.resize(coarse, SIZE_HW[::-1]))
    return jpeg.tobytes()


def person(number: int, left: float, generator: np.random.Generator) -> PersonRecord:
    """Somebody in the box (left, 30, 90, 140), keypoints spread over it."""
    places = generator.permuted(np.stack(np.meshgrid(range(4), range(5)), -1).reshape(-1, 2)[:17])
    points = np.column_stack([left + places[:, 0] * 28.0, 35 + places[:, 1] * 30.0, np.full(17, 2)])
    return PersonRecord(
        id=number,
        box_xywh=(left, 30.0, 90.0, 140.0),
        keypoints=tuple(points.ravel().tolist()),
        num_keypoints=17,
        is_crowd=False,
        area=6000.0,
        segmentation=None,
    )


def write_split(folder: Path, split: str, first_id: int, num_images: int) -> None:
    """A store of two people per image; the last image shows nobody."""
    generator = np.random.default_rng(first_id)
    records = []
    for number in range(first_id, first_id + num_images):
        people = [
            person(number * 10 + place, 15.0 + 120.0 * place, generator)
            for place in range(PEOPLE_PER_IMAGE)
        ]
        record = ImageRecord(
            id=number,
            file_name=f"{number}.jpg",
            height=SIZE_HW[0],
            width=SIZE_HW[1],
            crowd_index=None,
            is_turned=False,
            people=tuple(people) if number < first_id + num_images - 1 else (),
        )
        records.append((record, picture(number)))
    meta = StoreMeta(
        dataset="tiny",
        split=split,
        protocol="coco",
        skeleton=COCO17,
        licence=Licence(name="CC0", url="https://example.org/cc0", commercial_use="yes"),
    )
    write_store(folder, meta, records)


@pytest.fixture(scope="session")
def processed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `convert` writes it: stores `val` (5 images) and `gate` (3)."""
    folder = tmp_path_factory.mktemp("processed")
    write_split(folder / "val", "val", 100, 5)
    write_split(folder / "gate", "gate", 200, 3)
    return folder


@pytest.fixture(scope="session")
def detections(processed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of `val`: per image one person found with a swapped left wrist, one missed; one
    detection of nobody in the image without people.
    """
    results = []
    store = Store.open(processed / "val")
    for row in range(len(store)):
        people = store.people(row).keypoints.copy()
        points = people[0] if len(people) else np.full((17, 3), 20.0)
        if len(people):
            points[9] = people[1, 9]
        results.append(
            {
                "image_id": int(store.image_ids[row]),
                "category_id": 1,
                "keypoints": points.astype(float).ravel().tolist(),
                "score": 0.9 - row / 20,
                "bbox": [15.0, 30.0, 90.0, 140.0],
            }
        )
    path = tmp_path_factory.mktemp("detections") / "detections.json"
    path.write_text(json.dumps(results))
    return path


@pytest.fixture(scope="session")
def fiftyone_database(tmp_path_factory: pytest.TempPathFactory):
    """FiftyOne's own database in a folder of the tests, not the person's."""
    if importlib.util.find_spec("fiftyone") is None:
        pytest.skip("needs fiftyone (extra `inspect`)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIFTYONE_DATABASE_DIR", str(tmp_path_factory.mktemp("mongo")))
        patch.setenv("FIFTYONE_DATABASE_VALIDATION", "false")
        patch.setenv("FIFTYONE_DO_NOT_TRACK", "true")
        yield
