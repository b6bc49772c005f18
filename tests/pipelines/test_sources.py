"""Source files: those we ship are sound, broken ones are explained."""

import json

import pytest

from pipelines.sources.schema import Generator, SourceError, load_source
from rtmo.skeleton import COCO17, CROWDPOSE14


def test_every_shipped_source_is_sound(repository):
    paths = sorted((repository / "sources").glob("*.json"))
    assert {path.stem for path in paths} >= {
        "aic",
        "coco",
        "coco-sample",
        "crowdpose",
        "crowdpose-val",
        "embedded",
        "embedded-crowdpose",
        "halpe",
        "jhmdb",
        "mpii",
        "posetrack18",
    }
    for path in paths:
        source = load_source(path)
        assert (source.format == "coco") == (source.keypoints == COCO17)
        assert (source.format == "crowdpose") == (source.keypoints == CROWDPOSE14)
        assert source.protocol == ("crowdpose" if source.format == "crowdpose" else "coco")


def test_the_crowdpose_variant_of_the_embedded_dataset_is_more_crowded(repository):
    first, second = (
        load_source(repository / "sources" / f"{name}.json").get
        for name in ("embedded", "embedded-crowdpose")
    )
    assert isinstance(first, Generator)
    assert isinstance(second, Generator)
    assert first.config.num_images.keys() == second.config.num_images.keys()
    assert first.config.group_prob < second.config.group_prob
    assert first.config.crowd_weight < second.config.crowd_weight


def test_official_coco_files_have_their_published_sizes_and_checksums(repository, shared):
    stated = (shared / "real/OFFICIAL_FILES.md").read_text()
    source = load_source(repository / "sources/coco.json")
    for file in source.get.files:
        for fact in (str(file.bytes), file.sha256, file.md5):
            assert fact in stated


@pytest.fixture
def write(tmp_path, repository):
    def make(**changes):
        content = json.loads((repository / "sources/coco.json").read_text())
        content |= {"dataset": "mine"} | changes
        path = tmp_path / "mine.json"
        path.write_text(json.dumps(content))
        return path

    return make


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "other"}, "describes the dataset 'other'"),
        ({"licence": {"name": "x", "url": "y"}}, "commercial_use: Field required"),
        ({"skeleton": "coco16"}, "skeleton"),
        ({"formt": "coco"}, "formt: Extra inputs"),
        ({"splits": {}}, "splits"),
        (
            {"splits": {"val": {"images": None, "annotations": {"path": "../up.json"}}}},
            "must be a path inside its folder",
        ),
        (
            {"splits": {"val": {"images": None, "annotations": {"path": "no.json"}}}},
            "split val lies in no.json, not one of",
        ),
    ],
)
def test_a_broken_source_file_is_explained(write, changes, message):
    with pytest.raises(SourceError, match=message):
        load_source(write(**changes))


def test_pictures_in_a_tar_file_are_refused(write):
    in_tar = {"archive": "train2017.tar", "path": "train2017"}
    files = [{"name": "train2017.tar", "urls": ["https://example.org/train2017.tar"]}]
    changes = {
        "get": {"kind": "files", "files": files},
        "splits": {"train": {"images": in_tar, "annotations": in_tar | {"path": "a.json"}}},
    }
    with pytest.raises(SourceError, match="only downloaded annotations may lie in a tar file"):
        load_source(write(**changes))


def test_an_excerpt_names_a_number_for_every_split(write, repository):
    get = json.loads((repository / "sources/coco-small.json").read_text())["get"]
    assert load_source(write(get=get)).get.num_images == {"train": 800, "val": 200}
    del get["num_images"]["val"]
    with pytest.raises(SourceError, match="num_images names \\['train'\\]"):
        load_source(write(get=get))


def test_a_missing_source_file_names_those_that_exist(repository):
    with pytest.raises(SourceError, match="'coco-sample'"):
        load_source(repository / "sources/koko.json")


def test_a_skeleton_may_be_written_out(write):
    skeleton = {
        "name": "arrow",
        "keypoints": ["tip", "end"],
        "flip_pairs": [],
        "limbs": [[0, 1]],
        "sigmas": [0.05, 0.05],
    }
    assert load_source(write(skeleton=skeleton)).keypoints.num_keypoints == 2
