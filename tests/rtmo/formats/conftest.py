"""Own labels: a skeleton of nine keypoints and exports of every format on disk."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from rtmo.formats.label_files import LabelFiles
from rtmo.formats.labels import write_labels
from rtmo.skeleton import Skeleton

NINE = Skeleton(
    name="nine",
    keypoints=("head", *(f"{s}_{p}" for p in ("hand", "hip", "knee", "foot") for s in ("l", "r"))),
    flip_pairs=((1, 2), (3, 4), (5, 6), (7, 8)),
    limbs=((3, 5), (5, 7), (4, 6), (6, 8), (3, 4)),
    sigmas=(0.072,) * 9,
)


@pytest.fixture
def nine() -> Skeleton:
    return NINE


@pytest.fixture
def export(tmp_path: Path, picture_file) -> Callable[..., LabelFiles]:
    """Writes records as an export of a labelling tool: `export(splits, format, skeleton)`."""

    def make(splits, to, skeleton=NINE, *, kind="folder") -> LabelFiles:
        written = write_labels(splits, skeleton, to)
        content = dict(written.documents)
        for records in splits.values():
            for record in records:
                jpeg = picture_file(record.height, record.width, record.id)
                content[written.pictures[record.file_name]] = jpeg
        return put(tmp_path / f"{to}-{kind}", content)

    return make


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., LabelFiles]:
    """Writes files by path: `files({"data.yaml": "..."})`, a zip archive if so named."""

    def make(content, name="given") -> LabelFiles:
        return put(tmp_path / name, content)

    return make


def put(path: Path, content: dict[str, bytes | str]) -> LabelFiles:
    encoded = {n: c.encode() if isinstance(c, str) else c for n, c in content.items()}
    if path.name.endswith("zip"):
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in encoded.items():
                archive.writestr(name, data)
    else:
        for name, data in encoded.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(data)
    return LabelFiles(path)
