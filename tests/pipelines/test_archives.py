"""Archives: the same bytes every time, and nothing outside their folder."""

import io
import tarfile
import zipfile

import pytest

from pipelines.sources.archives import open_pictures, read_annotations, write_archive
from pipelines.sources.schema import Location, SourceError

IN_ARCHIVE = Location(archive="a.zip", path="pictures")
IN_FOLDER = Location(path="pictures")


def test_the_same_members_give_the_same_bytes(tmp_path):
    (tmp_path / "b.bin").write_bytes(b"second")
    members = [("pictures/a.jpg", b"first"), ("pictures/b.jpg", tmp_path / "b.bin")]
    contents = set()
    for name in ("one.zip", "two.zip"):
        write_archive(tmp_path / name, members)
        contents.add((tmp_path / name).read_bytes())
        (tmp_path / "b.bin").touch()
    assert len(contents) == 1


@pytest.mark.parametrize("location", [IN_ARCHIVE, IN_FOLDER])
def test_pictures_are_read_from_archives_and_folders_alike(tmp_path, location):
    write_archive(tmp_path / "a.zip", [("pictures/x/a.jpg", b"first")])
    (tmp_path / "pictures/x").mkdir(parents=True)
    (tmp_path / "pictures/x/a.jpg").write_bytes(b"first")
    with open_pictures(tmp_path, location) as pictures:
        assert "x/a.jpg" in pictures
        assert "a.jpg" not in pictures
        assert pictures.read("x/a.jpg") == b"first"
        assert pictures.fingerprint("x/a.jpg") == (5, zipfile.crc32(b"first"))
        with pytest.raises(KeyError):
            pictures.read("b.jpg")
        for name in ("../secret.jpg", "/etc/passwd", "x/../../secret.jpg"):
            with pytest.raises(SourceError, match="points outside"):
                pictures.read(name)


def test_a_member_that_is_too_large_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.sources.archives.LARGEST_PICTURE", 100)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pictures/bomb.jpg", b"\0" * 1_000_000)
    with (
        open_pictures(tmp_path, IN_ARCHIVE) as pictures,
        pytest.raises(SourceError, match="1000000 bytes, too many"),
    ):
        pictures.read("bomb.jpg")


def test_damage_is_named(tmp_path):
    write_archive(tmp_path / "a.zip", [("pictures/a.jpg", b"some bytes")])
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"some bytes", b"SOME bytes"))
    with (
        open_pictures(tmp_path, IN_ARCHIVE) as pictures,
        pytest.raises(SourceError, match=r"a\.jpg is damaged"),
    ):
        pictures.read("a.jpg")


@pytest.mark.parametrize("prefix", ["", "./"])
def test_annotations_are_read_from_a_tar_file(tmp_path, prefix):
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("train.json", b"{}"), ("val.json", b"[1]")):
            info = tarfile.TarInfo(prefix + name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        archive.addfile(tarfile.TarInfo("link.txt"))
    assert read_annotations(tmp_path, Location(archive="a.tar", path="val.json")) == b"[1]"
    with pytest.raises(
        SourceError, match=r"no member test\.json; its JSON files are .'train\.json'"
    ):
        read_annotations(tmp_path, Location(archive="a.tar", path="test.json"))
    (tmp_path / "page.tar").write_text("<html>quota exceeded</html>")
    with pytest.raises(SourceError, match="no tar file"):
        read_annotations(tmp_path, Location(archive="page.tar", path="test.json"))
    with pytest.raises(SourceError, match="is missing; run `dvc repro download`"):
        read_annotations(tmp_path, Location(archive="no.tar", path="test.json"))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(SourceError, match="is missing; run `dvc repro download`"):
        read_annotations(tmp_path, Location(archive="no.zip", path="a.json"))
    with pytest.raises(SourceError, match="is missing; run `dvc repro download`"):
        read_annotations(tmp_path, Location(path="a.json"))
    (tmp_path / "page.zip").write_text("<html>quota exceeded</html>")
    with pytest.raises(SourceError, match="no zip file"):
        read_annotations(tmp_path, Location(archive="page.zip", path="a.json"))
    write_archive(tmp_path / "a.zip", [("annotations/b.json", b"{}")])
    with pytest.raises(SourceError, match=r"no member a\.json.*annotations/b\.json"):
        read_annotations(tmp_path, Location(archive="a.zip", path="a.json"))
