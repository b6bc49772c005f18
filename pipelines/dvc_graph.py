"""DVC's graph: its order, what is stale, the stage hash, what a stage needs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dvc.lock import LockError
from dvc.repo import Repo
from dvc.stage.serialize import to_single_stage_lockfile
from ruamel.yaml import YAML

if TYPE_CHECKING:
    from dvc.stage import PipelineStage

LOCK_FILE = "dvc.lock"


class UnknownStageError(LookupError):
    """A stage that `dvc.yaml` does not have."""


class BusyError(RuntimeError):
    """Another DVC command is at work in this checkout."""


@dataclass(frozen=True, slots=True)
class StageInputs:
    """What decides the result of one stage, as DVC writes it into `dvc.lock`."""

    command: str
    dependencies: Mapping[str, str]
    """Path -> md5 (of a folder: of its listing, ending in `.dir`)."""
    params: Mapping[str, Any]
    """File -> {key: value}."""

    @property
    def hash(self) -> str:
        """The stage hash: sha256 of the canonical JSON of all three.

        Example:
            >>> StageInputs("true", {}, {}).hash[:8]
            '31b6d222'
        """
        content = [self.command, self.dependencies, self.params]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def changes(self, later: StageInputs) -> tuple[str, ...]:
        """Names of what differs in `later`: the command, dependency paths, params keys."""
        command = ("cmd",) if self.command != later.command else ()
        files = self.params.keys() | later.params.keys()
        keys = [_differing(self.params.get(f, {}), later.params.get(f, {})) for f in sorted(files)]
        return (*command, *_differing(self.dependencies, later.dependencies), *sum(keys, ()))


def _differing(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    names = sorted(before.keys() | after.keys())
    return tuple(name for name in names if before.get(name) != after.get(name))


def stage_inputs(root: Path, stage: str) -> StageInputs:
    """What `stage` would be made from if it ran now; hashes files, writes nothing.

    Works from outside and inside the stage's own command.

    Raises:
        UnknownStageError: if there is no such stage.
        dvc.exceptions.DvcException: if a dependency does not exist.
    """
    with Repo(str(root)) as repo:
        found = _stage(repo, stage)
        found.save_deps()
        return _from_lock_entry(to_single_stage_lockfile(found))


def stage_hash(root: Path, stage: str) -> str:
    """The stage hash of `stage` as things are now; see `stage_inputs`."""
    return stage_inputs(root, stage).hash


def locked_stage_inputs(root: Path, stage: str) -> StageInputs | None:
    """What `stage` was made from when it last ran, from `dvc.lock`; None if it never ran."""
    entry = _lock(root).get(stage)
    return None if entry is None else _from_lock_entry(entry)


def locked_stage_hash(root: Path, stage: str) -> str | None:
    """The stage hash of the last run of `stage`, from `dvc.lock`; None if it never ran."""
    inputs = locked_stage_inputs(root, stage)
    return None if inputs is None else inputs.hash


def stage_hash_in(lock: str, stage: str) -> str | None:
    """The stage hash of `stage` in the text of a `dvc.lock`; None if it is not in there."""
    entry = (YAML(typ="safe").load(lock) or {}).get("stages", {}).get(stage)
    return None if entry is None else _from_lock_entry(entry).hash


def data_digest(root: Path) -> str | None:
    """One hash for what `convert` last wrote, from `dvc.lock`; None if it never ran.

    It is the data version: equal digests mean the same images and annotations in every split.
    """
    entry = _lock(root).get("convert")
    if entry is None:
        return None
    outputs = {out["path"]: out["md5"] for out in entry["outs"]}
    return hashlib.sha256(json.dumps(outputs, sort_keys=True).encode()).hexdigest()


def metrics(root: Path) -> dict[str, dict[str, Any]]:
    """Metrics file -> its content, for every metrics file in `dvc.yaml` that exists."""
    with Repo(str(root)) as repo:
        files: Mapping[str, Any] = repo.metrics.show().get("", {}).get("data", {})
    return {path: found["data"] for path, found in files.items() if "data" in found}


def pictures(root: Path, stages: Sequence[str]) -> tuple[Path, ...]:
    """The plots of some stages that are pictures and exist."""
    with Repo(str(root)) as repo:
        files = [
            Path(out.fs_path)
            for name in stages
            for out in _stage(repo, name).outs
            if out.plot and out.fs_path.endswith((".png", ".jpg"))
        ]
    return tuple(file for file in files if file.exists())


def order(root: Path, target: str | None = None) -> tuple[str, ...]:
    """Stages in an order DVC could run them in: all, or `target` and what it needs.

    Raises:
        UnknownStageError: if there is no such stage.
    """
    ordered: list[str] = []
    with Repo(str(root)) as repo:
        needs = _needs(repo)

        def visit(stage: str) -> None:
            if stage not in ordered:
                for needed in needs[stage]:
                    visit(needed)
                ordered.append(stage)

        for stage in needs if target is None else [_stage(repo, target).name]:
            visit(stage)
    return tuple(ordered)


def _needs(repo: Repo) -> dict[str, list[str]]:
    """Stage -> the stages it needs, all as they stand in `dvc.yaml`."""
    stages = repo.index.stages
    graph = repo.index.graph  # an edge leads from a stage to one it needs
    return {
        stage.name: [other.name for other in stages if graph.has_edge(stage, other)]
        for stage in stages
    }


def stale(root: Path, target: str | None = None) -> dict[str, tuple[str, ...]]:
    """What DVC would run, in order, and why; empty if everything is up to date.

    A stage that needs a stale one is stale too: it may turn out unchanged once that one has run.

    Raises:
        UnknownStageError: if there is no such stage.
        BusyError: while DVC runs a stage here.
    """
    return _stale(root, target, lambda _repo, _name, status: status)


def changed_sources(root: Path, target: str | None = None) -> dict[str, tuple[str, ...]]:
    """As `stale`, in a new checkout whose data came out of the cache.

    Outputs that DVC does not cache (they tell of a host: latency, receipts) cannot be there, which
    is no reason to run anything. Where one is missing, `dvc.lock` is asked whether the stage that
    needs it saw what the stage that makes it last wrote.

    Raises:
        UnknownStageError: if there is no such stage.
        BusyError: while DVC runs a stage here.
    """
    return _stale(root, target, _without_host_files)


def _stale(
    root: Path, target: str | None, relevant: Callable[[Repo, str, list[Any]], list[Any]]
) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    with Repo(str(root)) as repo:
        needs = _needs(repo)
        ran_before = _lock(root).keys()
        for name in order(root, target):
            changes = _reasons(relevant(repo, name, _status(repo, name)))
            after = (f"`{needed}` is stale" for needed in needs[name] if needed in found)
            reasons = (*changes, *after) if name in ran_before else ("never ran",)
            if reasons:
                found[name] = reasons
    return found


def _without_host_files(repo: Repo, name: str, status: list[Any]) -> list[Any]:
    """A stage's status without missing files that DVC does not cache and that are as locked."""
    lock = _lock(Path(repo.root_dir))
    written = {
        out["path"]: out.get("md5") for stage in lock.values() for out in stage.get("outs", ())
    }
    seen = {dep["path"]: dep.get("md5") for dep in lock.get(name, {}).get("deps", ())}
    uncached = {str(out) for stage in repo.index.stages for out in stage.outs if not out.use_cache}

    def is_absent_as_locked(path: str, change: object) -> bool:
        is_agreed = seen.get(path, written.get(path)) == written.get(path)
        return change == "deleted" and path in uncached and is_agreed

    kept: list[Any] = []
    for entry in status:
        if isinstance(entry, str):
            kept.append(entry)
            continue
        for kind, changes in entry.items():
            left = {p: how for p, how in changes.items() if not is_absent_as_locked(p, how)}
            if left:
                kept.append({kind: left})
    return kept


def _status(repo: Repo, name: str) -> list[Any]:
    """DVC's own words on what changed about a stage.

    Raises:
        BusyError: if another DVC holds the repository, or runs a stage that writes what we read.
    """
    try:
        with repo.lock:
            changes = _stage(repo, name).status()
    except LockError as error:
        raise BusyError(f"DVC is at work here; wait for it to end. It says: {error}") from None
    return list(chain.from_iterable(changes.values()))


def _reasons(status: list[Any]) -> tuple[str, ...]:
    """One phrase per change.

    Example:
        >>> _reasons([{"changed deps": {"params.yaml": {"train.seed": "new"}}}, "changed command"])
        ('params.yaml: train.seed new', 'changed command')
    """
    phrases: list[str] = []
    for entry in status:
        if isinstance(entry, str):
            phrases.append(entry)
            continue
        for changes in entry.values():
            for path, change in changes.items():
                if isinstance(change, str):
                    phrases.append(f"{path} {change}")
                else:
                    phrases += [f"{path}: {key} {how}" for key, how in change.items()]
    return tuple(phrases)


@dataclass(frozen=True, slots=True)
class StageNeeds:
    """What `meta` of a stage in `dvc.yaml` asks of whoever runs it."""

    limit_s: float
    """Time after which it hangs for sure; `timeout_min` there."""
    device: str | None
    """Kind of device that it must not share with another stage; None if it needs none."""


def stage_needs(root: Path, stage: str) -> StageNeeds:
    """What `stage` needs besides its inputs.

    Raises:
        UnknownStageError: if there is no such stage.
    """
    with Repo(str(root)) as repo:
        meta = _stage(repo, stage).meta or {}
    return StageNeeds(60 * float(meta.get("timeout_min", math.inf)), meta.get("device"))


def is_fresh(root: Path, stage: str) -> bool:
    """Whether `dvc repro --single-item` would find nothing to do for `stage`.

    Raises:
        UnknownStageError: if there is no such stage.
        BusyError: if DVC is at work here.
    """
    with Repo(str(root)) as repo:
        return not _status(repo, stage)


def _stage(repo: Repo, name: str) -> PipelineStage:
    stages = {stage.name: stage for stage in repo.index.stages}
    if name not in stages:
        raise UnknownStageError(f"no stage {name!r} in dvc.yaml; it has {', '.join(stages)}")
    return stages[name]


def _lock(root: Path) -> Mapping[str, Any]:
    """Entries of `dvc.lock` by stage name."""
    path = root / LOCK_FILE
    if not path.exists():
        return {}
    stages: Mapping[str, Any] = YAML(typ="safe").load(path).get("stages", {})
    return stages


def _from_lock_entry(entry: Mapping[str, Any]) -> StageInputs:
    """Read a `dvc.lock` entry; sizes and file counts follow from the md5s and are left out."""
    return StageInputs(
        command=entry["cmd"],
        dependencies={dep["path"]: dep["md5"] for dep in entry.get("deps", ())},
        params={file: dict(values) for file, values in entry.get("params", {}).items()},
    )
