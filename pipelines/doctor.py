"""Is this machine and checkout fit for the pipeline? Looked at without importing the services."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from pipelines.params import ParamsError, load_params
from pipelines.paths import Paths

PACKAGES = ("torch", "lightning", "dvc", "prefect", "mlflow", "fiftyone", "onnxruntime", "openvino")
TENSORRT_PACKAGES = ("tensorrt", "tensorrt-rtx")
LEAST_FREE_GIB = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    subject: str
    state: Literal["ok", "absent", "problem"]
    """absent: the pipeline works without, and reports what it cannot do."""
    words: str


def examine(paths: Paths) -> tuple[Finding, ...]:
    """Everything that a failing or slow pipeline has been traced to."""
    return (
        _python(),
        *_packages(),
        _tensorrt(),
        _git(paths.root),
        _params(paths.root),
        _gpu(),
        _mongod(),
        _disk(paths.state_root),
        _prefect_server(),
        _mlflow_store(),
    )


def _python() -> Finding:
    found = shutil.which("python")
    ours = Path(sys.executable).parent
    said = f"{platform.python_version()} at {sys.executable}"
    if found is not None and Path(found).parent == ours:
        return Finding("python", "ok", said)
    return Finding(
        "python",
        "problem",
        f"{said}, but stages run with the first `python` on PATH, which is {found}; "
        f"put {ours} first (`make` and `rtmo-pipeline` do)",
    )


def _packages() -> Iterator[Finding]:
    for package in PACKAGES:
        try:
            yield Finding(package, "ok", version(package))
        except PackageNotFoundError:
            yield Finding(package, "problem", "not installed: `make repro` installs everything")


def _tensorrt() -> Finding:
    for package in TENSORRT_PACKAGES:
        try:
            return Finding("tensorrt", "ok", f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return Finding("tensorrt", "absent", "no engine is built: `pip install tensorrt-rtx`")


def _git(root: Path) -> Finding:
    if (root / ".git").exists() and (root / ".dvc").is_dir():
        return Finding("checkout", "ok", str(root))
    return Finding("checkout", "problem", f"{root} is not the root of a git and DVC repository")


def _params(root: Path) -> Finding:
    try:
        params = load_params(root)
    except ParamsError as error:
        return Finding("params.yaml", "problem", str(error))
    said = f"RTMO-{params.model.size} at {params.model.input_size} px on {params.data.dataset}"
    return Finding("params.yaml", "ok", said)


def _gpu() -> Finding:
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout
    except (FileNotFoundError, subprocess.SubprocessError):
        return Finding("gpu", "absent", "no NVIDIA driver: training and benchmark use the CPU")
    return Finding("gpu", "ok", "; ".join(said.strip().splitlines()))


def _mongod() -> Finding:
    """FiftyOne's database program; its package installs without one where its host is away."""
    if os.environ.get("FIFTYONE_DATABASE_URI"):
        return Finding("mongod", "ok", "FIFTYONE_DATABASE_URI is set")
    package = find_spec("fiftyone")
    folders = (package.submodule_search_locations or ()) if package else ()
    places = (Path(folder) / "db" / "bin" / "mongod" for folder in folders)
    for place in places:
        if place.exists():
            return Finding("mongod", "ok", str(place))
    return Finding("mongod", "absent", "inspection writes its report without FiftyOne's database")


def _disk(root: Path) -> Finding:
    free = shutil.disk_usage(root).free / 2**30
    state: Literal["ok", "problem"] = "ok" if free >= LEAST_FREE_GIB else "problem"
    return Finding("disk", state, f"{free:.0f} GiB free at {root}")


def _prefect_server() -> Finding:
    address = os.environ.get("PREFECT_API_URL")
    return Finding("prefect", "ok", address or "temporary local server for each run")


def _mlflow_store() -> Finding:
    address = os.environ.get("MLFLOW_TRACKING_URI")
    return Finding("mlflow", "ok", "MLFLOW_TRACKING_URI is set" if address else "mlflow.db here")
