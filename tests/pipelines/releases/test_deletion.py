"""Deleted pictures are in no split of the next data version, and who saw them is told."""

import json
import shutil

import pytest

from pipelines import deletion
from pipelines.deletion import DeletionError, delete, describe, witnesses
from pipelines.params import load_params
from pipelines.sources.deletions import load_deletions
from pipelines.sources.reading import load_corrections
from pipelines.sources.schema import load_source
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from rtmo.fetch import Patience
from rtmo.formats.corrections import Corrections, Removed
from rtmo.store import Store

SPLITS = ("train", "val", "gate")
FILE_SPLITS = {"train": "train", "val": "val", "gate": "train"}


@pytest.fixture
def dataset(paths, repository):
    """The embedded dataset in a few pictures, two of them with the same bytes; converted."""
    content = json.loads((repository / "sources/embedded.json").read_text())
    content["get"]["config"] |= {"num_images": {"train": 12, "val": 4}, "width": 128, "height": 96}
    for split, locations in content["splits"].items():  # plain files instead of archives
        locations |= {"images": {"path": split}, "annotations": {"path": f"{split}.json"}}
    paths.source("embedded").parent.mkdir()
    paths.source("embedded").write_text(json.dumps(content))
    shutil.copy(repository / "params.yaml", paths.params)
    raw = paths.raw("embedded")
    raw.mkdir(parents=True)
    source = load_source(paths.source("embedded"))
    downloads = paths.downloads("embedded")
    download(source, raw, root=paths.root, downloads=downloads, patience=Patience())
    one, other = json.loads((raw / "train.json").read_text())["images"][:2]
    shutil.copy(raw / "train" / one["file_name"], raw / "train" / other["file_name"])
    convert_again(paths)
    return one["id"], other["id"]


def convert_again(paths):
    out = paths.processed("embedded")
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return convert(
        load_source(paths.source("embedded")),
        paths.raw("embedded"),
        out,
        gate_fraction=0.25,
        corrections=load_corrections(paths.corrections("embedded"), "embedded"),
        deletions={"embedded": load_deletions(paths.deletions("embedded"), "embedded")},
    )


def pictures(paths):
    stores = (Store.open(paths.processed("embedded") / split) for split in SPLITS)
    return {int(image) for store in stores for image in store.image_ids}


def test_a_deleted_picture_goes_with_its_copies_and_its_corrections(paths, dataset):
    one, copy = dataset
    val = Store.open(paths.processed("embedded") / "val")
    row = int(val.people_per_image.nonzero()[0][0])
    person, shown = int(val.people(row).annotation_ids[0]), int(val.image_ids[row])
    corrections = Corrections(
        dataset="embedded", splits={"val": (Removed(image_id=shown, annotation_id=person),)}
    )
    paths.corrections("embedded").parent.mkdir()
    paths.corrections("embedded").write_text(corrections.model_dump_json())
    before = pictures(paths)

    params = load_params(paths.root)
    done = delete(paths, params, "embedded", images=[one], people=[person])
    assert done.images == {"train": (one,), "val": (shown,)}
    assert "no registered version saw them" in list(describe(done))
    report = convert_again(paths)
    assert before - pictures(paths) == {one, copy, shown}
    assert report.deleted == {"train": 2, "val": 1}
    assert load_corrections(paths.corrections("embedded"), "embedded").splits == {}

    again = delete(paths, params, "embedded", images=[one], people=[])
    assert not again.is_new
    assert load_deletions(done.path, "embedded").images == {"train": (one,), "val": (shown,)}


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"images": [987654], "people": []}, "has no picture 987654; ids are those of its"),
        ({"images": [], "people": [987654]}, "has no person 987654"),
        ({"images": [], "people": []}, "give at least one"),
    ],
)
def test_what_is_not_there_cannot_be_deleted(paths, dataset, asked, words):
    with pytest.raises(DeletionError, match=words):
        delete(paths, load_params(paths.root), "embedded", **asked)
    assert not paths.deletions("embedded").exists()


def test_versions_that_saw_a_picture_are_named_from_their_own_data(release, paths):
    release((12.0, 0.0))
    release((0.0, 0.0))
    params = load_params(paths.root)

    def found(image):
        saw = witnesses(paths, params, "embedded", {"train": (image,)}, FILE_SPLITS)
        return {one.version: (one.aliases, one.how) for one in saw}

    assert found(3) == {1: (("previous",), ("judged on",)), 2: (("champion",), ("judged on",))}
    assert found(99) == {}
    shutil.rmtree(paths.root / ".dvc" / "cache")
    assert found(3)[2][1] == ("not known: its data is in neither the cache nor the remote",)
    assert deletion.witnesses(paths, params, "another", {"train": (3,)}, FILE_SPLITS) == ()
