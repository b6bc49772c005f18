"""Own labels: every format there and back, what it is taken for, and what cannot be read."""

import dataclasses
import json

import pytest

from rtmo.formats.findings import Findings, Problem
from rtmo.formats.label_files import LabelFiles
from rtmo.formats.labels import read_labels, write_labels
from rtmo.formats.records import FormatError, ImageRecord, PersonRecord
from rtmo.skeleton import COCO17

FORMATS = ("coco", "cvat", "yolo", "label-studio")
CLOSE = 2e-6
"""Pixels: shares are written with ten digits, and pixels read from them have six decimals."""


def crowd(record, number):
    """The record with a crowd region in front."""
    first = record.people[0]
    region = dataclasses.replace(
        first, id=number, is_crowd=True, keypoints=(0,) * len(first.keypoints), num_keypoints=0
    )
    return dataclasses.replace(record, people=(region, *record.people))


@pytest.fixture
def splits(random_records, nine):
    """A training split with folders in its names, a crowd region and people of every kind."""
    train = [
        dataclasses.replace(record, file_name=f"{'day' if n % 2 else 'night'}/{record.file_name}")
        for n, record in enumerate(random_records(8, nine))
    ]
    train[3] = crowd(train[3], 990)
    val = [
        dataclasses.replace(
            record,
            id=record.id + 5000,
            people=tuple(dataclasses.replace(p, id=p.id + 50_000) for p in record.people),
        )
        for record in random_records(5, nine, seed=1)
    ]
    return {"train": tuple(train), "val": tuple(val)}


def read(files: LabelFiles, **options):
    findings = Findings()
    labels = read_labels(files, findings, **options)
    return labels, {problem.label: count for problem, count in findings.counts.items()}


@pytest.mark.parametrize("kind", ["folder", "zip"])
@pytest.mark.parametrize("to", ["coco", "cvat"])
def test_coco_loses_nothing(export, splits, nine, to, kind):
    labels, found = read(export(splits, to, kind=kind))
    assert found == {}
    assert labels.format == to
    assert labels.skeleton.keypoints == nine.keypoints
    assert labels.skeleton.limbs == nine.limbs
    for split, records in splits.items():
        for before, after in zip(records, labels.splits[split], strict=True):
            assert after.file_name.endswith(before.file_name)
            assert dataclasses.replace(after, file_name=before.file_name) == before


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_yolo_loses_ids_areas_outlines_crowds_and_limbs_only(export, splits, nine, kind):
    labels, found = read(export(splits, "yolo", kind=kind))
    assert found == {}
    assert labels.skeleton.keypoints == nine.keypoints
    assert labels.skeleton.flip_pairs == nine.flip_pairs
    for split, records in splits.items():
        compare(records, labels.splits[split], unlabelled_places=True)


def test_label_studio_loses_in_addition_splits_and_places_of_unlabelled_keypoints(
    export, splits, nine
):
    labels, found = read(export(splits, "label-studio"), keypoints=nine.keypoints)
    assert found == {}
    assert labels.skeleton.keypoints == nine.keypoints
    both = (*splits["train"], *splits["val"])
    assert set(labels.splits) == {"train"}
    compare(both, labels.splits["train"], unlabelled_places=False)


def compare(before, after, *, unlabelled_places):
    """Pictures, sizes, boxes and keypoints are equal; crowd regions are gone."""
    by_name = {record.file_name.rpartition("/")[2] + str(record.width): record for record in after}
    assert len(by_name) == len(before) == len(after)
    for record in before:
        other = by_name[record.file_name.rpartition("/")[2] + str(record.width)]
        assert (other.height, other.width) == (record.height, record.width)
        people = [person for person in record.people if not person.is_crowd]
        for person, found in zip(people, other.people, strict=True):
            assert found.box_xywh == pytest.approx(person.box_xywh, abs=CLOSE)
            assert found.keypoints[2::3] == person.keypoints[2::3]
            assert found.num_keypoints == person.num_keypoints
            kept = [
                (x, y) if v or unlabelled_places else (0, 0)
                for x, y, v in zip(*(person.keypoints[axis::3] for axis in range(3)), strict=True)
            ]
            assert found.keypoints[::3] == pytest.approx([x for x, _ in kept], abs=CLOSE)
            assert found.keypoints[1::3] == pytest.approx([y for _, y in kept], abs=CLOSE)


@pytest.mark.parametrize("to", FORMATS)
def test_what_is_lost_is_said(splits, nine, to):
    lost = " ".join(write_labels(splits, nine, to).lost)
    assert "sigmas" in lost
    assert ("1 crowd regions" in lost) == (to in ("yolo", "label-studio"))


@pytest.mark.parametrize("to", ["yolo", "label-studio"])
def test_pictures_of_unknown_size_cannot_be_written_as_shares(splits, nine, to):
    unsized = [dataclasses.replace(record, height=0, width=0) for record in splits["train"]]
    with pytest.raises(FormatError, match="width and height"):
        write_labels({"train": unsized}, nine, to)


def test_coco_names_bring_coco_order_and_limbs_to_label_studio(export, random_records):
    records = {"train": tuple(random_records(6, COCO17))}
    labels, _ = read(export(records, "label-studio", COCO17))
    assert labels.skeleton.keypoints == COCO17.keypoints
    assert "coco17" in labels.skeleton.remark


def test_seventeen_nameless_keypoints_with_coco_flips_are_coco(export, random_records, files):
    source = export({"train": tuple(random_records(4, COCO17))}, "yolo", COCO17)
    content = {name: source.read(name) for name in source.names}
    kept = [line for line in content["data.yaml"].splitlines() if b"kpt_names" not in line]
    assert len(kept) < len(content["data.yaml"].splitlines())
    content["data.yaml"] = b"\n".join(line for line in kept if not line.startswith(b"  0: [nose"))
    labels, _ = read(files(content))
    assert labels.skeleton.keypoints == COCO17.keypoints
    assert "flip_idx is COCO's" in labels.skeleton.remark


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"notes.txt": "hello"}, r"no keypoint labels that are known: 1 files \(txt\)"),
        ({}, "no keypoint labels that are known: 0 files"),
        ({"a.json": '{"images": ['}, "a.json in .* is no JSON file .* cut short"),
    ],
)
def test_what_holds_no_labels_is_described(files, content, message):
    with pytest.raises(FormatError, match=message):
        read(files(content or {".hidden": "x"}))


def test_two_formats_in_one_place_are_refused(export, splits, files):
    content = {}
    for to in ("coco", "yolo"):
        source = export(splits, to)
        content |= {name: source.read(name) for name in source.names}
    with pytest.raises(FormatError, match="2 formats, COCO or CVAT keypoints and YOLO-pose"):
        read(files(content))


def test_other_names_than_the_files_are_refused(export, splits):
    with pytest.raises(FormatError, match="names its keypoints head, l_hand"):
        read(export(splits, "cvat"), keypoints=("a", "b"))


def test_a_zip_that_is_none_is_named(tmp_path):
    path = tmp_path / "export.zip"
    path.write_text("<html>")
    with pytest.raises(FormatError, match=r"export.zip is no zip archive"):
        LabelFiles(path)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "b/../../a.jpg"])
def test_an_archive_cannot_reach_outside_itself(files, name):
    with pytest.raises(FormatError, match="points outside; refused"):
        files({name: "1"}, "evil.zip")


def test_labels_cannot_name_a_place_outside(export, splits, files, nine):
    source = export({"train": splits["train"]}, "coco")
    document = json.loads(source.read("annotations/person_keypoints_train.json"))
    document["images"][1]["file_name"] = "/../../etc/x.jpg"
    labels, _ = read(files({"a.json": json.dumps(document)}))
    assert labels.splits["train"][1].file_name == "etc/x.jpg"
    written = write_labels(labels.splits, nine, "yolo")
    for name in (*written.documents, *written.pictures.values()):
        assert not {"..", ""} & set(name.split("/"))


def test_a_picture_of_two_possible_places_is_not_guessed(files):
    there = files({"a/x.jpg": "1", "b/x.jpg": "2"})
    with pytest.raises(FormatError, match="may be any of"):
        there.locate("x.jpg")
    assert there.locate("x.jpg", subset="b") == "b/x.jpg"
    assert there.locate("/home/somebody/a/x.jpg") == "a/x.jpg"
    assert there.locate("y.jpg") is None


def test_the_digest_follows_content_and_is_the_same_for_a_folder_and_its_archive(files):
    content = {"a.txt": "1", "b.txt": "2"}
    folder, archive = files(content), files(content, "it.zip")
    assert folder.digest(folder.names) == archive.digest(archive.names)
    changed = files({"a.txt": "1", "b.txt": "3"}, "other")
    assert changed.digest(changed.names) != folder.digest(folder.names)


def test_a_picture_that_is_missing_does_not_get_the_labels_of_another(export, splits, files):
    source = export({"train": splits["train"]}, "coco")
    names = [name for name in source.names if not name.endswith("day/000000000001.jpg")]
    content = {name: source.read(name) for name in names}
    content["train/night/000000000001.jpg"] = b"another"
    labels, _ = read(files(content))
    assert "train/night/000000000001.jpg" in {r.file_name for r in labels.splits["train"]}
    document = json.loads(content["annotations/person_keypoints_train.json"])
    document["images"].append(document["images"][1] | {"id": 9, "file_name": "000000000001.jpg"})
    content["annotations/person_keypoints_train.json"] = json.dumps(document)
    with pytest.raises(FormatError, match="labelled more than once"):
        read(files(content, "again"))


class TestCvat:
    """What CVAT does in its own way."""

    def document(self, **annotation):
        person = {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "keypoints": [1, 2, 2, 3, 4, 1, 5, 6, 0],
            "bbox": [0, 0, 9, 9],
            "attributes": {"occluded": False},
            "segmentation": [],
        }
        return {
            "images": [{"id": 1, "file_name": "x.jpg", "height": 20, "width": 30}],
            "annotations": [person | annotation],
            "categories": [
                {"id": 1, "name": "body", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2]]},
                {"id": 2, "name": "a", "supercategory": "body", "keypoints": [], "skeleton": []},
            ],
        }

    def test_subsets_become_splits_and_find_their_own_pictures(self, files):
        names = ("Train", "Validation", "Test")
        content = {
            f"annotations/person_keypoints_{name}.json": json.dumps(self.document())
            for name in names
        } | {f"images/{name}/x.jpg": name for name in names}
        labels, _ = read(files(content, "cvat.zip"))
        assert labels.format == "cvat"
        assert {s: r[0].file_name for s, r in labels.splits.items()} == {
            "train": "images/Train/x.jpg",
            "val": "images/Validation/x.jpg",
            "gate": "images/Test/x.jpg",
        }
        assert labels.splits["gate"][0].people[0].keypoints == (1, 2, 2, 3, 4, 1, 5, 6, 0)

    def test_files_of_one_split_get_ids_of_their_own(self, files):
        content = {
            f"annotations/person_keypoints_{name}.json": json.dumps(self.document())
            for name in ("monday", "tuesday")
        } | {f"images/{name}/x.jpg": name for name in ("monday", "tuesday")}
        labels, _ = read(files(content))
        records = labels.splits["train"]
        assert [record.id for record in records] == [1, 2]
        assert [person.id for record in records for person in record.people] == [1, 2]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"keypoints": [1, 2, 2]}, r"person_keypoints_x.json .*annotation 1 has 3 numbers"),
            ({"image_id": "1"}, r"person_keypoints_x.json .*image_id '1', expected a whole number"),
        ],
    )
    def test_a_malformed_annotation_is_named_with_its_file(self, files, change, message):
        content = json.dumps(self.document(**change))
        with pytest.raises(FormatError, match=message):
            read(files({"annotations/person_keypoints_x.json": content}))

    def test_a_limb_to_nowhere_is_refused(self, files):
        document = self.document()
        document["categories"][0]["skeleton"] = [[1, 4]]
        with pytest.raises(FormatError, match=r"skeleton has \[1, 4\], expected two numb"):
            read(files({"a.json": json.dumps(document)}))


class TestYolo:
    """Lines and data.yaml, and what can be wrong with them."""

    CONFIG = "train: images\nkpt_shape: [2, {dims}]\nnames: [person]\n"

    def content(self, picture, line, dims=3, config=""):
        return {
            "data.yaml": self.CONFIG.format(dims=dims) + config,
            "images/a.jpg": picture(40, 80),
            "labels/a.txt": line + "\n",
        }

    def test_numbers_are_shares_of_the_picture(self, files, picture_file):
        line = "0 0.5 0.5 0.25 0.5 0.1 0.2 2 0.3 0.4 1"
        labels, _ = read(files(self.content(picture_file, line)))
        (record,) = labels.splits["train"]
        (person,) = record.people
        assert person.box_xywh == pytest.approx((30, 10, 20, 20))
        assert person.keypoints == pytest.approx((8, 8, 2, 24, 16, 1))
        assert labels.skeleton.keypoints == ("keypoint_0", "keypoint_1")
        assert "no names" in labels.skeleton.remark

    def test_a_box_at_the_border_does_not_reach_outside(self, files, picture_file, nine):
        picture = ImageRecord(1, "a.jpg", 96, 128, None, is_turned=False, people=())
        person = PersonRecord(1, (107.3, 31.1, 20.7, 64.9), (0,) * 27, 0, False, None, None)
        records = [dataclasses.replace(picture, people=(person,))]
        content = {"images/train/a.jpg": picture_file(96, 128)}
        content |= write_labels({"train": records}, nine, "yolo").documents
        labels, _ = read(files(content))
        x, y, width, height = labels.splits["train"][0].people[0].box_xywh
        assert x + width <= 128
        assert y + height <= 96

    def test_of_two_numbers_only_zero_zero_is_unlabelled(self, files, picture_file):
        line = "0 0.5 0.5 0.25 0.5 0 0 0 0.4"
        labels, _ = read(files(self.content(picture_file, line, dims=2)))
        assert labels.splits["train"][0].people[0].keypoints[2::3] == (0, 2)

    def test_a_picture_without_a_file_shows_nobody_and_a_file_without_a_picture_is_counted(
        self, files, picture_file
    ):
        content = self.content(picture_file, "0 0.5 0.5 0.25 0.5 0.1 0.2 2 0.3 0.4 1")
        content["images/b.jpg"] = picture_file(30, 30)
        content["labels/lost.txt"] = ""
        labels, found = read(files(content))
        assert [len(record.people) for record in labels.splits["train"]] == [1, 0]
        assert found == {"label_without_picture": 1}

    @pytest.mark.parametrize(
        ("line", "config", "message"),
        [
            ("0 .5 .5 .2 .5 .1 .2 2", "", r"a.txt line 1 .* has 8 numbers, expected 11: class"),
            ("0 .5 .5 .2 .5 .1 .2 2 .3 .4 3", "", r"line 1 .*field 11 is 3, expected v of 0, 1 or"),
            ("0 .5 .5 .2 .5 24 .2 2 .3 .4 1", "", r"line 1 .*field 6 is 24.*are these pixels"),
            ("0 .5 .5 .2 .5 x .2 2 .3 .4 1", "", r"line 1 .*a field that is no number"),
            (
                "",
                "flip_idx: [1, 1]\n",
                r"data.yaml .*flip_idx is \[1, 1\], expected each of 0 to 1",
            ),
            ("", "val: images/val\n", r"data.yaml .*val is 'images/val', where there are no pict"),
            ("", "kpt_names: {0: [a]}\n", r"kpt_shape says 2 keypoints, but there are 1 names: a"),
            ("", "x: [\n", r"data.yaml .* is not YAML"),
        ],
    )
    def test_what_is_malformed_is_named(self, files, picture_file, line, config, message):
        with pytest.raises(FormatError, match=message):
            read(files(self.content(picture_file, line, config=config)))

    def test_lists_of_pictures_and_several_folders_are_followed(self, files, picture_file):
        config = "val: val.txt\n"
        content = self.content(picture_file, "0 .5 .5 .2 .5 .1 .2 2 .3 .4 1", config=config)
        content["data.yaml"] = content["data.yaml"].replace("images", "[../one/images, images]", 1)
        content["one/images/c.jpg"] = picture_file(30, 30)
        content["other/images/d.jpg"] = picture_file(30, 30)
        content["val.txt"] = "./other/images/d.jpg\n"
        labels, _ = read(files(content))
        assert {s: [r.file_name for r in records] for s, records in labels.splits.items()} == {
            "train": ["images/a.jpg", "one/images/c.jpg"],
            "val": ["other/images/d.jpg"],
        }


class TestLabelStudio:
    """Who a keypoint belongs to, and which labelling counts."""

    def region(self, kind, place, **more):
        return {"type": kind, "original_width": 200, "original_height": 100, **more} | {
            "value": dict(zip(("x", "y", "width", "height"), place, strict=False)) | more["value"]
        }

    def box(self, name, *place):
        return self.region("rectanglelabels", place, id=name, value={"rectanglelabels": ["p"]})

    def point(self, label, x, y, parent=None):
        parents = {} if parent is None else {"parentID": parent}
        value = {"keypointlabels": [label]}
        return self.region("keypointlabels", (x, y), id=f"{label}{x}", value=value, **parents)

    def hidden(self, point):
        return point | {"type": "choices", "value": {"choices": ["Occluded"]}}

    def task(self, *results, **annotation):
        data = {"image": "/data/upload/3/1234abcd-a.jpg"}
        return {"id": 7, "data": data, "annotations": [{"result": list(results)} | annotation]}

    def people(self, files, *tasks, **options):
        labels, found = read(
            files({"export.json": json.dumps(tasks), "pictures/a.jpg": "x"}), **options
        )
        return labels.splits["train"][0], found

    def test_percent_become_pixels_and_the_upload_prefix_goes(self, files):
        nose = self.point("nose", 20, 30, "one")
        results = (self.box("one", 10, 20, 30, 40), nose, self.hidden(nose))
        record, _ = self.people(files, self.task(*results))
        assert record.file_name == "pictures/a.jpg"
        assert record.people[0].box_xywh == (20, 20, 60, 40)
        assert record.people[0].keypoints == (40, 30, 1)

    def test_a_parent_wins_over_a_box_and_the_smallest_box_over_others(self, files):
        results = (
            self.box("large", 0, 0, 100, 100),
            self.box("small", 10, 10, 20, 20),
            self.point("nose", 15, 15, "large"),
            self.point("nose", 16, 16),
            self.point("tail", 17, 17),
        )
        record, _ = self.people(files, self.task(*results))
        large, small = record.people
        assert large.keypoints == (30, 15, 2, 0, 0, 0)
        assert small.keypoints == (32, 16, 2, 34, 17, 2)

    def test_a_turned_box_becomes_the_upright_box_around_it(self, files):
        box = self.box("one", 50, 50, 10, 10)
        box["value"]["rotation"] = 90
        record, _ = self.people(files, self.task(box, self.point("nose", 48, 55)))
        assert record.people[0].box_xywh == pytest.approx((90, 50, 10, 20))

    def test_without_boxes_a_picture_has_one_person(self, files):
        record, _ = self.people(files, self.task(self.point("a", 10, 10), self.point("b", 60, 60)))
        assert record.people[0].box_xywh == pytest.approx((10, 0, 120, 70))
        twice = self.task(self.point("a", 10, 10), self.point("a", 60, 60))
        with pytest.raises(FormatError, match=r"task 7 of export.json .*cannot be told apart"):
            self.people(files, twice)

    def test_only_submitted_labellings_count_and_ground_truth_first(self, files):
        cancelled = self.task(self.point("a", 1, 1), was_cancelled=True)
        several = self.task(self.point("a", 10, 10), ground_truth=True)
        several["annotations"].append({"result": [self.point("a", 90, 90)]})
        record, found = self.people(files, cancelled, several)
        assert record.people[0].keypoints[:2] == (20, 10)
        assert found == {"picture_not_labelled": 1, "second_labelling": 1}

    def test_a_stray_keypoint_is_counted(self, files):
        results = (self.box("one", 0, 0, 10, 10), self.point("a", 5, 5), self.point("a", 50, 50))
        record, found = self.people(files, self.task(*results))
        assert record.people[0].num_keypoints == 1
        assert found == {Problem.KEYPOINT_WITHOUT_PERSON.label: 1}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"value": {"keypointlabels": ["a"], "x": "5", "y": 1}}, "has x '5', expected percent"),
            ({"value": {"keypointlabels": ["a", "b"], "x": 5, "y": 1}}, "expected one name"),
            ({"original_width": None}, "original_width None"),
            ({"image_rotation": 90}, "image_rotation 90, expected 0"),
        ],
    )
    def test_what_is_malformed_is_named(self, files, change, message):
        task = self.task(self.point("a", 5, 5) | change)
        with pytest.raises(FormatError, match=rf"task 7 of export.json .*region 'a5' .*{message}"):
            self.people(files, task)
