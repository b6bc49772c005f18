"""Stage `download`: every way to get a dataset ends in the same layout."""

import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipelines.paths import Paths
from pipelines.sources.schema import Source, SourceError, load_source
from pipelines.stages.download import download
from rtmo.fetch import FetchError, Patience


@pytest.fixture
def small_embedded(repository):
    """The embedded source with six pictures."""

    def make(name="embedded"):
        content = json.loads((repository / f"sources/{name}.json").read_text())
        content["get"]["config"]["num_images"] = {"train": 4, "val": 2}
        return Source.model_validate_json(json.dumps(content))

    return make


def get(source, out, root):
    out.mkdir()
    return download(source, out, root=root, downloads=root / "downloads", patience=Patience())


def hashes(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["embedded", "embedded-crowdpose"])
def test_the_generator_fills_the_official_layout_with_the_same_bytes_twice(
    small_embedded, tmp_path, name
):
    for run in ("a", "b"):
        report = get(small_embedded(name), tmp_path / run, tmp_path)
    assert report.origin == "generator"
    assert hashes(tmp_path / "a") == hashes(tmp_path / "b")
    expected = {
        "embedded": {"train2017.zip", "val2017.zip", "annotations_trainval2017.zip"},
        "embedded-crowdpose": {"images.zip", "crowdpose_trainval.json", "crowdpose_test.json"},
    }
    assert set(hashes(tmp_path / "a")) == expected[name] | {"download.json"}


def test_a_folder_is_packed_into_the_archives_of_its_layout(shared, repository, tmp_path):
    source = load_source(repository / "sources/coco-sample.json")
    folder = source.get.model_copy(update={"path": str(shared / "real/coco-sample")})
    get(source.model_copy(update={"get": folder}), tmp_path / "a", tmp_path)
    with zipfile.ZipFile(tmp_path / "a/train2017.zip") as archive:
        assert len(archive.namelist()) == 480
        assert archive.namelist()[0] == "train2017/000000000872.jpg"
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
    with zipfile.ZipFile(tmp_path / "a/annotations_trainval2017.zip") as archive:
        assert len(archive.namelist()) == 2


def test_a_missing_folder_is_named(repository, tmp_path):
    source = load_source(repository / "sources/coco-sample.json")
    with pytest.raises(SourceError, match=r"coco-sample does not exist.*sources/coco-sample\.json"):
        get(source, tmp_path / "out", tmp_path)


def test_files_put_there_by_hand_are_used_and_kept_until_published(repository, tmp_path):
    content = json.loads((repository / "sources/crowdpose.json").read_text())
    content["get"]["files"] = content["get"]["files"][1:]
    content["splits"] = {"val": {"images": None, "annotations": {"path": "crowdpose_test.json"}}}
    source = Source.model_validate_json(json.dumps(content))
    (tmp_path / "downloads").mkdir()
    for name in ("crowdpose_trainval.json", "crowdpose_test.json"):
        (tmp_path / "downloads" / name).write_text("{}")
    report = get(source, tmp_path / "out", tmp_path)
    assert [file.name for file in report.files] == [
        "crowdpose_trainval.json",
        "crowdpose_test.json",
    ]
    assert not any(file.is_verified for file in report.files)
    assert (tmp_path / "out/crowdpose_test.json").read_text() == "{}"
    assert (tmp_path / "downloads/crowdpose_test.json").exists()


def test_official_coco_put_there_by_hand_must_be_the_official_files(repository, tmp_path):
    source = load_source(repository / "sources/coco.json")
    (tmp_path / "downloads").mkdir()
    for file in source.get.files:
        (tmp_path / "downloads" / file.name).write_text("something else")
    with pytest.raises(FetchError, match="expected 19336861798; delete it") as caught:
        get(source, tmp_path / "out", tmp_path)
    assert "`rtmo-pipeline data refresh coco` takes the new one" in caught.value.__notes__[0]


def test_unfinished_files_lie_outside_what_dvc_deletes(repository):
    paths = Paths(repository, repository)
    stages = YAML(typ="safe").load(repository / "dvc.yaml")["stages"].values()
    outs = [out for stage in stages for out in stage["outs"] if isinstance(out, str)]
    tops = {Path(out).parts[0] for out in outs}
    assert {"data", "models", "reports"} <= tops
    assert paths.downloads("coco").relative_to(repository).parts[0] not in tops


@pytest.mark.parametrize("stage", ["download", "convert"])
def test_data_stages_do_not_import_torch(repository, stage):
    code = (
        f"import sys, pipelines.stages.{stage}; "
        "heavy = {'torch', 'lightning', 'mlflow', 'fiftyone', 'prefect', 'pycocotools'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
