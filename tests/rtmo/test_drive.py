"""Google Drive's pages, from a local server that answers as Drive does."""

import hashlib

import numpy as np
import pytest

from rtmo.fetch import FetchError, Patience, RemoteFile, fetch_files
from tests.file_server import Cut, Page

CONTENT = np.random.default_rng(0).integers(0, 256, 2_000_000, dtype=np.uint8).tobytes()
PATIENCE = Patience(attempts=3, first_pause_s=0.01, timeout_s=2.0)
ASKED = "/download?id=1VprytECcLtU4tKP32SYi&export=download"
CONFIRMED = "/download?id=1VprytECcLtU4tKP32SYi&export=download&confirm=t&uuid=ce320bab-e9f0"
# As Drive worded them in 2024 and 2025.
CONFIRMATION = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head>
<body><p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>
<p class="uc-warning-subcaption"><span class="uc-name-size"><a href="/open?id=1Vp">images.zip</a>
 (2.1G)</span> is too large for Google to scan for viruses.</p>
<form id="download-form" action="{action}" method="get">
<input type="submit" id="uc-download-link" value="Download anyway"/>
<input type="hidden" name="id" value="1VprytECcLtU4tKP32SYi">
<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">
<input type="hidden" name="uuid" value="ce320bab-e9f0"></form></body></html>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently. Please
try accessing the file again later.</p></body></html>"""
DENIED = """<html><head><title>Google Drive - Access Denied</title></head><body>
<p class="uc-error-caption">Access Denied</p></body></html>"""


@pytest.fixture
def drive(file_server):
    """Asks for a confirmation of ASKED, serves the file at CONFIRMED."""
    file_server.files[ASKED] = file_server.files[CONFIRMED] = CONTENT
    form = CONFIRMATION.format(action=f"{file_server.url}/download")
    file_server.behave = lambda _, path: Page(form) if path == ASKED else None
    return file_server


def fetch(drive, folder, **facts):
    file = RemoteFile(name="images.zip", urls=(f"{drive.url}{ASKED}",), **facts)
    return fetch_files((file,), folder, PATIENCE)[0]


def test_a_large_file_is_fetched_through_the_confirmation(drive, tmp_path):
    fetched = fetch(drive, tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    assert fetched.url == f"{drive.url}{ASKED}"
    assert [path for path, _ in drive.requests] == [ASKED, CONFIRMED]


def test_a_small_file_comes_without_one(drive, tmp_path):
    drive.behave = lambda *_: None
    fetch(drive, tmp_path)
    assert [path for path, _ in drive.requests] == [ASKED]


def test_a_broken_transfer_is_continued_through_a_new_confirmation(drive, tmp_path):
    ask = drive.behave
    drive.behave = lambda number, path: Cut(900_000) if number == 2 else ask(number, path)
    fetched = fetch(drive, tmp_path)
    assert fetched.path.read_bytes() == CONTENT
    path, asked = drive.requests[-1]
    assert path == CONFIRMED
    assert asked is not None
    assert 0 < int(asked.removeprefix("bytes=").removesuffix("-")) <= 900_000


@pytest.mark.parametrize("status", [200, 403])
def test_the_quota_page_is_recognised_and_says_what_to_do(drive, tmp_path, status):
    drive.behave = lambda *_: Page(QUOTA, status)
    with pytest.raises(FetchError) as caught:
        fetch(drive, tmp_path)
    words = str(caught.value)
    assert "Google Drive's quota for this file is used up" in words
    assert "Too many users have viewed or downloaded this file recently" in words
    assert f"put it at {tmp_path / 'images.zip'} and run again" in words
    assert len(drive.requests) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_quota_that_is_used_up_after_the_confirmation_is_recognised(drive, tmp_path):
    ask = drive.behave
    drive.behave = lambda number, path: Page(QUOTA) if path == CONFIRMED else ask(number, path)
    with pytest.raises(FetchError, match="quota for this file is used up"):
        fetch(drive, tmp_path)


def test_the_file_put_there_by_hand_is_then_used(drive, tmp_path):
    drive.behave = lambda *_: Page(QUOTA)
    with pytest.raises(FetchError):
        fetch(drive, tmp_path)
    (tmp_path / "images.zip").write_bytes(CONTENT)
    drive.requests.clear()
    assert fetch(drive, tmp_path).sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert drive.requests == []


def test_other_pages_are_shown_in_their_own_words(drive, tmp_path):
    drive.behave = lambda *_: Page(DENIED, 403)
    with pytest.raises(FetchError, match=r"answers 403: .*Google Drive - Access Denied"):
        fetch(drive, tmp_path)
    drive.behave = lambda *_: Page("<p>hello</p>")
    with pytest.raises(FetchError, match=r"a web page \(without a title\) in place of the file"):
        fetch(drive, tmp_path)


def test_a_busy_server_with_a_page_is_asked_again(drive, tmp_path):
    ask = drive.behave
    busy = Page("<title>Service unavailable</title>", 503)
    drive.behave = lambda number, path: busy if number == 1 else ask(number, path)
    assert fetch(drive, tmp_path).path.read_bytes() == CONTENT


def test_a_form_that_leads_to_another_server_is_not_followed(drive, tmp_path):
    form = CONFIRMATION.format(action="https://example.org/download")
    drive.behave = lambda *_: Page(form)
    with pytest.raises(FetchError, match=r"leads to another server, example\.org"):
        fetch(drive, tmp_path)


def test_a_confirmation_that_leads_to_itself_is_given_up(drive, tmp_path):
    form = CONFIRMATION.format(action=f"{drive.url}/download")
    drive.behave = lambda *_: Page(form)
    with pytest.raises(FetchError, match="asks again for a confirmation"):
        fetch(drive, tmp_path)
    assert len(drive.requests) == 2
