"""From the files of a workspace to what is registered."""

from __future__ import annotations

from collections.abc import Callable

from pipelines.dvc_graph import StageInputs, data_digest
from pipelines.lineage import lineage
from pipelines.params import Params
from pipelines.paths import Paths
from pipelines.registry.candidate import Candidate, IncompleteWorkspaceError, read_candidate
from pipelines.registry.comparison import GateData
from pipelines.registry.release import Registration, running_experiment
from pipelines.tracking.runs import DATA_DIGEST_TAG


def read_registration(
    paths: Paths,
    params: Params,
    inputs: StageInputs,
    *,
    by: str,
    read: Callable[[Paths], Candidate] = read_candidate,
) -> Registration:
    """Everything `register` needs.

    Args:
        paths: of the workspace.
        params: its settings.
        inputs: of the stage `register`, taken now or from `dvc.lock`; they name the gate data.
        by: who registers.
        read: reads the outputs of the earlier stages.

    Raises:
        IncompleteWorkspaceError: if an output of an earlier stage is missing.
    """
    folder = paths.processed(params.data.dataset) / "gate"
    digest = inputs.dependencies.get(folder.relative_to(paths.root).as_posix())
    if digest is None:
        raise IncompleteWorkspaceError(
            f"stage `register` does not depend on {folder}; it is made from "
            f"{', '.join(inputs.dependencies)}: was data.dataset changed? Run `dvc repro`"
        )
    return Registration(
        paths=paths,
        params=params,
        candidate=read(paths),
        gate=GateData(folder, digest, params.evaluate),
        lineage={**lineage(paths.root), DATA_DIGEST_TAG: data_digest(paths.root) or ""},
        by=by,
        experiment=running_experiment(),
    )
