"""What every stage does around its work: its hash before and after, outputs put in place whole."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipelines import dvc_graph
from pipelines.faults import is_temporary
from pipelines.params import Params, load_params
from pipelines.paths import Paths, repository_paths

# It reports the beginning and the end of every evaluation.
logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)

TEMPORARY_FAULT = os.EX_TEMPFAIL
"""Exit status of a stage that may succeed when tried again."""


class InputsChangedError(RuntimeError):
    """Something a stage was made from changed while it ran."""


@dataclass(frozen=True, slots=True)
class StageRun:
    """One run of one stage."""

    name: str
    paths: Paths
    params: Params
    inputs: dvc_graph.StageInputs
    """What it is made from, taken before any work."""

    @property
    def hash(self) -> str:
        """The stage hash."""
        return self.inputs.hash

    @contextmanager
    def publish(self, folder: Path) -> Iterator[Path]:
        """Yield an empty folder beside `folder` that takes its place if the block succeeds.

        Its name is fixed, so what a killed run leaves there is cleared by the next one.

        Raises:
            InputsChangedError: if the stage's command, dependencies or params are no longer those
                it began with. DVC hashes dependencies after the command: it would take an edit
                made during a long training for what the model was trained with.
        """
        unfinished = folder.with_name(f".{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        try:
            yield unfinished
            self.require_unchanged_inputs()
            if folder.exists():
                shutil.rmtree(folder)
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def require_unchanged_inputs(self) -> None:
        """Raise InputsChangedError, naming what changed since the stage began."""
        changes = self.inputs.changes(dvc_graph.stage_inputs(self.paths.root, self.name))
        if changes:
            raise InputsChangedError(
                f"stage `{self.name}` was not published: {', '.join(changes)} changed while it "
                "ran, so its outputs would be recorded under the wrong sources. Run `dvc repro` "
                f"again; `dvc checkout {self.name}` brings the former outputs back."
            )


@contextmanager
def stage_run(name: str) -> Iterator[StageRun]:
    """Everything a stage needs to know of its run; started by DVC or by hand.

    Raises:
        ParamsError: if `params.yaml` cannot be used.
        InputsChangedError: see `StageRun.publish`; also at the end, for stages that publish early.
        SystemExit: with TEMPORARY_FAULT for a fault that a later try may not meet (`faults`); flows
            retry those only.
    """
    paths = repository_paths()
    try:
        params = load_params(paths.root)
        run = StageRun(name, paths, params, dvc_graph.stage_inputs(paths.root, name))
        yield run
        run.require_unchanged_inputs()
    except Exception as error:
        if is_temporary(error):
            logging.getLogger(__name__).exception("stage `%s` met a temporary fault", name)
            raise SystemExit(TEMPORARY_FAULT) from error
        error.add_note(
            f"DVC deletes a stage's outputs before its command: `dvc checkout {name}` brings the "
            "former ones back."
        )
        raise
