"""Where a result comes from, as tags: code, settings, environment, hardware."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from pathlib import Path

HASHED_FILES = {"lock.data": "dvc.lock", "lock.environment": "requirements.lock"}
"""Tag -> file whose SHA-256 it is."""


LINEAGE_TAGS = (
    *("git.commit", "git.dirty", "dvc.experiment", "python", "platform", "cpu", "cpu.cores", "gpu"),
    *HASHED_FILES,
    "data_digest",
)
"""All tags that tell where a result comes from."""


def lineage(root: Path) -> dict[str, str]:
    """Tags for a run or a model version made from the checkout at `root`.

    What cannot be found is left out: no commit outside git, no `gpu` without one. The stage hash
    and the data digest come from `dvc_graph`.
    """
    tags = {
        "git.commit": _output(["git", "rev-parse", "HEAD"], root),
        "git.dirty": _git_dirty(root),
        "dvc.experiment": os.environ.get("DVC_EXP_NAME"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cpu.cores": str(os.cpu_count()),
        "gpu": _output(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], root),
    }
    tags |= {tag: _sha256(root / name) for tag, name in HASHED_FILES.items()}
    return {tag: value for tag, value in tags.items() if value}


def _git_dirty(root: Path) -> str | None:
    """`yes` if tracked files differ from the commit; None outside git."""
    changed = _output(["git", "status", "--porcelain", "--untracked-files=no"], root)
    return None if changed is None else ("yes" if changed else "no")


def _cpu() -> str:
    """The processor's name."""
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on Linux
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None


def _output(command: list[str], folder: Path) -> str | None:
    """What `command` prints, on one line; None if there is no such program or it fails."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return "; ".join(done.stdout.strip().splitlines())
