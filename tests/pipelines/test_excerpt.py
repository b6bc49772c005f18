"""An excerpt of a large dataset: some members of archives of the official layout on a server."""

import io
import json
import mmap
import zipfile

import httpx
import pytest

from pipelines.sources.remote_zip import RemoteZip
from pipelines.sources.schema import Source, SourceError
from pipelines.stages.convert import convert
from pipelines.stages.download import download
from rtmo.fetch import FetchError, Patience, RemoteBytes, TransferError
from rtmo.formats.coco import write_coco
from rtmo.skeleton import COCO17
from tests.file_server import Cut

PATIENCE = Patience(attempts=3, first_pause_s=0.01, timeout_s=2.0)
ANNOTATIONS = "/annotations_trainval2017.zip"
TRAIN = "/train2017.zip"


def packed(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


@pytest.fixture
def documents(random_records):
    """Annotations of 80 training and 20 validation pictures; three in four show people."""
    return {
        split: write_coco(random_records(count, seed=count), COCO17)
        for split, count in (("train", 80), ("val", 20))
    }


@pytest.fixture
def official(file_server, documents, picture_file):
    """Puts archives as COCO's on the server."""
    for split, document in documents.items():
        pictures = {
            f"{split}2017/{image['file_name']}": picture_file(
                image["height"], image["width"], image["id"] + 1000 * (split == "val")
            )
            for image in document["images"]
        }
        file_server.files[f"/{split}2017.zip"] = packed({f"{split}2017/": b""} | pictures)
    annotations = {
        f"annotations/{kind}_{split}2017.json": json.dumps(document).encode()
        for kind in ("captions", "person_keypoints", "instances")
        for split, document in documents.items()
    }
    file_server.files[ANNOTATIONS] = packed(annotations)
    return file_server


@pytest.fixture
def source(official, repository):
    """`sources/coco-small.json` with the local server's addresses: `source(train, val)`."""
    shipped = json.loads((repository / "sources/coco-small.json").read_text())

    def make(train=12, val=4, **changes):
        content = json.loads(json.dumps(shipped))
        for archive in content["get"]["archives"]:
            archive["urls"] = [f"{official.url}/{archive['name']}"]
            archive["bytes"] = len(official.files[f"/{archive['name']}"])
            archive |= changes
        content["get"]["num_images"] = {"train": train, "val": val}
        return Source.model_validate_json(json.dumps(content))

    return make


@pytest.fixture
def get(tmp_path):
    """Runs the stage into a new folder."""

    def run(source, downloads="downloads"):
        out = tmp_path / f"out{len(list(tmp_path.glob('out*')))}"
        out.mkdir()
        folder = tmp_path / downloads
        download(source, out, root=tmp_path, downloads=folder, patience=PATIENCE)
        return out

    return run


def pictures_in(out, split="train"):
    with zipfile.ZipFile(out / f"{split}2017.zip") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_an_excerpt_converts_with_nothing_missing(source, get, tmp_path):
    small = source()
    (tmp_path / "processed").mkdir()
    report = convert(small, get(small), tmp_path / "processed", gate_fraction=0.0)
    assert [report.splits[split].pictures for split in ("train", "val")] == [12, 4]
    for split in report.splits.values():
        assert {problem.action for problem in split.problems.values()} <= {"kept"}


def test_the_pictures_are_the_official_bytes_and_the_rest_is_not_fetched(official, source, get):
    out = get(source(train=5))
    with zipfile.ZipFile(io.BytesIO(official.files[TRAIN])) as archive:
        taken = pictures_in(out)
        assert len(taken) == 5
        assert all(content == archive.read(name) for name, content in taken.items())
    asked = [
        [int(end) for end in asked.removeprefix("bytes=").split("-")]
        for path, asked in official.requests
        if path == TRAIN
    ]
    fetched = sum(last - first + 1 for first, last in asked)
    assert fetched < 0.35 * len(official.files[TRAIN])  # 5 of 80 pictures, and the directory


def test_the_same_excerpt_is_the_same_bytes(source, get):
    first, second = get(source(), "a"), get(source(), "b")
    for path in sorted(first.iterdir()):
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_a_complete_excerpt_needs_no_network(official, source, get):
    get(source())
    official.requests.clear()
    assert len(pictures_in(get(source()))) == 12
    assert official.requests == []


def test_more_pictures_are_the_same_and_more_fewer_leave_none_behind(official, source, get):
    few = pictures_in(get(source(train=6)))
    official.requests.clear()
    many = pictures_in(get(source(train=15)))
    assert few.items() <= many.items()
    for path, members in ((TRAIN, 15 - 6), (ANNOTATIONS, 0)):
        asked = [asked for asked_path, asked in official.requests if asked_path == path]
        first_look_and_directory = 4
        assert len(asked) <= members + first_look_and_directory
    assert pictures_in(get(source(train=6))) == few


def test_broken_transfers_are_continued(official, source, get):
    whole = pictures_in(get(source(), "undisturbed"))
    official.behave = lambda number, _: Cut(700) if number % 2 else None
    assert pictures_in(get(source())) == whole


def test_an_archive_that_changes_while_it_is_read_is_noticed(official, source, get):
    def change(number, path):
        if path == TRAIN and official.etag == '"v1"' and number > 15:
            official.etag = '"v2"'

    official.behave = change
    with pytest.raises(FetchError, match=r"2017\.zip: the file changed while it was being read"):
        get(source())
    assert len(pictures_in(get(source()))) == 12


def test_a_picture_that_is_another_now_is_fetched_again(official, source, get, tmp_path):
    name, content = next(iter(pictures_in(get(source())).items()))
    (tmp_path / "downloads" / name).write_bytes(content[:-1])
    assert pictures_in(get(source()))[name] == content


def test_a_server_without_ranges_is_named(official, source, get):
    official.has_ranges = False
    with pytest.raises(FetchError, match=r"train2017\.zip.*does not serve parts"):
        get(source())


def test_another_size_than_stated_is_refused(source, get):
    with pytest.raises(
        FetchError, match=r"expected 5 of .*: the file has changed; `rtmo-pipeline data refresh`"
    ):
        get(source(bytes=5))


def test_another_version_than_stated_is_refused(official, source, get):
    assert len(pictures_in(get(source(version='"v1"')))) == 12
    official.etag = '"v2"'
    with pytest.raises(FetchError, match=r'of version "v2", expected .* of "v1": the file has ch'):
        get(source(train=13, version='"v1"'))


def test_a_mirror_is_used_where_the_first_address_refuses(official, source, get):
    small = source()
    first = small.get.archives[0]
    mirrored = first.model_copy(update={"urls": (f"{official.url}/gone.zip", *first.urls)})
    changed = small.get.model_copy(update={"archives": (mirrored, *small.get.archives[1:])})
    assert len(pictures_in(get(small.model_copy(update={"get": changed})))) == 12


def test_damage_is_noticed(official, source, get):
    stored = zipfile.ZipFile(io.BytesIO(official.files[TRAIN]))
    names = {name: stored.read(name) for name in stored.namelist()}
    content = bytearray(packed(names, zipfile.ZIP_STORED))
    for name in names:
        at = content.index(names[name]) + 200 if names[name] else 0
        content[at] ^= bool(names[name])
    official.files[TRAIN] = bytes(content)
    with pytest.raises(SourceError, match=r"\.jpg is damaged in .*CRC-32"):
        get(source())


def test_more_pictures_than_there_are_is_explained(source, get):
    with pytest.raises(SourceError, match=r"asks for 61 pictures of people, .* lists 60"):
        get(source(train=61))


def test_a_name_that_leads_out_of_the_folder_is_refused(official, documents, source, get):
    for image in documents["train"]["images"]:
        image["file_name"] = f"../../{image['file_name']}"
    name = "annotations/person_keypoints_train2017.json"
    official.files[ANNOTATIONS] = packed({name: json.dumps(documents["train"])})
    with pytest.raises(SourceError, match="must be a path inside its folder"):
        get(source())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>", "is no JSON file"),
        (b"[]", "holds a list"),
        (b'{"images": []}', "no COCO keypoint annotation file: KeyError"),
    ],
)
def test_other_files_in_the_place_of_annotations_are_explained(
    official, source, get, content, message
):
    name = "annotations/person_keypoints_train2017.json"
    official.files[ANNOTATIONS] = packed({name: content})
    with pytest.raises(SourceError, match=message):
        get(source())


@pytest.fixture
def open_zip(file_server):
    """The archive with this content, through ranges."""
    clients = []

    def make(content):
        file_server.files["/a.zip"] = content
        clients.append(httpx.Client())
        return RemoteZip(RemoteBytes(f"{file_server.url}/a.zip", clients[-1], PATIENCE))

    yield make
    for client in clients:
        client.close()


def test_an_archive_beyond_four_gigabytes_is_read(tmp_path, open_zip):
    """ZIP64: positions that do not fit 32 bits. The file is a hole with an archive at its end."""
    with (tmp_path / "large.zip").open("w+b") as file:
        file.seek(5 << 30)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.txt", b"first")
            archive.writestr("b.txt", b"second" * 1000)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            remote = open_zip(content)
            assert remote.info("b.txt").header_offset > 5 << 30
            assert remote.read("a.txt", 100) == b"first"
            assert remote.read("b.txt", 6000) == b"second" * 1000


def test_more_members_than_sixteen_bits_count_are_read(open_zip):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for number in range(65_600):
            archive.writestr(zipfile.ZipInfo(f"{number}"), b"")
        archive.writestr("last", b"here")
    assert open_zip(file.getvalue()).read("last", 10) == b"here"


def test_a_member_that_unpacks_to_more_than_announced_is_refused(open_zip):
    honest = packed({"bomb.jpg": b"\0" * 1_000_000})
    size = (1_000_000).to_bytes(4, "little")
    lying = honest.replace(size, (100).to_bytes(4, "little"))
    with pytest.raises(SourceError, match=r"bomb\.jpg is damaged .*\(101 bytes"):
        open_zip(lying).read("bomb.jpg", 1000)
    with pytest.raises(SourceError, match="1000000 bytes, expected at most 1000"):
        open_zip(honest).read("bomb.jpg", 1000)


def test_a_busy_server_is_not_taken_for_a_broken_archive(file_server, open_zip):
    file_server.behave = lambda number, _: 503 if number > 1 else None
    with pytest.raises(TransferError, match="answers 503"):
        open_zip(packed({"a": b"b"}))


def test_a_member_that_lies_nowhere_is_refused(open_zip):
    content = bytearray(packed({"a.jpg": b"some bytes"}, zipfile.ZIP_STORED))
    at = content.index(b"PK\1\2") + 42  # position of the local header, in the directory
    content[at : at + 4] = (10_000).to_bytes(4, "little")
    with pytest.raises(SourceError, match=r"no room for a\.jpg"):
        open_zip(bytes(content)).read("a.jpg", 100)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "answers 416"),
        (b"<html>no zip</html>", "is no zip file"),
        (packed({"a": b"b"})[:-3], "is no zip file"),
    ],
)
def test_what_is_no_archive_is_named(open_zip, content, message):
    with pytest.raises((SourceError, FetchError), match=message):
        open_zip(content)
