"""One stage brought up to date by a `dvc repro` of its own."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.dvc_command import NO_VARIABLES, Ended, run_dvc
from pipelines.dvc_graph import is_fresh, stage_needs
from pipelines.process import TIMED_OUT

COMMAND_STATUS = re.compile(r"failed to run: .*, exited with (-?\d+)")


class StageFailedError(RuntimeError):
    """DVC could not bring a stage up to date."""

    def __init__(self, stage: str, status: int, last_lines: tuple[str, ...]) -> None:
        super().__init__(stage, status, last_lines)  # all of them: so it can be pickled
        self.stage = stage
        self.status = status
        self.last_lines = last_lines

    def __str__(self) -> str:
        return "\n".join((f"stage `{self.stage}` failed, status {self.status}:", *self.last_lines))


@dataclass(frozen=True, slots=True)
class StageOutcome:
    """What bringing one stage up to date came to."""

    stage: str
    state: Literal["fresh", "ran", "failed"]
    """fresh: DVC had nothing to do."""
    duration_s: float


def run_stage(
    root: Path,
    stage: str,
    log: Callable[[str], None],
    environment: Mapping[str, str] = NO_VARIABLES,
) -> StageOutcome:
    """Bring `stage` alone up to date in a `dvc repro` of its own that ends with this process.

    Args:
        root: repository root.
        stage: its name in `dvc.yaml`; what it needs must be up to date.
        log: called with each line that DVC and the stage print.
        environment: variables for DVC and the stage, besides those of this process.

    Raises:
        UnknownStageError: if there is no such stage.
        StageFailedError: if the stage fails; its `status` is that of the stage's command where DVC
            got as far as starting it, and TIMED_OUT if it took longer than its `timeout_min`.
        BusyError: if DVC is at work here already.
    """
    started = time.monotonic()
    if is_fresh(root, stage):
        return StageOutcome(stage, "fresh", time.monotonic() - started)
    limit_s = stage_needs(root, stage).limit_s
    command = ["repro", "--single-item", stage]
    _require_success(stage, run_dvc(root, command, log, environment, limit_s), limit_s)
    return StageOutcome(stage, "ran", time.monotonic() - started)


def run_stage_again(
    root: Path,
    stage: str,
    log: Callable[[str], None],
    environment: Mapping[str, str] = NO_VARIABLES,
) -> None:
    """Run `stage` for real, be it up to date or known to DVC's run cache; see `run_stage`.

    Raises:
        UnknownStageError: if there is no such stage.
        StageFailedError: if it fails.
    """
    limit_s = stage_needs(root, stage).limit_s
    command = ["repro", "--single-item", "--force", "--no-run-cache", stage]
    _require_success(stage, run_dvc(root, command, log, environment, limit_s), limit_s)


def _require_success(stage: str, ended: Ended, limit_s: float) -> None:
    if ended.status == TIMED_OUT:
        words = f"ended after {limit_s / 60:g} minutes; is it stuck, or timeouts_min too low?"
        raise StageFailedError(stage, TIMED_OUT, (*ended.last_lines, words))
    if ended.status:
        said = COMMAND_STATUS.search("\n".join(ended.last_lines))
        status = int(said.group(1)) if said else ended.status
        raise StageFailedError(stage, status, ended.last_lines)
