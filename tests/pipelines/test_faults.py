"""Which errors are worth another try, and that a stage ends with the status that says so."""

import errno
import os
import subprocess
import urllib.error
from email.message import Message

import httpx
import pytest

from pipelines.faults import is_temporary
from rtmo.fetch import FetchError, TransferError


def answer(status: int) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://example.org")
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status))


def urllib_answer(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("https://example.org", status, "", Message(), None)


TEMPORARY = [
    ConnectionRefusedError(),
    TimeoutError(),
    TransferError(),
    urllib.error.URLError("name does not resolve"),
    urllib_answer(503),
    answer(429),
    httpx.ReadTimeout(""),
    OSError(errno.ESTALE, "Stale file handle"),
    RuntimeError("CUDA error: CUDA-capable device(s) is/are busy or unavailable"),
]
LASTING = [
    ValueError("keypoints has 14"),
    AssertionError(),
    FloatingPointError("loss is nan"),
    FetchError("checksum"),
    urllib_answer(404),
    answer(403),
    httpx.UnsupportedProtocol(""),
    FileNotFoundError(errno.ENOENT, "weights"),
    OSError(errno.ENOSPC, "No space left on device"),
    MemoryError(),
    RuntimeError("CUDA error: device-side assert triggered"),
    RuntimeError("initialization error in a model"),
]


@pytest.mark.parametrize("error", TEMPORARY, ids=repr)
def test_faults_of_network_server_and_machine_are_temporary(error: Exception) -> None:
    assert is_temporary(error)


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_faults_of_code_and_data_are_not(error: Exception) -> None:
    assert not is_temporary(error)


@pytest.mark.parametrize(
    ("raised", "status"),
    [("ConnectionResetError", os.EX_TEMPFAIL), ("FloatingPointError", 1), ("MemoryError", 1)],
)
def test_the_exit_status_of_a_stage_says_which_it_was(raised: str, status: int, repository) -> None:
    code = f"from pipelines.stage_run import stage_run\nwith stage_run('download'): raise {raised}"
    done = subprocess.run(["python", "-c", code], cwd=repository, capture_output=True, check=False)
    assert done.returncode == status, done.stderr
