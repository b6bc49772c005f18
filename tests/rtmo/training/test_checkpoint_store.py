"""Checkpoints at a URL: on a shared folder, and on S3's wire protocol."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
import torch

from rtmo.training.checkpoint import Checkpoint, Position, open_checkpoints
from rtmo.training.checkpoint_store import CheckpointStore, CheckpointStoreError
from rtmo.training.config import TrainConfig

BUCKET = "team"


def checkpoint(step):
    return Checkpoint(Position(step, 0, step), {"w": torch.full((1000,), float(step))})


@pytest.fixture
def shared_folder(tmp_path):
    (tmp_path / "share").mkdir()
    return (tmp_path / "share").as_uri()


@pytest.fixture(scope="module")
def s3_server():
    """Moto's server in its own process; AWS_ENDPOINT_URL and credentials are set for it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                request = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
                urllib.request.urlopen(request, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        else:
            pytest.fail("moto's server did not start")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", url)
            patch.setenv("AWS_ACCESS_KEY_ID", "somebody")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "anything")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            yield server
    finally:
        server.send_signal(signal.SIGCONT)
        server.kill()
        server.wait()


@pytest.fixture(params=["file", "s3"])
def url(request, tmp_path):
    if request.param == "file":
        return request.getfixturevalue("shared_folder")
    request.getfixturevalue("s3_server")
    return f"s3://{BUCKET}/{tmp_path.name}"


def test_another_machine_goes_on_where_the_first_one_was_lost(url, tmp_path):
    with open_checkpoints(tmp_path / "first" / "run", store=CheckpointStore(url)) as folder:
        assert folder.load_latest() is None
        for step in (2, 4, 6):
            folder.save(checkpoint(step))
            folder.finish_copies()
    with open_checkpoints(tmp_path / "second" / "run", store=CheckpointStore(url)) as folder:
        loaded = folder.load_latest()
        assert loaded.position.step == 6
        assert torch.equal(loaded.state["w"], torch.full((1000,), 6.0))
        folder.save(checkpoint(8))
    # The first machine comes back: it has 4 and 6 itself, and takes 8.
    with open_checkpoints(tmp_path / "first" / "run", store=CheckpointStore(url)) as folder:
        assert folder.load_latest().position.step == 8
        folder.clear()
    with open_checkpoints(tmp_path / "third" / "run", store=CheckpointStore(url)) as folder:
        assert folder.load_latest() is None


def test_a_run_continued_on_purpose_may_be_in_the_store_only(url, tmp_path):
    with open_checkpoints(tmp_path / "first" / "former", store=CheckpointStore(url)) as folder:
        folder.save(checkpoint(5))
    here, former = tmp_path / "second" / "run", tmp_path / "second" / "former"
    with open_checkpoints(here, former, CheckpointStore(url)) as folder:
        assert folder.load_latest().position.step == 5


def test_a_damaged_copy_is_passed_over(shared_folder, tmp_path, caplog):
    with open_checkpoints(
        tmp_path / "first" / "run", store=CheckpointStore(shared_folder)
    ) as folder:
        for step in (2, 4):
            folder.save(checkpoint(step))
            folder.finish_copies()
    copies = tmp_path / "share" / "run"
    assert sorted(file.name for file in copies.iterdir()) == [
        "step-000000002.pt",
        "step-000000004.pt",
    ]
    content = bytearray((copies / "step-000000004.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (copies / "step-000000004.pt").write_bytes(content)
    (copies / "step-000000006.pt.partial").write_bytes(b"of a machine that was lost while copying")
    with open_checkpoints(
        tmp_path / "second" / "run", store=CheckpointStore(shared_folder)
    ) as folder:
        assert folder.load_latest().position.step == 2
    assert "1 damaged checkpoint(s) passed over" in caplog.text


def test_while_a_copy_is_under_way_the_newest_checkpoint_waits_and_training_does_not(
    shared_folder, tmp_path
):
    with open_checkpoints(tmp_path / "run", store=CheckpointStore(shared_folder)) as folder:
        pipe = tmp_path / "share" / "run" / "step-000000002.pt.partial"
        pipe.parent.mkdir()
        os.mkfifo(pipe)  # a share that does not answer: writing waits for a reader
        for step in (2, 4, 6):
            folder.save(checkpoint(step))
        assert not (pipe.parent / "step-000000006.pt").exists()
        pipe.read_bytes()  # it answers again
    assert (pipe.parent / "step-000000006.pt").is_file()


def test_a_store_that_cannot_be_used_is_an_error_at_once(tmp_path, monkeypatch):
    missing = (tmp_path / "missing").as_uri()
    with pytest.raises(CheckpointStoreError, match=r"missing cannot be used .* must exist"):
        CheckpointStore(missing)
    with pytest.raises(CheckpointStoreError, match="Protocol not known: nowhere"):
        CheckpointStore("nowhere://bucket")


@pytest.mark.parametrize("wrong", ["bucket/runs", "s3://me:secret@bucket/runs"])
def test_a_store_without_protocol_or_with_secrets_is_refused(wrong):
    with pytest.raises(ValueError, match="checkpoint_store"):
        TrainConfig(
            epochs=1,
            micro_batch=1,
            global_batch=1,
            validate_every_epochs=1,
            checkpoint_every_steps=1,
            checkpoint_store=wrong,
        )


def test_a_bucket_that_does_not_exist_is_an_error_and_is_not_made(s3_server):
    for _ in range(2):
        with pytest.raises(CheckpointStoreError, match="bucket"):
            CheckpointStore("s3://mistyped/runs")


@pytest.mark.slow
def test_a_store_that_is_lost_later_is_warned_of_counted_and_training_goes_on(
    s3_server, tmp_path, caplog
):
    with open_checkpoints(tmp_path / "run", store=CheckpointStore(f"s3://{BUCKET}/lost")) as folder:
        folder.save(checkpoint(2))
        folder.finish_copies()
        s3_server.kill()
        with caplog.at_level(logging.WARNING):
            for step in (4, 6):
                folder.save(checkpoint(step))
                folder.finish_copies()
        assert folder._copies.failed == 2
        assert "(2 copies failed so far)" in caplog.text
        with pytest.raises(CheckpointStoreError):
            folder.load_latest()
    with open_checkpoints(tmp_path / "run") as folder:
        assert folder.load_latest().position.step == 6
    with pytest.raises(CheckpointStoreError, match="AWS_ENDPOINT_URL"):
        CheckpointStore(f"s3://{BUCKET}/lost")
