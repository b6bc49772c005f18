"""The downloader against a real HTTP server that misbehaves on request."""

import hashlib
import json
import re
import shutil
import threading

import numpy as np
import pytest

from rtmo.fetch import FetchError, Patience, RemoteFile, TransferError, fetch_files
from rtmo.fetch.files import SPARE_BYTES
from tests.file_server import STALL, UNMEASURED, Cut, Shift

CONTENT = np.random.default_rng(0).integers(0, 256, 3_000_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = Patience(attempts=3, first_pause_s=0.01, timeout_s=2.0)


@pytest.fixture
def server(file_server):
    file_server.content = CONTENT
    return file_server


def remote(server, name="a.zip", **facts):
    facts = {"bytes": len(CONTENT), "sha256": SHA256} | facts
    return RemoteFile(name=name, urls=facts.pop("urls", (f"{server.url}/{name}",)), **facts)


def fetch(folder, *files):
    return fetch_files(files, folder, PATIENCE)


def test_files_arrive_verified_and_leave_nothing_behind(server, tmp_path):
    fetched = fetch(tmp_path, *(remote(server, f"{name}.zip") for name in "abc"))
    assert [file.name for file in fetched] == ["a.zip", "b.zip", "c.zip"]
    assert all(file.is_verified and file.sha256 == SHA256 for file in fetched)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == sorted(f"{name}.zip{end}" for name in "abc" for end in ("", ".received.json"))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_broken_transfer_goes_on_where_it_stopped(server, tmp_path):
    server.behave = lambda number, _: Cut(1_000_000) if number < 4 else None
    fetch(tmp_path, remote(server))
    starts = [asked for _, asked in server.requests]
    # Each attempt brings something, so none of them counts against the three allowed.
    assert starts[0] is None
    assert len(starts) == 3
    assert all(start.startswith("bytes=") for start in starts[1:])
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_the_next_run_goes_on_where_the_last_one_stopped(server, tmp_path):
    server.behave = lambda number, _: Cut(1_000_000) if number == 1 else 503
    with pytest.raises(TransferError, match="run again to continue"):
        fetch(tmp_path, remote(server))
    kept = (tmp_path / "a.zip.part").stat().st_size
    assert 0 < kept <= 1_000_000
    server.behave = lambda *_: None
    fetch(tmp_path, remote(server))
    assert server.requests[-1][1] == f"bytes={kept}-"


def test_a_file_that_changed_between_two_requests_is_fetched_anew(server, tmp_path):
    server.content, server.etag = bytes(2_000_000), '"old"'
    server.behave = lambda number, _: Cut(1_000_000) if number == 1 else 503
    with pytest.raises(TransferError):
        fetch(tmp_path, remote(server, bytes=None, sha256=None))
    server.content, server.etag, server.behave = CONTENT, '"new"', lambda *_: None
    fetch(tmp_path, remote(server))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_everything(server, tmp_path):
    server.has_ranges = False
    server.behave = lambda number, _: Cut(1_000_000) if number == 1 else None
    fetch(tmp_path, remote(server))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.behave = lambda number, _: 503 if number < 3 else None
    fetch(tmp_path, remote(server))
    assert len(server.requests) == 3


def test_a_server_that_stays_busy_is_given_up_for_now(server, tmp_path):
    server.behave = lambda *_: 503
    with pytest.raises(TransferError, match=r"failed 3 times in a row.*answers 503"):
        fetch(tmp_path, remote(server))
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_asked_again_and_says_what_to_do(server, tmp_path, status):
    server.behave = lambda *_: status
    with pytest.raises(FetchError, match=rf"answers {status}.*put it at .*a\.zip and run again"):
        fetch(tmp_path, remote(server))
    assert len(server.requests) == 1


def test_a_mirror_is_used_where_the_first_address_refuses(server, tmp_path):
    server.behave = lambda _, path: 404 if path == "/gone.zip" else None
    urls = (f"{server.url}/gone.zip", f"{server.url}/here.zip")
    (fetched,) = fetch(tmp_path, remote(server, urls=urls))
    assert fetched.url == urls[1]


def test_a_silent_server_counts_as_broken(server, tmp_path):
    server.behave = lambda number, _: STALL if number == 1 else None
    patience = Patience(attempts=3, first_pause_s=0.01, timeout_s=0.3)
    fetch_files((remote(server),), tmp_path, patience)
    assert len(server.requests) == 2
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_server_that_is_not_there_is_a_fault_of_the_network(server, tmp_path):
    file = remote(server, urls=("http://127.0.0.1:9/a.zip",))
    with pytest.raises(ConnectionError):
        fetch(tmp_path, file)


def test_another_size_is_refused_before_the_transfer(server, tmp_path):
    with pytest.raises(FetchError, match="offers 3000000 bytes, expected 5"):
        fetch(tmp_path, remote(server, bytes=5))


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_another_content_is_refused_and_not_kept(server, tmp_path, algorithm):
    digest = "0" * hashlib.new(algorithm).digest_size * 2
    facts = {"sha256": None} | {algorithm: digest}
    with pytest.raises(FetchError, match=f"{algorithm} .*, expected {digest}"):
        fetch(tmp_path, remote(server, **facts))
    assert not list(tmp_path.glob("a.zip"))
    assert not list(tmp_path.glob("a.zip.part"))


def test_another_content_than_received_before_is_refused(server, tmp_path):
    fetch(tmp_path, remote(server, bytes=None, sha256=None))
    (tmp_path / "a.zip").unlink()
    server.content, server.etag = CONTENT[::-1], '"v2"'
    with pytest.raises(FetchError, match=f"received before: {SHA256}; the file has changed"):
        fetch(tmp_path, remote(server, bytes=None, sha256=None))
    assert not (tmp_path / "a.zip").exists()
    (tmp_path / "a.zip.received.json").unlink()
    fetch(tmp_path, remote(server, bytes=None, sha256=None))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT[::-1]


def test_several_files_come_side_by_side(server, tmp_path):
    all_asked = threading.Barrier(4)

    def wait(*_):
        all_asked.wait(5)

    server.behave = wait
    fetch_files(tuple(remote(server, f"{name}.zip") for name in "abcd"), tmp_path, PATIENCE)


def test_a_mirror_is_used_where_the_first_address_stays_busy(server, tmp_path):
    server.behave = lambda _, path: 503 if path == "/busy.zip" else None
    urls = (f"{server.url}/busy.zip", f"{server.url}/here.zip")
    (fetched,) = fetch(tmp_path, remote(server, urls=urls))
    assert fetched.url == urls[1]
    server.behave = lambda _, path: 503 if path == "/busy.zip" else 404
    with pytest.raises(TransferError, match=r"busy\.zip: failed 3 times.*here\.zip: answers 404"):
        fetch(tmp_path, remote(server, "b.zip", urls=urls))


@pytest.mark.parametrize(("facts", "goes_on"), [({}, True), ({"sha256": None}, False)])
def test_a_mirror_goes_on_with_what_the_first_began_if_a_checksum_is_stated(
    server, tmp_path, facts, goes_on
):
    server.behave = lambda number, path: (
        Cut(1_000_000) if number == 1 else 503 if path == "/busy.zip" else None
    )
    urls = (f"{server.url}/busy.zip", f"{server.url}/here.zip")
    fetch(tmp_path, remote(server, urls=urls, **facts))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    path, asked = server.requests[-1]
    assert path == "/here.zip"
    assert (asked is not None) == goes_on


@pytest.mark.parametrize("facts", [{}, {"bytes": None, "sha256": None}])
def test_a_file_that_came_whole_before_an_interruption_does_not_come_again(server, tmp_path, facts):
    fetch(tmp_path, remote(server, **facts))
    (tmp_path / "a.zip").rename(tmp_path / "a.zip.part")
    note = {"url": f"{server.url}/a.zip", "version": server.etag}
    (tmp_path / "a.zip.part.json").write_text(json.dumps(note))
    server.requests.clear()
    fetch(tmp_path, remote(server, **facts))
    assert all(asked == f"bytes={len(CONTENT)}-" for _, asked in server.requests)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def interrupted(server, folder, **facts):
    """Leave the beginning of a file behind, as a run that was given up."""
    server.behave = lambda number, _: Cut(1_000_000) if number == 1 else 503
    with pytest.raises(TransferError):
        fetch(folder, remote(server, **facts))
    server.behave = lambda *_: None


def test_a_part_that_begins_elsewhere_is_not_taken(server, tmp_path):
    interrupted(server, tmp_path)
    begins = []
    server.behave = lambda *_: begins.append(1) or Shift(7) if not begins else None
    fetch(tmp_path, remote(server))
    assert begins
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_part_of_another_version_is_not_taken(server, tmp_path):
    interrupted(server, tmp_path, sha256=None)
    server.content, server.etag = CONTENT[::-1], '"v2"'
    server.heeds_if_range = False
    fetch(tmp_path, remote(server, sha256=None))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT[::-1]


def test_a_file_that_has_become_shorter_is_fetched_anew(server, tmp_path):
    interrupted(server, tmp_path, bytes=None, sha256=None)
    server.content = CONTENT[:1000]
    fetch(tmp_path, remote(server, bytes=None, sha256=None))
    assert (tmp_path / "a.zip").read_bytes() == CONTENT[:1000]


def test_a_file_of_unannounced_length_is_compared_with_what_is_stated(server, tmp_path):
    server.behave = lambda *_: UNMEASURED
    fetch(tmp_path, remote(server))
    server.content = CONTENT[:-1]
    with pytest.raises(FetchError, match="2999999 bytes, expected 3000000"):
        fetch(tmp_path, remote(server, "b.zip"))


def test_bytes_rate_and_time_left_are_shown(server, tmp_path, capfd):
    fetch(tmp_path, remote(server))
    shown = capfd.readouterr().err
    assert re.search(r"a\.zip .* 3\.0/3\.0 MB +[\d.]+ MB/s +0:00:00", shown)


def test_a_web_page_is_not_taken_for_the_file(server, tmp_path):
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(FetchError, match="web page"):
        fetch(tmp_path, remote(server, bytes=None, sha256=None))


def test_a_file_put_there_by_hand_is_verified_and_used(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(CONTENT)
    (fetched,) = fetch(tmp_path, remote(server))
    assert fetched.url == "local"
    assert server.requests == []
    (tmp_path / "a.zip").write_bytes(CONTENT[:-1])
    with pytest.raises(FetchError, match="2999999 bytes, expected 3000000"):
        fetch(tmp_path, remote(server))


def test_a_file_without_a_stated_checksum_is_reported_with_its_own(server, tmp_path, caplog):
    (fetched,) = fetch(tmp_path, remote(server, bytes=None, sha256=None))
    assert not fetched.is_verified
    assert SHA256 in caplog.text


def test_a_disk_that_is_too_small_is_noticed_first(server, tmp_path):
    with pytest.raises(FetchError, match="GiB are still to come"):
        fetch(tmp_path, remote(server, bytes=10**16))
    assert server.requests == []


def test_a_disk_that_is_too_small_for_what_the_server_announces_is_noticed_first(
    server, tmp_path, monkeypatch
):
    usage = shutil.disk_usage(tmp_path)._replace(free=SPARE_BYTES + 2_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    with pytest.raises(FetchError, match="GiB are still to come"):
        fetch(tmp_path, remote(server, bytes=None, sha256=None))
    assert len(server.requests) == 1
    assert not (tmp_path / "a.zip.part").exists()
