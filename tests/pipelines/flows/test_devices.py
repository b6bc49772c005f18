"""GPU slots with device ids that are made up, on a real Prefect server."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from pipelines.flows.devices import VISIBLE, device_slot, devices, limit_name
from pipelines.flows.pipeline import pipeline
from pipelines.paths import Paths
from pipelines.services.temporary import TEMPORARY, temporary_server

TWO = ("made-up-0", "made-up-1")


@pytest.fixture
def two_devices(monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> None:
    monkeypatch.setenv(VISIBLE, ", ".join(TWO))


def test_a_process_gives_away_the_devices_it_was_given(two_devices: None) -> None:
    assert devices() == TWO


def test_runs_get_different_devices_and_the_third_waits(two_devices: None) -> None:
    lines: list[str] = []
    taken: list[str] = []

    def third() -> None:
        with device_slot(lines.append, wait_s=0.2) as device:
            taken.append(device[VISIBLE])

    with ExitStack() as second:
        with device_slot(lines.append) as first:
            other = second.enter_context(device_slot(lines.append))
            assert {first[VISIBLE], other[VISIBLE]} == set(TWO)
            waiting = threading.Thread(target=third)
            waiting.start()
            while not any("waiting" in line for line in lines):
                time.sleep(0.05)
            assert taken == []
        waiting.join(30)
        assert taken == [first[VISIBLE]]


def test_a_device_is_shared_when_a_person_says_so(two_devices: None, monkeypatch) -> None:
    monkeypatch.setenv(VISIBLE, "made-up-shared")
    with device_slot(print):
        pass
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name(limit_name("made-up-shared"), 2)
    with device_slot(print) as first, device_slot(print) as second:
        assert first == second


def test_without_devices_there_is_nothing_to_wait_for(monkeypatch, prefect_server: None) -> None:
    monkeypatch.setenv(VISIBLE, "")
    with device_slot(print) as device:
        assert device == {}


def test_a_stage_sees_its_device_only(
    two_devices: None, tiny_repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (tiny_repository / "draw.py").read_text()
    saying = f"import os, pathlib; pathlib.Path('seen').write_text(os.environ['{VISIBLE}'])"
    (tiny_repository / "draw.py").write_text(f"{saying}\n{code}")
    text = (tiny_repository / "dvc.yaml").read_text()
    text = text.replace("  draw:\n", "  draw:\n    meta: {device: gpu}\n")
    (tiny_repository / "dvc.yaml").write_text(text)
    monkeypatch.chdir(tiny_repository)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with device_slot(print) as held:
        pipeline(target="draw")
        assert (tiny_repository / "seen").read_text() in set(TWO) - set(held.values())


@pytest.fixture
def lasting_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server with all its services: the one of the test harness never takes a lease back."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    with temporary_server(Paths(tmp_path, tmp_path)) as server:
        monkeypatch.delenv(TEMPORARY)  # runs on it know of each other
        server.wait_until_well()
        with temporary_settings({PREFECT_API_URL: server.address}):
            yield server.address


@pytest.mark.slow
def test_the_slot_of_a_killed_run_is_free_after_its_lease(
    lasting_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VISIBLE, "made-up-crash")
    code = """
import time
from pipelines.flows.devices import device_slot
with device_slot(print, lease_s=60.0):
    print("held", flush=True)
    time.sleep(600)
"""
    environment = os.environ | {"PREFECT_API_URL": lasting_server}
    holder = subprocess.Popen(
        [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert holder.stdout is not None
    while holder.stdout.readline() != "held\n":
        assert holder.poll() is None
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    started = time.monotonic()
    with device_slot(print, wait_s=1.0):
        assert time.monotonic() - started < 120
