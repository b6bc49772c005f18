"""What a training starts from is part of what it is made from, and of its licences."""

import hashlib
import shutil
from pathlib import Path

import pytest

from pipelines.doctor import examine
from pipelines.params import ParamsError, load_params
from pipelines.paths import Paths
from rtmo.formats.licence import Licence
from rtmo.model import build_rtmo
from rtmo.model.weights import save_weights
from rtmo.run.initial_weights import InitialWeightsError, initial_weights, licences_of
from rtmo.skeleton import COCO17
from rtmo.training.config import TrainConfig

DATA = Licence(name="CC BY 4.0", url="https://example.org", commercial_use="yes")
FIRST = Licence(name="CC BY-NC 4.0", url="https://example.org", commercial_use="no")


@pytest.fixture
def root(tmp_path: Path, repository: Path) -> Path:
    """A folder with params.yaml and a weights file of ours."""
    shutil.copy(repository / "params.yaml", tmp_path)
    metadata = {"input_size": "64", "licence": DATA.model_dump_json()}
    save_weights(build_rtmo("t", COCO17), tmp_path / "start.safetensors", metadata)
    return tmp_path


def start_from(root: Path, file: str | None, sha256: str | None) -> TrainConfig:
    lines = [
        f"  init_weights: {file or 'null'}" if line.startswith("  init_weights:") else line
        for line in (root / "params.yaml").read_text().splitlines()
    ]
    lines = [
        f"  init_weights_sha256: {sha256 or 'null'}" if "init_weights_sha256" in line else line
        for line in lines
    ]
    (root / "params.yaml").write_text("\n".join(lines))
    return load_params(root).train


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_the_card_gets_file_hash_and_licence(root: Path) -> None:
    digest = sha256(root / "start.safetensors")
    initial = initial_weights(start_from(root, "start.safetensors", digest), root)
    assert initial == {
        "file": "start.safetensors",
        "sha256": digest,
        "licences": [DATA.model_dump()],
    }
    assert initial_weights(start_from(root, None, None), root) is None
    published = initial_weights(start_from(root, "rtmo-s-body7", None), root)
    assert published is not None
    assert [licence["commercial_use"] for licence in published["licences"]] == ["unknown"]


def test_other_content_under_the_same_name_is_refused_and_told_by_the_doctor(root: Path) -> None:
    train = start_from(root, "start.safetensors", "f" * 64)
    with pytest.raises(InitialWeightsError, match=r"has sha256 .*, params.yaml says ffff.* stale"):
        initial_weights(train, root)
    told = {finding.subject: finding.state for finding in examine(Paths(root, root))}
    assert told["initial weights"] == "problem"
    with pytest.raises(InitialWeightsError, match="there is no file"):
        initial_weights(start_from(root, "gone.safetensors", "f" * 64), root)


@pytest.mark.parametrize(("file", "digest"), [("start.safetensors", None), (None, "f" * 64)])
def test_file_and_hash_come_together(root: Path, file: str | None, digest: str | None) -> None:
    with pytest.raises(ParamsError, match="a file needs its hash"):
        start_from(root, file, digest)


def test_licences_are_inherited_and_unknown_where_nothing_is_said(root: Path) -> None:
    heir = root / "heir.safetensors"
    licences = f"[{DATA.model_dump_json()}, {FIRST.model_dump_json()}]"
    save_weights(build_rtmo("t", COCO17), heir, {"input_size": "64", "licences": licences})
    assert licences_of(heir) == (DATA, FIRST)
    silent = root / "silent.safetensors"
    save_weights(build_rtmo("t", COCO17), silent, {"input_size": "64"})
    assert [licence.commercial_use for licence in licences_of(silent)] == ["unknown"]
