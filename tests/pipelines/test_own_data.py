"""`rtmo-pipeline init` and `labels`: what they find, what they write, what they refuse."""

import json
import os
import pty
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.params import load_params
from pipelines.sources.schema import Labels, SourceError, load_source
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from rtmo.fetch import Patience
from rtmo.formats.labels import write_labels
from rtmo.skeleton import Skeleton
from rtmo.store import Store

FIVE = Skeleton(
    name="five",
    keypoints=("head", "l_hand", "r_hand", "l_foot", "r_foot"),
    flip_pairs=((1, 2), (3, 4)),
    limbs=((0, 1), (0, 2)),
    sigmas=(0.072,) * 5,
)


@pytest.fixture
def root(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of a checkout that `init` looks at, as the working directory."""
    folder = tmp_path / "checkout"
    shutil.copytree(repository / "presets", folder / "presets")
    shutil.copytree(repository / "sources", folder / "sources")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(repository / name, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def archive(tmp_path: Path, picture_file, random_records) -> Path:
    """CVAT's archive of 16 pictures, a quarter of them of nobody; one is a PNG."""
    written = write_labels({"train": random_records(16, FIVE)}, FIVE, "cvat")
    path = tmp_path / "Job 7.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for record in random_records(16, FIVE):
            content = picture_file(record.height, record.width, record.id)
            if record.id == 21:
                pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
                content = cv2.imencode(".png", pixels)[1].tobytes()
            archive.writestr(written.pictures[record.file_name], content)
        for name, content in written.documents.items():
            archive.writestr(name, content)
    return path


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def files_of(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_init_says_what_it_found_and_what_it_changed(root, archive):
    done = run("init", "--data", archive, "--licence", "ours:yes", "--sigmas", "head:0.05")
    assert done.exit_code == 0, done.output
    for words in (
        "CVAT's COCO keypoints",
        "pictures: 16 labelled, 16 of them there and readable",
        "people: 24",
        "skeleton job-7: head, l_hand, r_hand, l_foot, r_foot",
        "flip pairs: l_hand:r_hand, l_foot:r_foot, guessed from the names",
        "sigmas: 1 as given; l_hand, r_hand, l_foot, r_foot have 0.072",
        "splits: train 14, val 2; `convert` takes the gate out of train",
        'data.dataset: "embedded" -> "job-7"',
    ):
        assert words in done.output
    source = load_source(root / "sources/job-7.json")
    assert source.keypoints.sigmas == (0.05, *(0.072,) * 4)
    assert source.keypoints.flip_pairs == FIVE.flip_pairs
    assert source.keypoints.limbs == FIVE.limbs
    assert source.licence.commercial_use == "yes"
    assert load_params(root).data.dataset == "job-7"


def test_init_is_also_for_programs(root, archive):
    options = ("--licence", "ours:yes", "--sigmas", "head:0.05")
    said = json.loads(run("init", "--data", archive, *options, "--json").stdout)
    assert said["format"] == "cvat"
    assert said["pictures"] == {"train": 14, "val": 2}
    assert said["keypoints"] == list(FIVE.keypoints)
    assert said["sigmas"] == [0.05, *(0.072,) * 4]
    assert said["findings"] == {"box_reaches_outside": 1, "labelled_keypoint_outside": 1}
    assert 'data.dataset: "embedded" -> "job-7"' in said["params"]
    assert Path(said["source"]) == root / "sources" / "job-7.json"
    assert Path(said["source"]).exists()


def test_what_init_wrote_converts_into_three_splits(root, archive, tmp_path):
    run("init", "--data", archive)
    source = load_source(root / "sources/job-7.json")
    stores = converted(source, tmp_path / "one")
    assert [len(stores[split]) for split in ("train", "val", "gate")] == [12, 2, 2]
    assert sum(store.num_people for store in stores.values()) == 24
    names = {s.file_name(i) for s in stores.values() for i in range(len(s))}
    assert "images/train/000000000002.jpg" in names
    assert stores["train"].skeleton == source.keypoints
    again = converted(source, tmp_path / "two")
    assert all(
        again[split].image_ids.tolist() == store.image_ids.tolist()
        for split, store in stores.items()
    )


def converted(source, folder: Path) -> dict[str, Store]:
    raw, out = folder / "raw", folder / "out"
    raw.mkdir(parents=True)
    out.mkdir()
    download(source, raw, root=folder, downloads=folder / "downloads", patience=Patience())
    convert(source, raw, out, gate_fraction=0.15)
    return {split: Store.open(out / split) for split in ("train", "val", "gate")}


def test_pictures_of_other_formats_become_jpegs_with_names_of_their_own(root, archive, tmp_path):
    folder = tmp_path / "labels"
    with zipfile.ZipFile(archive) as content:
        content.extractall(folder)
    annotations = folder / "annotations/person_keypoints_train.json"
    annotations.write_text(annotations.read_text().replace("002.jpg", "002.png"))
    (folder / "images/train/000000000002.jpg").rename(folder / "images/train/000000000002.png")
    assert run("init", "--data", folder).exit_code == 0
    stores = converted(load_source(root / "sources/labels.json"), tmp_path / "raw")
    names = {s.file_name(i) for s in stores.values() for i in range(len(s))}
    assert "images/train/000000000002.png.jpg" in names
    assert len(names) == 16


def test_labels_that_changed_are_refused_until_init_runs_again(root, archive, tmp_path):
    run("init", "--data", archive)
    before = load_source(root / "sources/job-7.json")
    with zipfile.ZipFile(archive) as content:
        document = content.read("annotations/person_keypoints_train.json")
        members = {name: content.read(name) for name in content.namelist()}
    members["annotations/person_keypoints_train.json"] = document.replace(
        b'"iscrowd":0', b'"iscrowd":1', 1
    )
    with zipfile.ZipFile(archive, "w") as content:
        for name, data in members.items():
            content.writestr(name, data)
    with pytest.raises(SourceError, match="take the change in with `rtmo-pipeline init --data"):
        converted(before, tmp_path / "old")
    assert run("init", "--data", archive).exit_code == 0
    after = load_source(root / "sources/job-7.json")
    assert isinstance(before.get, Labels)
    assert before.get.sha256 != after.get.sha256
    converted(after, tmp_path / "new")


def test_published_weights_bring_their_size(root, archive):
    done = run("init", "--data", archive, "--weights", "rtmo-s-body7")
    assert done.exit_code == 0, done.output
    params = load_params(root)
    assert (params.model.size, params.model.input_size) == ("s", 640)
    assert params.train.init_weights == "rtmo-s-body7"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "nowhere"], "nowhere is neither a folder nor a file"),
        (["--data", "sources"], "holds no keypoint labels that are known"),
        (["--data", "{}", "--name", "embedded"], "is not one that init wrote; choose another"),
        (["--data", "{}", "--name", "a/b"], "would not be valid: ('dataset',)"),
        (["--data", "{}", "--weights", "rtmo-s-cocoo"], "did you mean rtmo-s-coco?"),
        (["--data", "{}", "--weights", "no.pth"], "there is no file no.pth"),
        (["--data", "{}", "--flip-pairs", "head"], "--flip-pairs has 'head', expected two words"),
        (["--data", "{}", "--flip-pairs", "head:nose"], "a flip pair names 'nose'"),
        (["--data", "{}", "--sigmas", "head:big"], "--sigmas 'head:big': expected NAME:NUMBER"),
        (["--data", "{}", "--licence", "ours"], "--licence 'ours': expected a name and whether"),
        (["--data", "{}", "--keypoints", "a,b"], "names its keypoints head, l_hand"),
    ],
)
def test_wrong_input_is_explained_and_changes_nothing(root, archive, options, message):
    before = files_of(root)
    done = run("init", *(str(archive) if option == "{}" else option for option in options))
    assert done.exit_code != 0
    assert message in str(done.exception)
    assert type(done.exception).__module__.startswith(("pipelines.", "rtmo."))  # no traceback
    assert files_of(root) == before


def test_at_a_terminal_it_asks_for_what_it_cannot_infer(root, archive, repository, tmp_path):
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "pipelines.cli", "init", "--data", str(archive)]
    command += ["--name", "asked"]
    environment = os.environ | {"PYTHONPATH": str(repository)}
    with subprocess.Popen(command, env=environment, stdin=terminal, stdout=subprocess.PIPE) as init:
        os.write(master, b"ours:yes\n")
        said = init.communicate(timeout=120)[0].decode()
    assert init.returncode == 0, said
    assert "Terms of the pictures" in said
    assert load_source(root / "sources/asked.json").licence.name == "ours"


def test_an_archive_without_pictures_asks_for_them(root, archive, tmp_path):
    with zipfile.ZipFile(archive) as content:
        content.extract("annotations/person_keypoints_train.json", tmp_path / "only")
    done = run("init", "--data", tmp_path / "only")
    assert "'image_file_missing': 16" in str(done.exception)
    assert "Were the pictures exported too?" in str(done.exception)


def test_too_few_pictures_are_refused(root, picture_file, random_records, tmp_path):
    records = random_records(4, FIVE)
    written = write_labels({"train": records}, FIVE, "yolo")
    for name, content in written.documents.items():
        (tmp_path / "few" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "few" / name).write_bytes(content)
    for record in records:
        path = tmp_path / "few" / written.pictures[record.file_name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_file(record.height, record.width, record.id))
    done = run("init", "--data", tmp_path / "few")
    assert "leaves 3 pictures to train on" in str(done.exception)


def test_labels_are_written_for_another_tool_with_their_pictures(root, archive, tmp_path):
    done = run("labels", archive, tmp_path / "yolo", "--to", "yolo")
    assert done.exit_code == 0, done.output
    assert "not in it: ids, areas, outlines" in done.output
    assert len(list((tmp_path / "yolo/images/train").iterdir())) == 16
    assert len(list((tmp_path / "yolo/labels/train").iterdir())) == 12
    done = run("labels", archive, tmp_path / "yolo", "--to", "yolo")
    assert "exists; give a folder that does not" in str(done.exception)


def test_the_source_file_is_readable_json(root, archive):
    run("init", "--data", archive)
    content = json.loads((root / "sources/job-7.json").read_text())
    assert content["get"]["kind"] == "labels"
    assert content["about"] == "Own labels: CVAT's COCO keypoints from Job 7.zip."
