"""The seven sets of the paper's headline: mapped as SPEC section 11 says, read as published."""

import json

import cv2
import numpy as np
import pytest

from pipelines.sources.schema import SourceError, load_source
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from rtmo.fetch import Patience
from rtmo.formats.mapping import keypoint_mapping
from rtmo.formats.records import FormatError
from rtmo.skeleton import COCO17, CROWDPOSE14
from rtmo.store import Store

NO_FACE = dict(zip(range(5, 17), range(12), strict=True))
SPEC = {
    ("aic", "coco"): "0→6 1→8 2→10 3→5 4→7 5→9 6→12 7→14 8→16 9→11 10→13 11→15",
    ("crowdpose", "coco"): "0→5 1→6 2→7 3→8 4→9 5→10 6→11 7→12 8→13 9→14 10→15 11→16",
    ("mpii", "coco"): "0→16 1→14 2→12 3→11 4→13 5→15 10→10 11→8 12→6 13→5 14→7 15→9",
    ("jhmdb", "coco"): "3→6 4→5 5→12 6→11 7→8 8→7 9→14 10→13 11→10 12→9 13→16 14→15",
    ("halpe", "coco"): " ".join(f"{index}→{index}" for index in range(17)),
    ("posetrack18", "coco"): " ".join(f"{k}→{k}" for k in range(17) if k not in (1, 2)),
    ("mpii", "crowdpose"): "13→0 12→1 14→2 11→3 15→4 10→5 3→6 2→7 4→8 1→9 5→10 0→11 9→12 7→13",
    ("coco", "crowdpose"): " ".join(f"{source}→{target}" for source, target in NO_FACE.items()),
    ("halpe", "crowdpose"): " ".join(f"{source}→{target}" for source, target in NO_FACE.items()),
    ("aic", "crowdpose"): "3→0 0→1 4→2 1→3 5→4 2→5 9→6 6→7 10→8 7→9 11→10 8→11 12→12 13→13",
    ("jhmdb", "crowdpose"): "4→0 3→1 8→2 7→3 12→4 11→5 6→6 5→7 10→8 9→9 14→10 13→11 2→12 0→13",
    ("posetrack18", "crowdpose"): " ".join(
        f"{source}→{target}" for source, target in (NO_FACE | {2: 12, 1: 13}).items()
    ),
}


@pytest.mark.parametrize(("source", "target"), SPEC)
def test_keypoints_are_mapped_as_published(repository, source, target):
    pairs = (pair.split("→") for pair in SPEC[source, target].split())
    expected = {int(a): int(b) for a, b in pairs}
    skeleton = load_source(repository / f"sources/{source}.json").keypoints
    assert keypoint_mapping(skeleton, COCO17 if target == "coco" else CROWDPOSE14) == expected


def test_left_and_right_of_every_published_skeleton_change_places(repository):
    for name in ("aic", "mpii", "jhmdb", "halpe", "posetrack18"):
        skeleton = load_source(repository / f"sources/{name}.json").keypoints
        mirrored = [skeleton.keypoints[index] for index in skeleton.flip_permutation]
        swapped = [
            name.replace("left", "*").replace("right", "left").replace("*", "right")
            for name in skeleton.keypoints
        ]
        assert mirrored == swapped


# Each of these writes a set as it is published, one or two pictures a split, into a folder.


def picture(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), cv2.resize(coarse, (64, 48)))


def document(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def points(count, flag=2, start=10):
    return [number for k in range(count) for number in (start + k, start + 2 * k % 30, flag)]


def coco_document(image, person, **category):
    return {
        "images": [{"id": 7} | image],
        "annotations": [{"id": 9, "image_id": 7, "category_id": 1, "iscrowd": 0} | person],
        "categories": [{"id": 1, "name": "person"} | category],
    }


def write_aic(folder):
    for split, tag, dates in (
        ("train", "train", ("20170902", "20170909")),
        ("validation", "validation", ("20170911", "20170911")),
    ):
        base = folder / f"ai_challenger_keypoint_{split}_{dates[0]}"
        flags = [1] * 6 + [2] * 6 + [3, 3]
        pose = [
            n for k, v in enumerate(flags) for n in ((10 + k, 5 + k, v) if v < 3 else (0, 0, 3))
        ]
        document(
            base / f"keypoint_{tag}_annotations_{dates[1]}.json",
            [
                {
                    "url": "http://www.sinaimg.cn/dy/slidenews/4_img.jpg",
                    "image_id": f"{split}{number}",
                    "human_annotations": {"human1": [4, 3, 44, 33], "human2": [1, 1, 9, 9]},
                    "keypoint_annotations": {"human1": pose, "human2": pose},
                }
                for number in (2, 1)
            ],
        )
        for number in (1, 2):
            name = f"keypoint_{tag}_images_{dates[0]}/{split}{number}.jpg"
            picture(base / name, number + 10 * (split == "train"))


def write_mpii(folder):
    for number, split in enumerate(("train", "val")):
        name = f"0156018{number}.jpg"
        person = {
            "joints_vis": [1] * 15 + [0],
            "joints": [[11.0 + k, 21.0 + k] for k in range(15)] + [[-1.0, -1.0]],
            "image": name,
            "scale": 0.1,
            "center": [31.0, 23.5],
        }
        nobody = person | {"center": [-1.0, -1.0], "scale": -1.0}
        document(folder / f"annotations/mpii_{split}.json", [person, nobody])
        picture(folder / "images" / name, number)


def write_jhmdb(folder):
    for number, split in enumerate(("train", "test")):
        name = f"Rename_Images/wave/clip_{split}/00001.png"
        person = {
            "bbox": [5, 6, 30, 40],
            "area": 1200,
            "keypoints": points(15),
            "num_keypoints": 15,
        }
        image = {"file_name": name, "width": 64, "height": 48}
        document(folder / f"annotations/Sub1_{split}.json", coco_document(image, person))
        picture(folder / name, number)


def write_halpe(folder):
    for number, (split, place) in enumerate(
        (("train", "hico_20160224_det/images/train2015"), ("val", "val2017"))
    ):
        name = f"HICO_{split}_00000001.jpg"
        person = {"bbox": [5.0, 6.0, 30.0, 40.0], "keypoints": points(136)}
        image = {"file_name": name, "width": 64, "height": 48}
        document(folder / f"annotations/halpe_{split}_v1.json", coco_document(image, person))
        picture(folder / place / name, number)


def write_posetrack18(folder):
    names = ["nose", "head_bottom", "head_top", "left_ear", "right_ear", *COCO17.keypoints[5:]]
    for number, split in enumerate(("train", "val")):
        for video in (1, 2):
            frame = f"images/{split}/00000{video}_bonn_{split}/000000.jpg"
            person = {
                "bbox_head": [10, 5, 8, 8],
                "track_id": 0,
                "bbox": [5, 6, 30, 40],
                "scores": [],
                "keypoints": points(17, flag=1),
            }
            content = coco_document(
                {"file_name": frame, "is_labeled": True, "vid_id": f"00000{video}"},
                person,
                keypoints=names,
            )
            first = 10**10 + 10**4 * video
            content["images"][0]["id"] = content["annotations"][0]["image_id"] = first
            content["annotations"][0]["id"] = 100 * first
            unlabelled = {"id": first + 1, "file_name": f"{frame[:-5]}1.jpg", "is_labeled": False}
            content["images"].append(unlabelled)
            document(folder / f"annotations/{split}/00000{video}_bonn_{split}.json", content)
            picture(folder / frame, 10 * number + video)


WRITERS = {
    "aic": write_aic,
    "mpii": write_mpii,
    "jhmdb": write_jhmdb,
    "halpe": write_halpe,
    "posetrack18": write_posetrack18,
}


@pytest.fixture
def converted(tmp_path, repository):
    """Writes a set where its source file looks for it, and converts it."""

    def make(name):
        source = load_source(repository / f"sources/{name}.json")
        WRITERS[name](tmp_path / source.get.path)
        raw, out = tmp_path / "raw", tmp_path / "out"
        for folder in (raw, out):
            folder.mkdir()
        download(source, raw, root=tmp_path, downloads=tmp_path / "none", patience=Patience())
        report = convert(source, raw, out, gate_fraction=0.0)
        stores = {split: Store.open(out / split) for split in ("train", "val")}
        return report, stores

    return make


@pytest.mark.parametrize("name", WRITERS)
def test_a_published_set_converts_with_its_licence_and_nothing_lost(converted, name):
    report, stores = converted(name)
    pictures = 2 if name in ("aic", "posetrack18") else 1
    for split, store in stores.items():
        assert len(store) == report.splits[split].pictures == pictures
        assert report.splits[split].people_with_keypoints == store.num_people
        assert store.meta.protocol == "coco"
        assert store.meta.skeleton.num_keypoints == store.column("keypoints").shape[1]
        assert store.meta.licence.url.startswith("http")
        assert store.meta.licence.commercial_use == "unknown"
        for index in range(len(store)):
            assert store.sizes_hw[index].tolist() == [48, 64]
            assert store.read_image(index).shape == (48, 64, 3)
            assert (store.people(index).areas > 0).all()


def test_ai_challenger_says_visible_hidden_and_absent_its_own_way(converted):
    _, stores = converted("aic")
    store = stores["train"]
    assert [store.file_name(index) for index in (0, 1)] == ["train1.jpg", "train2.jpg"]
    assert store.column("boxes_xywh")[0].tolist() == [4, 3, 40, 30]
    assert store.column("keypoints")[0, :, 2].tolist() == [2] * 6 + [1] * 6 + [0, 0]
    assert store.column("keypoints")[0, 3].tolist() == [13, 8, 2]
    assert store.column("num_keypoints").tolist() == [12] * 4
    assert store.people(0).areas[0] == pytest.approx(0.53 * 40 * 30)


def test_mpii_counts_pixels_from_one_and_knows_a_centre_and_a_height(converted):
    report, stores = converted("mpii")
    store = stores["train"]
    assert report.splits["train"].problems["no_box"].count == 1
    assert store.column("keypoints")[0, 0].tolist() == [10, 20, 2]
    assert store.column("keypoints")[0, 15].tolist() == [0, 0, 0]
    # Side 200 x 0.1 around (31 - 1, 23.5 - 1 + 15 x 0.1)
    assert store.column("boxes_xywh")[0].tolist() == pytest.approx([20, 14, 20, 20])


def test_jhmdb_counts_pixels_from_one_and_has_png_frames(converted):
    _, stores = converted("jhmdb")
    store = stores["train"]
    assert store.column("boxes_xywh")[0].tolist() == [4, 5, 30, 40]
    assert store.column("keypoints")[0, 0].tolist() == [9, 9, 2]
    assert store.file_name(0) == "wave/clip_train/00001.png"
    assert store.image_bytes(0)[:4].tobytes() == b"\x89PNG"


def test_halpe_gives_its_body(converted):
    _, stores = converted("halpe")
    assert stores["train"].column("keypoints").shape == (1, 26, 3)
    assert stores["train"].column("keypoints")[0, 25].tolist() == [35, 30, 2]


def test_posetrack_is_one_file_per_video_and_leaves_unlabelled_frames_out(converted):
    _, stores = converted("posetrack18")
    assert stores["train"].image_ids.tolist() == [10_000_010_000, 10_000_020_000]
    assert stores["train"].file_name(1) == "train/000002_bonn_train/000000.jpg"


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_that_is_not_there_says_what_to_put_where(repository, tmp_path, name):
    source = load_source(repository / f"sources/{name}.json")
    with pytest.raises(SourceError, match=f"downloads/{name} does not exist.*http"):
        download(source, tmp_path, root=tmp_path, downloads=tmp_path, patience=Patience())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("aic", {"images": []}, 'valid list.*"format": "coco"'),
        ("aic", [{"image_id": "a", "human_annotations": []}], "dictionary.*human_annotations"),
        ("mpii", [{"image": "a.jpg"}], "no list of MPII people .*required.*joints"),
        ("halpe", [], "holds a list, expected an object"),
        ("posetrack18", {"images": []}, "no list of objects 'annotations'"),
    ],
)
def test_another_format_under_that_name_is_explained(repository, tmp_path, name, content, message):
    source = load_source(repository / f"sources/{name}.json")
    folder = tmp_path / source.get.path
    WRITERS[name](folder)
    for path in folder.rglob("*.json"):
        document(path, content)
    raw, out = tmp_path / "raw", tmp_path / "out"
    raw.mkdir()
    download(source, raw, root=tmp_path, downloads=tmp_path / "none", patience=Patience())
    with pytest.raises(FormatError, match=message):
        convert(source, raw, out, gate_fraction=0.0)
