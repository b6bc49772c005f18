"""`rtmo-pipeline data refresh`: asking remote files whether they changed, against a real server."""

import hashlib
import json

import pytest
from typer.testing import CliRunner

from pipelines.cli import app
from pipelines.refresh import refresh_source
from pipelines.sources.schema import load_source
from pipelines.stages.download import download
from rtmo.fetch import FetchError, Patience
from tests.file_server import Page

PATIENCE = Patience(attempts=2, first_pause_s=0.01, timeout_s=2.0)
OLD, NEW = b"first version" * 1000, b"other version" * 1000


def facts(content):
    return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


@pytest.fixture
def place(tmp_path, file_server, repository):
    """A source file with two files on a server, and its downloads folder."""

    class Place:
        path = tmp_path / "sources/mine.json"
        downloads = tmp_path / "runs/downloads/mine"
        server = file_server

        def write(self, **of_first):
            content = json.loads((repository / "sources/crowdpose.json").read_text())
            content["dataset"] = "mine"
            names = ("crowdpose_trainval.json", "crowdpose_test.json")
            content["get"]["files"] = [
                {"name": name, "urls": [f"{file_server.url}/{name}"]} for name in names
            ]
            content["get"]["files"][0] |= of_first
            content["get"]["files"][1] |= facts(OLD)
            for split, name in zip(("train", "val"), names, strict=True):
                content["splits"][split] = {"images": None, "annotations": {"path": name}}
            self.path.parent.mkdir(exist_ok=True)
            self.path.write_text(json.dumps(content, indent=2) + "\n")

        def refresh(self):
            file_server.requests.clear()
            return refresh_source(self.path, self.downloads, PATIENCE)

        def download(self):
            out = tmp_path / "out"
            out.mkdir(exist_ok=True)
            for file in out.iterdir():
                file.unlink()
            source = load_source(self.path)
            return download(source, out, root=tmp_path, downloads=self.downloads, patience=PATIENCE)

        def change(self):
            file_server.files["/crowdpose_trainval.json"] = NEW
            file_server.etag = '"v2"'

        @property
        def first(self):
            return json.loads(self.path.read_text())["get"]["files"][0]

        def transfers(self):
            return [path for path, asked in file_server.requests if asked != "bytes=0-0"]

    file_server.content = OLD
    return Place()


def test_where_nothing_changed_nothing_is_written_and_nothing_fetched(place):
    place.write(**facts(OLD))
    before = place.path.read_text()
    for _ in range(2):  # before and after the files were downloaded
        report = place.refresh()
        assert report.changes == ()
        assert report.unchanged == ("crowdpose_trainval.json", "crowdpose_test.json")
        assert place.transfers() == []
        place.download()
    assert place.path.read_text() == before


def test_another_content_is_written_down_and_ready_for_the_download(place):
    place.write(**facts(OLD), md5=hashlib.md5(OLD, usedforsecurity=False).hexdigest())
    place.download()
    place.change()
    report = place.refresh()
    assert len(report.changes) == 1
    assert report.changes[0].startswith("crowdpose_trainval.json: sha256 ")
    assert place.first == {
        "name": "crowdpose_trainval.json",
        "urls": [f"{place.server.url}/crowdpose_trainval.json"],
        **facts(NEW),
        "md5": hashlib.md5(NEW, usedforsecurity=False).hexdigest(),
    }
    place.server.requests.clear()
    assert place.download().files[0].sha256 == facts(NEW)["sha256"]
    assert place.server.requests == []
    assert place.refresh().changes == ()


def test_two_machines_write_the_same(place):
    place.write(**facts(OLD))
    texts = []
    for _ in range(2):
        place.write(**facts(b"an even older version"))
        place.refresh()
        texts.append(place.path.read_text())
        place.downloads = place.downloads.with_name("other")
    assert texts[0] == texts[1]
    assert place.first | facts(OLD) == place.first


def test_another_mark_of_the_same_content_changes_nothing_and_is_remembered(place):
    place.write(**facts(OLD))
    place.download()
    place.server.etag = '"moved to another server"'
    before = place.path.read_text()
    assert place.refresh().changes == ()
    assert len(place.transfers()) == 2
    assert place.path.read_text() == before
    assert place.refresh().changes == ()
    assert place.transfers() == []


def test_what_is_not_stated_is_written_down(place):
    place.write()
    assert place.refresh().changes == (
        f"crowdpose_trainval.json: bytes {len(OLD)}, sha256 {facts(OLD)['sha256']}",
    )
    assert place.first | facts(OLD) == place.first
    assert place.refresh().changes == ()
    assert place.transfers() == []


def test_a_file_that_cannot_be_had_leaves_the_source_file_as_it_is(place):
    place.write(**facts(NEW))
    before = place.path.read_text()
    place.server.behave = lambda _, path: 404 if "test" in path else None
    with pytest.raises(FetchError, match=r"crowdpose_test\.json cannot be asked: .* answers 404"):
        place.refresh()
    assert place.path.read_text() == before


def test_what_a_failed_refresh_brought_is_still_a_change(place):
    place.write(**facts(OLD))
    place.download()
    place.change()
    place.server.behave = lambda _, path: 404 if "test" in path else None
    with pytest.raises(FetchError):
        place.refresh()
    place.server.behave = lambda *_: None
    assert len(place.refresh().changes) == 1
    assert place.first | facts(NEW) == place.first


def test_a_quota_page_is_told(place):
    place.write()
    page = Page("<title>Google Drive - Quota exceeded</title>")
    place.server.behave = lambda *_: page
    with pytest.raises(FetchError, match="Google Drive's quota"):
        place.refresh()


def test_a_mirror_answers_where_the_first_address_does_not(place):
    urls = [f"{place.server.url}/gone", f"{place.server.url}/crowdpose_trainval.json"]
    place.write(**facts(OLD), urls=urls)
    place.server.behave = lambda _, path: 404 if path == "/gone" else None
    assert place.refresh().changes == ()


def test_archives_of_an_excerpt_are_compared_by_size_and_mark(place, repository):
    content = json.loads((repository / "sources/coco-small.json").read_text())
    content["dataset"] = "mine"
    for archive in content["get"]["archives"]:
        archive["urls"] = [f"{place.server.url}/{archive['name']}"]
    place.path.parent.mkdir()
    place.path.write_text(json.dumps(content))
    assert len(place.refresh().changes) == 3
    for archive in load_source(place.path).get.archives:
        assert (archive.bytes, archive.version) == (len(OLD), '"v1"')
    assert place.refresh().changes == ()
    place.server.etag = '"v2"'
    assert place.refresh().changes[0] == 'train2017.zip: version "v1" -> "v2"'
    assert place.transfers() == []


def test_the_command_says_what_it_found(place, tmp_path, monkeypatch, repository):
    place.write()
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    embedded = (repository / "sources/embedded.json").read_text()
    (tmp_path / "sources/embedded.json").write_text(embedded)
    (tmp_path / "params.yaml").write_text((repository / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def said(*arguments):
        result = CliRunner().invoke(app, ["data", "refresh", *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    first = said("mine")
    assert "changed: crowdpose_trainval.json: bytes 13000, sha256 " in first
    assert "unchanged: crowdpose_test.json" in first
    assert "sources/mine.json is rewritten: `dvc repro` makes the new data version" in first
    assert "rewritten" not in said("mine")
    assert "sources/embedded.json names nothing on the network" in said()
