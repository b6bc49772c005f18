import cv2
import numpy as np
import pytest

from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.skeleton import COCO17
from rtmo.store import Licence, StoreMeta
from rtmo.store_writer import write_store

HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    """Folder of a store of 12 pictures; the fourth has nobody in it, the others one or two."""
    folder = tmp_path_factory.mktemp("tiny") / "train"
    meta = StoreMeta(
        dataset="tiny",
        split="train",
        protocol="coco",
        skeleton=COCO17,
        licence=Licence(name="none", url="", commercial_use="yes"),
    )
    write_store(folder, meta, (record(index) for index in range(12)))
    return folder


def record(index):
    rng = np.random.default_rng(index)
    image = rng.integers(0, 80, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    count = 0 if index == 3 else 1 + index % 2
    people = tuple(draw_person(image, rng, 10 * index, number) for number in range(count))
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    picture = ImageRecord(
        id=index + 1,
        file_name=f"{index:03d}.jpg",
        height=HEIGHT,
        width=WIDTH,
        crowd_index=None,
        is_turned=False,
        people=people,
    )
    return picture, jpeg


def draw_person(image, rng, first_id, number):
    """A column of dots: enough of a person to be learnt from."""
    left, top = 8 + 60 * number + rng.integers(0, 10), rng.integers(2, 12)
    width, height = 34, 78
    cv2.rectangle(image, (left, top), (left + width, top + height), (90, 160, 220), -1)
    keypoints = []
    for k in range(17):
        x, y = left + 6 + 22 * (k % 2), top + 4 + 4 * k
        cv2.circle(image, (int(x), int(y)), 2, (10 * k, 255 - 10 * k, 60), -1)
        keypoints += [float(x), float(y), 2.0]
    return PersonRecord(
        id=first_id + number,
        box_xywh=(float(left), float(top), float(width), float(height)),
        keypoints=tuple(keypoints),
        num_keypoints=17,
        is_crowd=False,
        area=float(width * height),
        segmentation=None,
    )
