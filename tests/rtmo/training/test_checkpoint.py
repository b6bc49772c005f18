import logging
import os
import subprocess
import sys

import pytest
import torch

from rtmo.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    Position,
    open_checkpoints,
)


def checkpoint(step):
    state = {"model": {"w": torch.full((3,), float(step))}, "history": [{"epoch": 0, "AP": 0.25}]}
    return Checkpoint(Position(step=step, epoch=1, batch=2), state)


def names(folder):
    return sorted(file.name for file in folder.iterdir() if file.suffix != "")


def test_what_was_saved_comes_back_and_the_last_two_are_kept(tmp_path):
    with open_checkpoints(tmp_path / "run") as folder:
        assert folder.load_latest() is None
        for step in (2, 4, 10):
            folder.save(checkpoint(step))
        loaded = folder.load_latest()
    assert loaded.position == Position(step=10, epoch=1, batch=2)
    assert torch.equal(loaded.state["model"]["w"], torch.full((3,), 10.0))
    assert loaded.state["history"] == [{"epoch": 0, "AP": 0.25}]
    assert names(tmp_path / "run") == ["step-000000004.pt", "step-000000010.pt"]


@pytest.mark.parametrize("damage", ["truncated", "one bit", "empty"])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_counted_warning(
    tmp_path, caplog, damage
):
    with open_checkpoints(tmp_path) as folder:
        folder.save(checkpoint(2))
        newest = folder.save(checkpoint(4))
        content = bytearray(newest.read_bytes())
        content[len(content) // 2] ^= 1
        newest.write_bytes({"truncated": content[:-100], "one bit": content, "empty": b""}[damage])
        with caplog.at_level(logging.WARNING):
            assert folder.load_latest().position.step == 2
    assert "1 damaged checkpoint(s) passed over" in caplog.text


def test_when_no_checkpoint_can_be_read_training_does_not_silently_start_over(tmp_path):
    with open_checkpoints(tmp_path) as folder:
        folder.save(checkpoint(2)).write_bytes(b"not a checkpoint")
        with pytest.raises(CheckpointError, match="delete that folder"):
            folder.load_latest()


def test_a_checkpoint_that_would_execute_code_is_refused(tmp_path):
    class Attack:
        def __reduce__(self):
            return (os.system, ("true",))

    with open_checkpoints(tmp_path) as folder:
        folder.save(Checkpoint(Position(1, 0, 1), {"attack": Attack()}))
        with pytest.raises(CheckpointError):
            folder.load_latest()


def test_a_second_training_cannot_open_a_held_folder_and_a_killed_one_frees_it(tmp_path):
    hold = (
        "import sys, time; from pathlib import Path;"
        "from rtmo.training.checkpoint import open_checkpoints;"
        "context = open_checkpoints(Path(sys.argv[1])); context.__enter__();"
        "print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(CheckpointError, match=f"process {holder.pid}"),
            open_checkpoints(tmp_path),
        ):
            pass
        holder.kill()
        holder.wait()
    with open_checkpoints(tmp_path) as folder:
        assert folder.load_latest() is None


def test_the_rest_of_an_interrupted_write_is_removed(tmp_path):
    (tmp_path / "step-000000006.pt.partial").write_bytes(b"half")
    with open_checkpoints(tmp_path) as folder:
        folder.save(checkpoint(2))
    assert names(tmp_path) == ["step-000000002.pt"]


def test_a_full_disk_leaves_the_former_checkpoint(tmp_path):
    with open_checkpoints(tmp_path) as folder:
        folder.save(checkpoint(2))
        (tmp_path / "step-000000004.pt.partial").symlink_to("/dev/full")
        with pytest.raises(OSError, match="No space left"):
            folder.save(checkpoint(4))
        assert folder.load_latest().position.step == 2
    assert names(tmp_path) == ["step-000000002.pt"]


def test_a_run_can_continue_another_on_purpose_until_it_has_its_own_checkpoints(tmp_path):
    with open_checkpoints(tmp_path / "former") as former:
        former.save(checkpoint(7))
    with open_checkpoints(tmp_path / "run", tmp_path / "former") as folder:
        assert folder.load_latest().position.step == 7
        folder.save(checkpoint(8))
        assert folder.load_latest().position.step == 8


def test_continuing_from_a_run_without_checkpoints_is_an_error(tmp_path):
    with (
        open_checkpoints(tmp_path / "run", tmp_path / "mistyped") as folder,
        pytest.raises(CheckpointError, match="nothing to continue from"),
    ):
        folder.load_latest()
