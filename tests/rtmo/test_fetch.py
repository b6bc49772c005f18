"""The downloader against a real HTTP server that misbehaves on request."""

import hashlib

import numpy as np
import pytest

from rtmo.fetch import FetchError, Patience, RemoteFile, TransferError, fetch_files
from tests.file_server import STALL, Cut

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
    assert len(server.requests) >= 2


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
