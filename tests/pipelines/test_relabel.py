"""Round: labels with planted errors -> what a tool imports -> corrected -> a new data version."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.relabel import (
    RelabelError,
    describe,
    doubtful_images,
    tag_for_relabel,
    take_corrections,
    write_doubtful,
)
from pipelines.sources.reading import load_corrections
from pipelines.sources.schema import SourceError, load_source
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from rtmo.fetch import Patience
from rtmo.formats.records import FormatError
from rtmo.model import build_rtmo
from rtmo.model.weights import save_weights
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton
from rtmo.store import Store

PLANTED = 20
VAL_IMAGES = 40
MIRROR = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Path:
    """The embedded dataset, a few pictures of it, as `download` leaves it, and its source file."""
    root = tmp_path_factory.mktemp("drawn")
    draw(root, repository, {"train": 4, "val": VAL_IMAGES})
    return root


def draw(root: Path, repository: Path, num_images: dict[str, int]) -> None:
    content = json.loads((repository / "sources/embedded.json").read_text())
    content["get"]["config"]["num_images"] = num_images
    # Plain files instead of archives, so that labels can be spoilt by hand.
    for split, locations in content["splits"].items():
        locations["images"] = {"path": split}
        locations["annotations"] = {"path": f"{split}.json"}
    paths = Paths(root, root)
    paths.source("embedded").parent.mkdir()
    paths.source("embedded").write_text(json.dumps(content))
    raw = paths.raw("embedded")
    raw.mkdir(parents=True)
    source = load_source(paths.source("embedded"))
    download(source, raw, root=root, downloads=root / "downloads", patience=Patience())
    shutil.copy(repository / "params.yaml", paths.params)


@pytest.fixture
def workspace(drawn: Path, tmp_path: Path) -> tuple[Paths, set[int]]:
    """A workspace whose validation labels have left and right exchanged on 20 people, with the
    detections of a model that knows better; and the ids of those people.
    """
    shutil.copytree(drawn, tmp_path / "w")
    paths = Paths(tmp_path / "w", tmp_path / "w")
    planted, results = spoil(paths, "val")
    paths.report("evaluate").mkdir(parents=True)
    (paths.report("evaluate") / "detections.json").write_text(json.dumps(results))
    convert_again(paths)
    return paths, planted


def spoil(paths: Paths, split: str) -> tuple[set[int], list[dict]]:
    """Exchange left and right of 20 people of a file; their ids, and detections as they were."""
    file = paths.raw("embedded") / f"{split}.json"
    document = json.loads(file.read_text())
    rng = np.random.default_rng(0)
    people = [one for one in document["annotations"] if one["num_keypoints"] > 3]
    results = [
        {
            "image_id": one["image_id"],
            "category_id": 1,
            "keypoints": jittered(one, rng),
            "score": rng.uniform(0.5, 0.95),
        }
        for one in people
    ]
    planted = rng.choice([i for i, one in enumerate(people) if is_frontal(one)], PLANTED, False)
    for index in planted:
        points = np.array(people[index]["keypoints"]).reshape(17, 3)
        people[index]["keypoints"] = points[MIRROR].ravel().tolist()
    file.write_text(json.dumps(document))
    return {people[index]["id"] for index in planted}, results


def is_frontal(annotation: dict) -> bool:
    """Left and right are apart, so that an exchange can be seen at all."""
    points = np.array(annotation["keypoints"]).reshape(17, 3)
    both = (points[:, 2] > 0) & (points[MIRROR, 2] > 0)
    apart = np.linalg.norm(points[both, :2] - points[MIRROR][both, :2], axis=1)
    return bool(both.sum() > 8 and apart.mean() > 0.25 * np.sqrt(annotation["area"]))


def jittered(annotation: dict, rng: np.random.Generator) -> list[float]:
    points = np.array(annotation["keypoints"], dtype=float).reshape(17, 3)
    points[:, :2] += rng.normal(0, 0.02 * np.sqrt(annotation["area"]), (17, 2))
    points[:, 2] = rng.uniform(0.6, 1.0, 17)
    return points.ravel().tolist()


def convert_again(paths: Paths, split: str = "val", gate_fraction: float = 0.0) -> Store:
    out = paths.processed("embedded")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    corrections = load_corrections(paths.corrections("embedded"), "embedded")
    convert(
        load_source(paths.source("embedded")),
        paths.raw("embedded"),
        out,
        gate_fraction=gate_fraction,
        corrections=corrections,
    )
    return Store.open(out / split)


def labels(store: Store) -> dict[int, list[float]]:
    return {one["id"]: one["keypoints"] for one in store.to_coco()["annotations"]}


def from_the_tool(document: dict, planted: set[int]) -> dict:
    """Somebody put left and right in order; the tool counted pictures and people anew."""
    new_ids = {image["id"]: number for number, image in enumerate(document["images"], start=1)}
    images = [{**image, "id": new_ids[image["id"]]} for image in document["images"]]
    annotations = []
    for number, one in enumerate(document["annotations"], start=1):
        points = np.array(one["keypoints"]).reshape(17, 3)
        if one["id"] in planted:
            points = points[MIRROR]
        if one["num_keypoints"]:
            fixed = points.round(2).ravel().tolist()
            ids = {"id": number, "image_id": new_ids[one["image_id"]]}
            annotations.append({**one, **ids, "keypoints": fixed})
    return {**document, "images": images, "annotations": annotations}


def test_planted_errors_go_out_by_name_and_come_back_corrected(workspace):
    paths, planted = workspace
    params = load_params(paths.root)
    spoilt = convert_again(paths)
    assert spoilt.meta.corrections is None
    tagged = tag_for_relabel(paths, params, 1000)

    # Out: each planted person is named, as exchanged, and nothing else is.
    reasons = (tagged.folder / "reasons.md").read_text()
    named = re.findall(r"\| (\d+) \| [\d.]+ \| left and right look exchanged", reasons)
    assert {int(number) for number in named} == planted
    document = json.loads((tagged.folder / "annotations/person_keypoints_val.json").read_text())
    assert len(document["images"]) == len(tagged.images)
    for image in document["images"]:
        assert (tagged.folder / "images" / image["file_name"]).is_file()
    assert all({"segmentation", "area", "bbox"} <= set(one) for one in document["annotations"])

    # Back: exactly these people change, and the data say so.
    returned = paths.root / "returned.json"
    returned.write_text(json.dumps(from_the_tool(document, planted)))
    taken = take_corrections(paths, params, returned)
    assert {one.annotation_id for one in taken.corrections} == planted
    assert {one.action for one in taken.corrections} == {"changed"}
    assert f"{PLANTED} changed, 0 added, 0 removed" in describe(taken)
    corrected = convert_again(paths)
    assert corrected.meta.corrections.changed == PLANTED
    before, after = labels(spoilt), labels(corrected)
    assert {number for number in before if before[number] != after[number]} == planted
    for number in planted:
        mended = np.array(before[number]).reshape(17, 3)[MIRROR]
        np.testing.assert_allclose(np.array(after[number]).reshape(17, 3), mended, atol=0.01)

    # Nothing is left to doubt, and the same file again is no news.
    assert "left and right look exchanged" not in tag_for_relabel(paths, params, 1000).reasons
    again = take_corrections(paths, params, returned)
    assert not again.is_new
    assert "says that already" in describe(again)


@pytest.fixture
def training(tmp_path: Path, repository: Path) -> tuple[Paths, set[int], list[dict]]:
    """A workspace with the planted errors in the training labels, and good detections."""
    paths = Paths(tmp_path, tmp_path)
    draw(tmp_path, repository, {"train": VAL_IMAGES, "val": 4})
    return paths, *spoil(paths, "train")


def test_errors_planted_in_training_and_gate_labels_make_the_round(training):
    """The gate is part of the training file: its people are corrected there."""
    paths, planted, results = training
    params = load_params(paths.root)
    fraction = 0.3
    named: dict[str, set[int]] = {}
    documents = {}
    spoilt = {}
    for split in ("train", "gate"):
        spoilt[split] = store = convert_again(paths, split, fraction)
        here = [one for one in results if one["image_id"] in store.image_ids]
        if split == "gate":
            paths.report("evaluate").mkdir(parents=True)
            (paths.report("evaluate") / "gate_detections.json").write_text(json.dumps(here))
            tagged = tag_for_relabel(paths, params, 1000, "gate")
        else:
            tagged = write_doubtful(paths, store, doubtful_images(store, here))
        reasons = (tagged.folder / "reasons.md").read_text()
        found = re.findall(r"\| (\d+) \| [\d.]+ \| left and right look exchanged", reasons)
        named[split] = {int(number) for number in found}
        assert ("The model was trained with these labels" in reasons) == (split == "train")
        file = tagged.folder / f"annotations/person_keypoints_{split}.json"
        documents[split] = json.loads(file.read_text())
        spoilt[split] = labels(store)
    assert named["train"] | named["gate"] == planted
    assert named["gate"]
    assert not named["train"] & named["gate"]

    returned = paths.root / "returned.json"
    for split, document in documents.items():
        returned.write_text(json.dumps(from_the_tool(document, planted)))
        taken = take_corrections(paths, params, returned, split)
    # One file of labels, one list of corrections; the second file keeps what the first brought.
    assert {one.annotation_id for one in taken.corrections} == planted
    kept = load_corrections(paths.corrections("embedded"), "embedded")
    assert set(kept.splits) == {"train"}
    for split, before in spoilt.items():
        store = convert_again(paths, split, fraction)
        after = labels(store)
        assert set(after) == set(before)
        assert {one for one in before if before[one] != after[one]} == named[split]
        assert store.meta.corrections.changed == len(named[split])


def test_on_the_training_split_the_trained_model_is_asked(training):
    paths, _, _ = training
    params = load_params(paths.root)
    convert_again(paths, "train")
    with pytest.raises(RelabelError, match="run `dvc repro train` first"):
        tag_for_relabel(paths, params, 5, "train")
    paths.trained.mkdir(parents=True)
    weights = paths.trained / "weights.safetensors"
    untrained(weights, CROWDPOSE14)
    with pytest.raises(RelabelError, match="finds skeleton 'crowdpose14'"):
        tag_for_relabel(paths, params, 5, "train")
    untrained(weights, COCO17)
    tagged = tag_for_relabel(paths, params, 5, "train")
    assert tagged.folder.name == "embedded-train"
    assert len(tagged.images) == 5
    # It has learnt nothing: everybody is missed, which is what the page says.
    assert set(tagged.reasons) == {"labelled person whom no detection is about"}
    assert "high loss" in (tagged.folder / "reasons.md").read_text()


def untrained(path: Path, skeleton: Skeleton) -> None:
    metadata = {
        "format": "rtmo",
        "size": "t",
        "input_size": "96",
        "skeleton": skeleton.model_dump_json(),
        "stage_hash": "0" * 64,
        "dataset": "embedded",
        "licence": "{}",
    }
    torch.manual_seed(0)
    save_weights(build_rtmo("t", skeleton), path, metadata)


def test_a_split_without_pictures_is_named(workspace):
    paths, _ = workspace
    with pytest.raises(RelabelError, match="has no pictures"):
        tag_for_relabel(paths, load_params(paths.root), 5, "gate")


def test_no_more_pictures_than_asked_for_and_those_with_the_strongest_doubts(workspace):
    paths, _ = workspace
    tagged = tag_for_relabel(paths, load_params(paths.root), 3)
    assert len(list((tagged.folder / "images").rglob("*.*"))) == 3
    strengths = [those[0].strength for _, those in tagged.images]
    assert strengths == sorted(strengths, reverse=True)


def test_what_the_champion_found_and_this_model_did_not_is_a_reason(workspace):
    paths, planted = workspace
    file = paths.report("evaluate") / "detections.json"
    results = json.loads(file.read_text())
    store = convert_again(paths)
    own = next(one for one in store.to_coco()["annotations"] if one["id"] not in planted)
    others = [one for one in results if one["image_id"] != own["image_id"]]
    file.write_text(json.dumps(others))
    paths.report("inspect").mkdir()
    champion = {"status": "available", "name": "version 3", "detections": results}
    (paths.report("inspect") / "champion.json").write_text(json.dumps(champion))
    reasons = (
        tag_for_relabel(paths, load_params(paths.root), 1000).folder / "reasons.md"
    ).read_text()
    lines = [line for line in reasons.splitlines() if "found well by one model only" in line]
    (picture,) = {line.split("|")[1].strip() for line in lines}
    names = {image["id"]: image["file_name"] for image in store.to_coco()["images"]}
    assert picture == names[own["image_id"]]


def test_tagging_again_gives_the_same_bytes(workspace):
    paths, _ = workspace
    hashes = []
    for _ in range(2):
        folder = tag_for_relabel(paths, load_params(paths.root), 5).folder
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert hashes[0] == hashes[1]


def test_what_cannot_be_done_is_said(workspace, tmp_path):
    paths, _ = workspace
    params = load_params(paths.root)
    (paths.report("evaluate") / "detections.json").unlink()
    with pytest.raises(RelabelError, match="run `dvc repro evaluate` first"):
        tag_for_relabel(paths, params, 5)
    wrong = tmp_path / "file.json"
    with pytest.raises(RelabelError, match="does not exist"):
        take_corrections(paths, params, wrong)
    wrong.write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(RelabelError, match="has to be unpacked"):
        take_corrections(paths, params, wrong)
    wrong.write_text(json.dumps([{"image_id": 1}]))
    with pytest.raises(FormatError, match="expected an object with"):
        take_corrections(paths, params, wrong)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"dataset": "coco"}', "corrects the dataset 'coco', expected 'embedded'"),
        ('{"dataset": "embedded", "splits": {"val": [{"action": "moved"}]}}', "splits.val.0"),
        ("{", "Invalid JSON"),
    ],
)
def test_a_broken_corrections_file_is_explained(tmp_path, content, message):
    path = tmp_path / "embedded.json"
    path.write_text(content)
    with pytest.raises(SourceError, match=message):
        load_corrections(path, "embedded")


def test_corrections_of_a_split_without_a_file_are_refused(workspace):
    paths, _ = workspace
    path = paths.corrections("embedded")
    path.parent.mkdir(exist_ok=True)
    removed = {"action": "removed", "image_id": 1, "annotation_id": 1}
    path.write_text(json.dumps({"dataset": "embedded", "splits": {"gate": [removed]}}))
    with pytest.raises(SourceError, match="name the split gate"):
        convert_again(paths)
