"""Stage `convert`: stores, the gate, leaks, and everything counted."""

import hashlib
import io
import json
import zipfile

import pytest
from rich.console import Console

from pipelines.conversion.report import report_table
from pipelines.sources.archives import write_archive
from pipelines.sources.schema import Source, SourceError, load_source
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from rtmo.fetch import Patience
from rtmo.formats.coco import write_coco
from rtmo.formats.records import FormatError
from rtmo.skeleton import COCO17
from rtmo.store import Store

SPLITS = ("train", "val", "gate")


@pytest.fixture
def layout(tmp_path, repository, picture_file, random_records):
    """Writes archives in COCO's layout: `layout(train, val, pictures)`; gives source and folder."""

    def make(train=None, val=None, pictures=None):
        raw = tmp_path / "raw"
        raw.mkdir()
        train = random_records(20) if train is None else train
        val = random_records(6, seed=1) if val is None else val
        documents = {}
        for split, records in (("train", train), ("val", val)):
            members = [
                (
                    f"{split}2017/{record.file_name}",
                    (pictures or {}).get(
                        (split, record.id),
                        picture_file(
                            record.height, record.width, record.id + 1000 * (split == "val")
                        ),
                    ),
                )
                for record in records
            ]
            write_archive(raw / f"{split}2017.zip", [m for m in members if m[1] is not None])
            documents[split] = write_coco(records, COCO17)
        write_archive(
            raw / "annotations_trainval2017.zip",
            [
                (f"annotations/person_keypoints_{split}2017.json", json.dumps(document).encode())
                for split, document in documents.items()
            ],
        )
        return load_source(repository / "sources/embedded.json"), raw

    return make


def converted(source, raw, out, gate_fraction=0.2):
    out.mkdir()
    report = convert(source, raw, out, gate_fraction=gate_fraction)
    return report, {split: Store.open(out / split) for split in SPLITS}


def test_train_and_gate_share_the_training_pictures(layout, tmp_path):
    report, stores = converted(*layout(), tmp_path / "out")
    train, gate = (set(stores[split].image_ids.tolist()) for split in ("train", "gate"))
    assert len(gate) == 4
    assert len(train) == 16
    assert train.isdisjoint(gate)
    assert len(stores["val"]) == 6
    assert report.splits["gate"].pictures_in_file == 20
    assert stores["gate"].meta.split == "gate"
    assert json.loads((tmp_path / "out/report.json").read_text())["dataset"] == "embedded"


def test_two_conversions_give_the_same_bytes(layout, tmp_path):
    source, raw = layout()
    for name in ("a", "b"):
        converted(source, raw, tmp_path / name)
    files = {
        name: {
            path.relative_to(tmp_path / name): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in (tmp_path / name).rglob("*")
            if path.is_file()
        }
        for name in ("a", "b")
    }
    assert files["a"] == files["b"]
    assert len(files["a"]) > 60


def test_converting_back_gives_the_annotations_of_the_file(layout, tmp_path, random_records):
    records = random_records(20)
    _, stores = converted(*layout(train=records), tmp_path / "out", gate_fraction=0.0)
    assert stores["train"].to_coco() == write_coco(records, COCO17)
    assert len(stores["gate"]) == 0


def test_every_fault_of_a_picture_is_counted(layout, tmp_path, picture_file):
    pictures = {
        ("train", 11): None,
        ("train", 21): picture_file(60, 60)[:-30],
        ("train", 31): b"<html>not a picture</html>",
        ("train", 51): picture_file(33, 44),
    }
    report, stores = converted(*layout(pictures=pictures), tmp_path / "out", gate_fraction=0.0)
    problems = report.splits["train"].problems
    counted = {label: problem.count for label, problem in problems.items()}
    assert counted["image_file_missing"] == 1
    assert counted["image_truncated"] == 1
    assert counted["image_unreadable"] == 1
    assert counted["image_size_wrong"] == 1
    assert problems["image_truncated"].examples == ("image 21 (000000000002.jpg)",)
    train = stores["train"]
    assert len(train) == report.splits["train"].pictures == 17
    index = train.image_ids.tolist().index(51)
    assert train.sizes_hw[index].tolist() == [33, 44]
    assert train.read_image(index).shape == (33, 44, 3)


def test_pictures_and_findings_keep_their_order_on_any_number_of_cores(
    layout, tmp_path, monkeypatch, picture_file
):
    wrong = {("train", 10 * number + 1): picture_file(30, 30, number) for number in range(2, 20, 2)}
    source, raw = layout(pictures=wrong | {("train", 31): b"no picture"})
    hashes = set()
    for cores in (1, 2, 7):
        monkeypatch.setattr("os.cpu_count", lambda cores=cores: cores)
        out = tmp_path / f"on{cores}"
        report, _ = converted(source, raw, out, gate_fraction=0.0)
        examples = report.splits["train"].problems["image_size_wrong"].examples
        assert [line.split()[1] for line in examples] == ["21", "41", "61", "81", "101"]
        files = sorted(path for path in out.rglob("*") if path.is_file())
        contents = b"".join(path.read_bytes() for path in files)
        hashes.add(hashlib.sha256(contents).hexdigest())
    assert len(hashes) == 1


def test_a_training_picture_that_is_also_in_val_is_dropped(layout, tmp_path, picture_file):
    same = picture_file(64, 64, seed=77)
    pictures = {("train", 31): same, ("val", 11): same}
    report, stores = converted(*layout(pictures=pictures), tmp_path / "out", gate_fraction=0.0)
    assert report.splits["train"].problems["train_image_held_out"].count == 1
    assert 31 not in stores["train"].image_ids
    assert 11 in stores["val"].image_ids


def test_a_training_split_without_people_is_an_error(layout, tmp_path, random_records):
    with pytest.raises(SourceError, match="split train of embedded has 1 usable pictures of 1"):
        converted(*layout(train=random_records(1)), tmp_path / "out", gate_fraction=0.0)


def test_an_archive_that_is_not_there_is_no_broken_json(layout, tmp_path):
    source, raw = layout()
    (raw / "annotations_trainval2017.zip").unlink()
    with pytest.raises(SourceError, match=r"2017\.zip is missing; run `dvc repro download`"):
        converted(source, raw, tmp_path / "out")


def test_annotations_cut_short_are_named(layout, tmp_path):
    source, raw = layout()
    name = "annotations/person_keypoints_train2017.json"
    with zipfile.ZipFile(raw / "annotations_trainval2017.zip") as archive:
        content = archive.read(name)
    write_archive(raw / "annotations_trainval2017.zip", [(name, content[:-9])])
    with pytest.raises(FormatError, match="was it cut short"):
        converted(source, raw, tmp_path / "out")


@pytest.mark.parametrize("name", ["embedded", "embedded-crowdpose"])
def test_the_embedded_dataset_converts_without_a_repair(repository, tmp_path, name):
    content = json.loads((repository / f"sources/{name}.json").read_text())
    content["get"]["config"]["num_images"] = {"train": 12, "val": 4}
    source = Source.model_validate_json(json.dumps(content))
    raw = tmp_path / "raw"
    raw.mkdir()
    download(source, raw, root=tmp_path, downloads=tmp_path / "downloads", patience=Patience())
    report, stores = converted(source, raw, tmp_path / "out")
    assert [len(stores[split]) for split in SPLITS] == [10, 4, 2]
    for split in report.splits.values():
        assert {problem.action for problem in split.problems.values()} <= {"kept"}
    assert stores["val"].meta.protocol == source.format
    assert ("crowdIndex" in stores["val"].to_coco()["images"][0]) == (name != "embedded")


def test_official_crowdpose_annotations_convert_without_pictures(shared, repository, tmp_path):
    source = load_source(repository / "sources/crowdpose-val.json")
    report, stores = converted(source, shared / "real/crowdpose", tmp_path / "out")
    official = json.loads((shared / "real/crowdpose/crowdpose_val.json").read_text())
    by_id = {annotation["id"]: annotation for annotation in official["annotations"]}
    back = stores["val"].to_coco()["annotations"]
    assert {annotation["id"]: annotation for annotation in back} == by_id
    assert report.missing_splits == ("train",)
    assert report.splits["val"].people == 8527


def test_crowdpose_pictures_that_are_not_there_are_counted(shared, repository, tmp_path):
    content = json.loads((repository / "sources/crowdpose-val.json").read_text())
    content["splits"]["val"]["images"] = {"path": "images"}
    both = {"images": {"path": "images"}, "annotations": {"path": "two_images.json"}}
    content["splits"]["train"] = both
    source = Source.model_validate_json(json.dumps(content))
    with pytest.raises(SourceError, match="'image_file_missing': 2000"):
        converted(source, shared / "real/crowdpose", tmp_path / "out")


def test_official_coco_pictures_convert_with_nothing_to_repair(shared, repository, tmp_path):
    source = load_source(repository / "sources/coco-sample.json")
    folder = source.get.model_copy(update={"path": str(shared / "real/coco-original")})
    source = source.model_copy(update={"get": folder})
    raw = tmp_path / "raw"
    raw.mkdir()
    download(source, raw, root=tmp_path, downloads=tmp_path / "downloads", patience=Patience())
    report, stores = converted(source, raw, tmp_path / "out", gate_fraction=0.0)
    assert [len(stores[split]) for split in SPLITS] == [14, 14, 0]
    for split in report.splits.values():
        assert {problem.action for problem in split.problems.values()} <= {"kept"}


def test_the_table_shows_every_finding_once(layout, tmp_path, picture_file):
    pictures = {("train", 21): picture_file(60, 60)[:-30], ("val", 21): None}
    report, _ = converted(*layout(pictures=pictures), tmp_path / "out", gate_fraction=0.0)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(report_table(report))
    rows = [line.split("│") for line in console.export_text().splitlines()]
    found = {row[1].strip(): [cell.strip() for cell in row[2:6]] for row in rows if len(row) > 6}
    assert found["image_truncated"] == ["1", "", "", "dropped"]
    assert found["image_file_missing"] == ["", "1", "", "dropped"]
    assert found["pictures in the file"] == ["20", "6", "20", ""]


def test_the_number_of_files_does_not_grow_with_the_pictures(layout, tmp_path):
    _, stores = converted(*layout(), tmp_path / "out")
    files = {
        split: {file.name for file in store.folder.iterdir()} for split, store in stores.items()
    }
    assert len({len(store) for store in stores.values()}) == 3
    assert files["train"] == files["val"] == files["gate"]
