"""Parts of a remote file, from a real HTTP server that misbehaves on request."""

import httpx
import numpy as np
import pytest

from rtmo.fetch import FetchError, Patience, RemoteBytes, TransferError
from tests.file_server import STALL, UNMEASURED, Cut, Shift

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
PATIENCE = Patience(attempts=3, first_pause_s=0.01, timeout_s=0.5)


@pytest.fixture
def server(file_server):
    file_server.content = CONTENT
    return file_server


@pytest.fixture
def remote(server):
    with httpx.Client(timeout=PATIENCE.timeout_s) as client:
        yield RemoteBytes(f"{server.url}/a.zip", client, PATIENCE)


def test_spans_are_what_the_file_holds(server, remote):
    assert remote.size == len(CONTENT)
    assert remote.read(100, 50) == CONTENT[100:150]
    assert remote.read(len(CONTENT) - 10, 50) == CONTENT[-10:]
    assert remote.read(len(CONTENT), 50) == b""
    assert [asked for _, asked in server.requests] == [
        "bytes=0-0",
        "bytes=100-149",
        f"bytes={len(CONTENT) - 10}-{len(CONTENT) - 1}",
    ]


@pytest.mark.parametrize("fault", [503, Cut(60_000), STALL, Shift(7)])
def test_a_fault_is_met_by_asking_for_the_rest(server, remote, fault):
    server.behave = lambda number, _: fault if number == 2 else None
    assert remote.read(1000, 200_000) == CONTENT[1000:201_000]
    asked = server.requests[-1][1]
    start = int(asked.removeprefix("bytes=").split("-")[0])
    assert (start > 1000) == (fault in (Cut(60_000), STALL))


def test_a_server_that_stays_busy_is_given_up_for_now(server, remote):
    server.behave = lambda *_: 503
    with pytest.raises(TransferError, match=r"/a\.zip: failed 3 times in a row.*answers 503"):
        remote.read(0, 10)


@pytest.mark.parametrize(
    "change",
    [
        {"etag": '"v2"'},
        {"etag": None},
        {"content": CONTENT[:-1]},
        {"has_ranges": False},
    ],
)
def test_a_file_that_changes_between_two_requests_is_an_error(server, remote, change):
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(FetchError, match=r"changed while it was being read|stopped to serve parts"):
        remote.read(0, 10)


def test_without_a_version_the_length_still_tells(server):
    server.etag = None
    with httpx.Client() as client:
        remote = RemoteBytes(f"{server.url}/a.zip", client, PATIENCE)
        assert remote.read(5, 5) == CONTENT[5:10]
        server.content = CONTENT + b"more"
        with pytest.raises(FetchError, match="changed while it was being read"):
            remote.read(5, 5)


def test_a_server_without_ranges_is_refused_before_it_sends_the_file(server):
    server.has_ranges = False
    server.behave = lambda *_: UNMEASURED
    with (
        httpx.Client() as client,
        pytest.raises(FetchError, match="does not serve parts of a file"),
    ):
        RemoteBytes(f"{server.url}/a.zip", client, PATIENCE)


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_is_not_asked_again(server, status):
    server.behave = lambda *_: status
    with httpx.Client() as client, pytest.raises(FetchError, match=f"answers {status}"):
        RemoteBytes(f"{server.url}/a.zip", client, PATIENCE)
    assert len(server.requests) == 1
