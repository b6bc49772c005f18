"""Copies of a checkout to try things in: own data, own stores, no remote.

The checkout is only read. Commands run with this interpreter's programs and the copy's own code.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.dvc_data import cache_folder
from pipelines.paths import Paths

LIMIT_S = 1800.0
FOREIGN = re.compile(r"(MLFLOW|PREFECT|DVC|FIFTYONE|RTMO|GIT|AWS)_.*")
"""Variables that would lead a command out of its copy: to a server, a store, a webhook."""
DVC_CONFIG = "[core]\n    analytics = false\n[cache]\n    type = reflink,hardlink,symlink,copy\n"
GIT_CONFIG = "[user]\n    name = Tour\n    email = tour@example.org\n"
TINY_IMAGES = {"num_images": {"train": 64, "val": 16}, "width": 128, "height": 96}
TINY_PARAMS: dict[str, Any] = {
    "data": {"dataset": "embedded", "merge": []},
    "model": {"size": "t", "input_size": 96},
    "train": {
        "seed": 0,
        "epochs": 2,
        "micro_batch": 8,
        "global_batch": 8,
        "processes": 1,
        "optimizer": {"cosines": []},
        "phases": [{"first_epoch": 0, "pipeline": "letterbox"}],
        "checkpoint_every_steps": 2,
        "validate_every_epochs": 1,
        "init_weights": None,
        "init_weights_sha256": None,
    },
    "export": {"parity_images": 4},
    "benchmark": {"images": 4, "runs": 3},
    "evaluate": {"bootstrap_samples": 100},
    "register": {"bootstrap_samples": 100, "floor_ap": 0.0, "max_latency_ratio": 100.0},
}
"""A pipeline of seconds: what differs from the default params."""


class CommandError(RuntimeError):
    """A command ended otherwise than it should."""


class Copy:
    """One copy of the checkout."""

    def __init__(self, folder: Path, environment: dict[str, str], typed: list[str]) -> None:
        self.folder = folder
        self.paths = Paths(folder, folder)
        self._environment = environment | {"PYTHONPATH": str(folder)}
        self._typed = typed

    def run(self, command: str) -> str:
        """Type a command; its standard output.

        Raises:
            CommandError: if it fails.
        """
        status, output, complaint = self._type(command)
        if status:
            raise CommandError(f"`{command}` ended with {status}: {_last_lines(output, complaint)}")
        return output

    def refused(self, command: str) -> str:
        """Type a command that must fail; all it said.

        Raises:
            CommandError: if it succeeds.
        """
        status, output, complaint = self._type(command)
        if not status:
            raise CommandError(f"`{command}` should fail, and did not: {_last_lines(output)}")
        return output + complaint

    def _type(self, command: str) -> tuple[int, str, str]:
        self._typed.append(command)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def started(self, command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Type a command and go on; it has a session of its own, and is ended in the end."""
        self._typed.append(f"{command} &")
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def note(self, action: str) -> None:
        """Something that was done besides, as a person would do it."""
        self._typed.append(action)

    def commit(self, message: str) -> None:
        """Commit all that git does not ignore."""
        for arguments in (["add", "-A"], ["commit", "-qm", message]):
            subprocess.run(["git", *arguments], cwd=self.folder, env=self._environment, check=True)


class Copies:
    """What the steps of one tour work in."""

    def __init__(self, checkout: Paths, scratch: Path) -> None:
        self.checkout = checkout
        self.scratch = scratch
        self.typed: list[str] = []
        """Commands of the present step."""
        (scratch / "gitconfig").write_text(GIT_CONFIG)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands in a copy: local state in the scratch folder, nobody's servers."""
        inherited = {name: text for name, text in os.environ.items() if not FOREIGN.match(name)}
        return inherited | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.scratch / "dvc"),
            "FIFTYONE_DATABASE_DIR": str(self.scratch / "fiftyone"),
            "FIFTYONE_DATABASE_VALIDATION": "false",
            "FIFTYONE_DO_NOT_TRACK": "true",
            "GIT_CONFIG_GLOBAL": str(self.scratch / "gitconfig"),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "ORT_DISABLE_TELEMETRY": "1",
            "PREFECT_HOME": str(self.scratch / "prefect"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }

    def sources(self, name: str) -> Copy:
        """A new copy of code, settings and tests, with a git history of its own and no data."""
        folder = self.scratch / name
        copy_sources(self.checkout.root, folder)
        (folder / ".dvc" / "config").write_text(DVC_CONFIG)
        copy = Copy(folder, self.environment, self.typed)
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=folder, check=True)
        copy.commit("As the tour found it")
        return copy

    def tiny(self, name: str) -> Copy:
        """A new copy whose pipeline takes seconds, on a few drawn pictures; nothing ran in it."""
        copy = self.sources(name)
        make_tiny(copy.folder)
        copy.commit("Tiny")
        return copy

    @cached_property
    def trained(self) -> Copy:
        """A tiny copy in which training ran undisturbed."""
        copy = self.tiny("trained")
        copy.run("dvc repro train")
        return copy

    @cached_property
    def finished(self) -> Copy:
        """The checkout as `make repro` left it, with a store of its own that holds its model."""
        copy = self.sources("finished")
        remote = f"dvc remote add -q --local -d checkout {cache_folder(self.checkout.root)}"
        for command in (
            remote,
            "dvc pull -q --allow-missing",
            "dvc remote remove checkout --local",
        ):
            copy.run(command)
        for stage in ("benchmark", "register"):  # what DVC does not keep
            shutil.copytree(
                self.checkout.report(stage), copy.paths.report(stage), dirs_exist_ok=True
            )
        copy.run("rtmo-pipeline sync")
        self.typed.clear()  # what it took to be there is no step
        return copy


def copy_sources(root: Path, folder: Path) -> None:
    """Copy what git tracks, as it lies in the checkout, and new files that it does not ignore."""
    listed = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listed, cwd=root, capture_output=True, text=True, check=True)
    for name in filter(None, names.stdout.split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)


def make_tiny(folder: Path) -> None:
    """Few small pictures, a short training; nothing of the checkout's own runs."""
    (folder / "dvc.lock").unlink(missing_ok=True)
    shrink(folder / "sources" / "embedded.json")
    set_params(folder, TINY_PARAMS)


def shrink(source: Path) -> None:
    """Few small pictures for an embedded dataset."""
    content = json.loads(source.read_text())
    content["get"]["config"] |= TINY_IMAGES
    source.write_text(json.dumps(content))


def set_params(folder: Path, changes: dict[str, Any]) -> None:
    """Write values into params.yaml, comments kept."""
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    _update(params, changes)
    yaml.dump(params, folder / "params.yaml")


def wait_until(is_so: Callable[[], object], seconds: float, awaited: str) -> None:
    """Look again and again.

    Raises:
        CommandError: if it does not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            raise CommandError(f"waited {seconds:.0f} s for {awaited}")
        time.sleep(0.05)


def _update(section: Any, changes: dict[str, Any]) -> None:  # noqa: ANN401
    for key, value in changes.items():
        if isinstance(value, dict):
            _update(section[key], value)
        else:
            section[key] = value


def _last_lines(*outputs: str) -> str:
    lines = [line for output in outputs for line in output.splitlines() if line.strip()]
    return " | ".join(lines[-6:]) or "it said nothing"
