"""Is this machine and checkout fit for the pipeline? Looked at without importing the services."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal
from urllib.parse import SplitResult, urlsplit

from pipelines.params import ParamsError, load_params
from pipelines.paths import Paths
from pipelines.sources.schema import Files, SourceError, load_source
from pipelines.tracking.address import StoreUnavailableError, check_reachable, store_address
from rtmo.run.initial_weights import InitialWeightsError, require_agreement

PACKAGES = ("torch", "lightning", "dvc", "prefect", "mlflow", "fiftyone", "onnxruntime", "openvino")
TENSORRT_PACKAGES = ("tensorrt", "tensorrt-rtx")
LEAST_FREE_GIB = 5
LEAST_MEMORY_GIB = 4
PATIENCE_S = 3.0
"""For a server to answer."""


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
        _machine(),
        _python(),
        *_packages(),
        _versions(paths.root),
        _tensorrt(),
        _git(paths.root),
        _params(paths.root),
        *_initial_weights(paths.root),
        _gpu(),
        _mongod(),
        _disk(paths.state_root),
        _prefect_server(),
        _mlflow_store(paths),
        _network(paths),
    )


def _machine() -> Finding:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    said = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GiB"
    if memory >= LEAST_MEMORY_GIB:
        return Finding("machine", "ok", said)
    return Finding("machine", "problem", f"{said}; training and FiftyOne need {LEAST_MEMORY_GIB}")


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


def _versions(root: Path) -> Finding:
    """Installed versions beside those of the lock file; a build such as `+cpu` does not matter."""
    lock = root / "requirements.lock"
    if not lock.exists():
        return Finding("versions", "absent", "no requirements.lock to compare with")
    others = []
    for line in lock.read_text().splitlines():
        name, pinned, wanted = line.partition(";")[0].strip().partition("==")
        if not pinned or name.startswith("#"):
            continue
        try:
            found = version(name).partition("+")[0]
        except PackageNotFoundError:
            found = "none"
        if found != wanted and (found != "none" or ";" not in line):
            others.append(f"{name} {found}, locked {wanted}")
    if not others:
        return Finding("versions", "ok", "as requirements.lock")
    listed = "; ".join(others[:5]) + ("; ..." if len(others) > 5 else "")
    words = f"{len(others)} differ from requirements.lock: {listed}. `rm -r .venv` and `make test`"
    return Finding("versions", "problem", words)


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


def _initial_weights(root: Path) -> Iterator[Finding]:
    try:
        train = load_params(root).train
        require_agreement(train, root)
    except ParamsError:
        return  # told already
    except InitialWeightsError as error:
        yield Finding("initial weights", "problem", str(error))
        return
    if train.init_weights is not None:
        yield Finding("initial weights", "ok", train.init_weights)


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
    return Finding("prefect server", "ok", address or "temporary local server for each run")


def _mlflow_store(paths: Paths) -> Finding:
    try:
        address = store_address(paths)
        check_reachable(address)
    except StoreUnavailableError as error:
        return Finding("mlflow store", "problem", str(error))
    given = "MLFLOW_TRACKING_URI" in os.environ
    return Finding(
        "mlflow store", "ok", "MLFLOW_TRACKING_URI answers" if given else "mlflow.db here"
    )


def _network(paths: Paths) -> Finding:
    """Whether the servers answer that the dataset comes from."""
    try:
        source = load_source(paths.source(load_params(paths.root).data.dataset))
    except (ParamsError, SourceError) as error:
        return Finding("network", "problem", f"cannot tell which servers are needed: {error}")
    if not isinstance(source.get, Files):
        return Finding("network", "ok", f"not needed: {source.dataset} is no download")
    if paths.raw(source.dataset).exists():
        return Finding("network", "ok", f"not needed: {source.dataset} is there")
    addresses = {urlsplit(url) for file in source.get.files for url in file.urls}
    silent = sorted({a.hostname for a in addresses if a.hostname and not _answers(a)})
    if not silent:
        return Finding("network", "ok", f"the servers of {source.dataset} answer")
    return Finding(
        "network",
        "problem",
        f"no answer from {', '.join(silent)}, where {source.dataset} comes from: set HTTPS_PROXY, "
        f"or fetch the files of sources/{source.dataset}.json elsewhere and put them into "
        f"{paths.runs / 'downloads' / source.dataset}",
    )


def _answers(address: SplitResult) -> bool:
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        with socket.create_connection((str(address.hostname), port), timeout=PATIENCE_S):
            return True
    except OSError:
        return False
