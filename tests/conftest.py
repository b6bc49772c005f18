"""Fixtures for every test."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from rtmo.formats.records import ImageRecord, PersonRecord, Polygons
from rtmo.skeleton import COCO17, Skeleton
from rtmo.store import Licence, Store, StoreMeta
from rtmo.store_writer import write_store
from tests.file_server import FileServer, serving

# A shell that starts the tests in the background makes them ignore INT, and all their children.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder `shared/` with reference material, beside the checkout or named by RTMO_SHARED."""
    folder = Path(os.environ.get("RTMO_SHARED", ROOT.parent / "shared"))
    if not folder.is_dir():
        pytest.skip("needs the folder shared/ beside the checkout (or RTMO_SHARED)")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """The number that `make chaos KILLS=...` sets."""
    parser.addoption("--kills", type=int, default=2, help="how often a training is killed")


@pytest.fixture(scope="session")
def kills(request: pytest.FixtureRequest) -> int:
    """How often a training is killed."""
    return int(request.config.getoption("--kills"))


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout under test."""
    return ROOT


@pytest.fixture
def file_server() -> Iterator[FileServer]:
    """A local HTTP server of files, which misbehaves on request."""
    with serving() as server:
        yield server


@pytest.fixture
def picture_file() -> Callable[..., bytes]:
    """Makes a JPEG file of smooth colour noise: `picture_file(height, width, seed)`."""

    def make(height: int, width: int, seed: int = 0) -> bytes:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
        pixels = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        return cv2.imencode(".jpg", pixels)[1].tobytes()

    return make


@pytest.fixture
def random_records() -> Callable[..., list[ImageRecord]]:
    """Makes records with 0 to 3 people each: `random_records(count, skeleton, seed)`."""

    def make(count: int, skeleton: Skeleton = COCO17, seed: int = 0) -> list[ImageRecord]:
        rng = np.random.default_rng(seed)
        return [
            ImageRecord(
                id=10 * number + 1,
                file_name=f"{number:012d}.jpg",
                height=int(rng.integers(40, 90)),
                width=int(rng.integers(40, 90)),
                crowd_index=None,
                is_turned=False,
                people=tuple(
                    random_person(rng, 100 * number + person, skeleton)
                    for person in range(number % 4)
                ),
            )
            for number in range(count)
        ]

    return make


def random_person(rng: np.random.Generator, number: int, skeleton: Skeleton) -> PersonRecord:
    x, y, width, height = (int(value) for value in rng.integers(4, 30, 4))
    visibility = rng.integers(0, 3, skeleton.num_keypoints)
    points = np.array([x, y]) + rng.random((skeleton.num_keypoints, 2)) * [width, height]
    points = np.round(points * (visibility > 0)[:, None], 2)
    return PersonRecord(
        id=number,
        box_xywh=(x, y, width, height),
        keypoints=tuple(np.column_stack([points, visibility]).ravel().tolist()),
        num_keypoints=int((visibility > 0).sum()),
        is_crowd=False,
        area=0.5 * width * height,
        segmentation=Polygons(((x, y, x + width, y, x + width, y + height),)),
    )


@pytest.fixture
def random_store(
    tmp_path: Path,
    picture_file: Callable[..., bytes],
    random_records: Callable[..., list[ImageRecord]],
) -> Callable[..., Store]:
    """Writes and opens a store of random records: `random_store(count, skeleton, dataset)`."""

    def make(
        count: int,
        skeleton: Skeleton = COCO17,
        dataset: str = "random",
        unannotated: tuple[str, ...] = (),
    ) -> Store:
        meta = StoreMeta(
            dataset=dataset,
            split="train",
            protocol="coco",
            skeleton=skeleton,
            unannotated=unannotated,
            licence=Licence(name="none", url="https://example.org", commercial_use="yes"),
        )
        records = [
            (record, picture_file(record.height, record.width, record.id))
            for record in random_records(count, skeleton)
        ]
        write_store(tmp_path / dataset, meta, records)
        return Store.open(tmp_path / dataset)

    return make
