"""Train and evaluate a registered version again, from its commit and data, and compare."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines import dvc_graph, dvc_repro
from pipelines.dvc_data import DataTransferError, restore_outputs
from pipelines.lineage import lineage
from pipelines.params import RegisterConfig, load_params, read_yaml
from pipelines.paths import Paths
from pipelines.registry.candidate import read_json, sha256
from pipelines.registry.difference import read_card
from pipelines.registry.gate import seed_difference
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import Version, aliases_by_version, get_version
from pipelines.worktree import HistoryError, commits_with_training, worktree

Outcome = Literal["identical", "within seed deviation", "differs", "cannot tell"]
ADDRESS = re.compile(r"(?:models:/(?P<name>[^/@]+)[/@])?(?P<which>[\w.-]+)")
REPEATED = ("train", "evaluate")
METRICS = {"val": "metrics.json", "gate": "gate_metrics.json"}
"""Split -> file of `evaluate`."""


class AddressError(ValueError):
    """Not the address of a registered version."""


class ReproductionError(RuntimeError):
    """What a version was made from cannot be had; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """What training again came to."""

    outcome: Outcome
    words: str
    metrics: Mapping[str, tuple[float, float]]
    """Metric -> as registered, and now."""


def reproduce(paths: Paths, address: str, log: Callable[[str], None]) -> Reproduction:
    """Repeat the training of a version in a worktree that is removed afterwards.

    Data comes from DVC's cache or remote, or is made anew from its sources. `train` and `evaluate`
    run for real, with the code of that commit. Neither the workspace nor the registry is touched:
    the worktree has a store and checkpoints of its own.

    Args:
        paths: of a checkout whose git history has the version's `dvc.lock`.
        address: `models:/rtmo/7`, `models:/rtmo@champion`, or just `7` or `champion`.
        log: called with each line that DVC and the stages print.

    Raises:
        AddressError, UnknownVersionError: if there is no such version.
        HistoryError: if git does not have the commit.
        ReproductionError: if the commit does not hold what was trained, or its data is gone.
        StageFailedError: if training or evaluation fails.
    """
    tracking = open_tracking(paths)
    rules = load_params(paths.root).registration
    version = find_address(tracking, rules.name, address)
    registered: dict[str, dict[str, float]] = read_card(tracking, version)["metrics"]
    stage_hash = version.tags["stage_hash"]
    commits = commits_with_training(paths.root, stage_hash)
    if not commits:
        raise HistoryError(
            f"no commit here has a dvc.lock with the training {stage_hash[:12]} of version "
            f"{version.number}: was it committed, and is its branch fetched? The training began on "
            f"commit {version.tags.get('git.commit', 'unknown')}"
        )
    problems = []
    for commit in reversed(commits):  # the oldest is the one that was trained on
        with worktree(paths.root, commit) as tree:
            log(f"version {version.number} in a worktree of commit {commit}")
            bring_inputs(paths, tree, log)
            changed = changed_since_training(tree)
            if changed:
                problems.append(f"at {commit[:8]}: {', '.join(changed)}")
                continue
            weights, now = train_again(tree, log)
            differences = differing_circumstances(version, tree, paths)
        metrics = {
            f"{split}.{name}": (value, now[split][name])
            for split, values in registered.items()
            for name, value in values.items()
        }
        is_same_model = weights == version.tags["sha256.weights.safetensors"]
        return judge(rules, metrics, differences, is_same_model=is_same_model)
    raise ReproductionError(
        f"version {version.number} was trained on changes that were not committed; what git and "
        f"the data sources have differs ({'; '.join(problems)})"
    )


def find_address(tracking: Tracking, model: str, address: str) -> Version:
    """The version that an address names.

    Raises:
        AddressError: if it names another model, or an alias that is not set.
        UnknownVersionError: if there is no version of that number.
    """
    found = ADDRESS.fullmatch(address)
    if found is None or found["name"] not in (None, model):
        raise AddressError(
            f"{address!r} is no version of {model!r}; give models:/{model}/NUMBER, "
            f"models:/{model}@ALIAS, or the number or alias alone"
        )
    if found["which"].isdecimal():
        return get_version(tracking, model, int(found["which"]))
    aliases = aliases_by_version(tracking, model)
    for number, names in aliases.items():
        if found["which"] in names:
            return get_version(tracking, model, number)
    known = ", ".join(name for names in aliases.values() for name in names) or "none"
    raise AddressError(
        f"no version of {model!r} has the alias {found['which']!r}; aliases that are set: {known}"
    )


def bring_inputs(paths: Paths, tree: Path, log: Callable[[str], None]) -> None:
    """The data of the commit, and the weights that its training starts from, into the worktree.

    Raises:
        ReproductionError: if the data is nowhere and cannot be made anew.
    """
    try:
        restore_outputs(tree, ["convert"], log)
    except DataTransferError:
        log("the converted data is in neither the cache nor the remote; making it anew")
        local_state = {"DVC_ROOT": str(paths.state_root)}  # which has finished downloads
        try:
            for stage in dvc_graph.order(tree, "convert"):
                dvc_repro.run_stage(tree, stage, log, local_state)
        except dvc_repro.StageFailedError as error:
            raise ReproductionError(
                "the version's data is in neither DVC's cache nor its remote, and cannot be made "
                f"anew. `dvc pull` it where it was pushed from, or mend this: {error}"
            ) from None
    initial = _train_settings(tree).get("init_weights")
    if initial is not None and (paths.root / initial).is_file() and not (tree / initial).exists():
        (tree / initial).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(paths.root / initial, tree / initial)  # the stage compares its hash


def _train_settings(tree: Path) -> Mapping[str, Any]:
    """As the commit has them: its schema may have been another one."""
    content = read_yaml(tree / "params.yaml")
    settings = content.get("train") if isinstance(content, Mapping) else None
    return settings if isinstance(settings, Mapping) else {}


def changed_since_training(tree: Path) -> tuple[str, ...]:
    """What `train` would be made from now that is not what `dvc.lock` says it was made from."""
    locked = dvc_graph.locked_stage_inputs(tree, "train")
    now = dvc_graph.stage_inputs(tree, "train")
    return ("train never ran",) if locked is None else locked.changes(now)


def train_again(tree: Path, log: Callable[[str], None]) -> tuple[str, dict[str, dict[str, float]]]:
    """`train` and `evaluate` for real; sha256 of the weights, and the metrics by split."""
    own_state = {"MLFLOW_TRACKING_URI": f"sqlite:///{tree / 'mlflow.db'}", "DVC_ROOT": str(tree)}
    for stage in REPEATED:
        dvc_repro.run_stage_again(tree, stage, log, own_state)
    made = Paths(tree, tree)
    metrics = {split: read_json(made.report("evaluate") / file) for split, file in METRICS.items()}
    return sha256(made.trained / "weights.safetensors"), metrics


def differing_circumstances(version: Version, tree: Path, paths: Paths) -> tuple[str, ...]:
    """What may explain other bits: another processor, a GPU, other packages."""
    here = lineage(tree)
    found = []
    if version.tags.get("cpu") != here.get("cpu"):
        found.append(f"trained on {version.tags.get('cpu', 'an unknown processor')}")
    if version.tags.get("gpu") or here.get("gpu"):
        found.append("a GPU is at hand")
    installed = lineage(paths.root).get("lock.environment")
    if version.tags.get("lock.environment") != installed:
        found.append("trained with another requirements.lock")
    return tuple(found)


def judge(
    rules: RegisterConfig,
    metrics: Mapping[str, tuple[float, float]],
    differences: tuple[str, ...],
    *,
    is_same_model: bool,
) -> Reproduction:
    """In the same circumstances every bit must agree; else AP, within what seeds differ by."""
    same = [name for name, (before, now) in metrics.items() if before == now]
    agreeing = f"{len(same)} of {len(metrics)} metrics agree bit for bit"
    if is_same_model and len(same) == len(metrics):
        return Reproduction("identical", f"the weights and {agreeing}", metrics)
    before, now = metrics["val.AP"]
    moved = f"{agreeing}; validation AP was {before:.4f} and is {now:.4f}"
    if not differences:
        words = f"{moved}, on the same processor with the same packages: all bits should agree"
        return Reproduction("differs", words, metrics)
    elsewhere = f"{moved}; {', '.join(differences)}"
    if rules.seed_std is None:
        words = f"{elsewhere}; register.seed_std was not measured"
        return Reproduction("cannot tell", words, metrics)
    allowed = seed_difference(rules, rules.seed_std)
    outcome: Outcome = "within seed deviation" if abs(now - before) <= allowed else "differs"
    return Reproduction(outcome, f"{elsewhere}; two seeds differ by up to {allowed:.4f}", metrics)
