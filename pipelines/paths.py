"""Every path of the pipeline, spelled once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

MERGED = "merged"
"""Folder of the merged sets, by name, in the raw and the processed folder of the main dataset."""


class NotACheckoutError(RuntimeError):
    """The working directory is not the repository root."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Where things lie in a checkout."""

    root: Path
    """The tree that is read and written."""
    state_root: Path
    """The person's checkout, which keeps what is local and must survive. It is another one than
    `root` while DVC runs an experiment in a copy (`dvc exp run --temp`, the queue)."""

    @property
    def params(self) -> Path:
        """The settings of the run."""
        return self.root / "params.yaml"

    def source(self, dataset: str) -> Path:
        """What to download for a dataset."""
        return self.root / "sources" / f"{dataset}.json"

    def corrections(self, dataset: str) -> Path:
        """What people corrected in a dataset's annotations."""
        return self.root / "sources" / "corrections" / f"{dataset}.json"

    def deletions(self, dataset: str) -> Path:
        """Which pictures of a dataset must not be used any more."""
        return self.root / "sources" / "deletions" / f"{dataset}.json"

    def raw(self, dataset: str) -> Path:
        """Downloaded archives."""
        return self.root / "data" / "raw" / dataset

    def processed(self, dataset: str) -> Path:
        """Converted dataset: one store per split."""
        return self.root / "data" / "processed" / dataset

    def downloads(self, dataset: str) -> Path:
        """Finished and unfinished downloads of a dataset; local, like all of `runs`."""
        return self.runs / "downloads" / dataset

    @property
    def trained(self) -> Path:
        """Output of `train`."""
        return self.root / "models" / "train"

    @property
    def exported(self) -> Path:
        """Output of `export`."""
        return self.root / "models" / "export"

    def report(self, stage: str) -> Path:
        """What a stage reports."""
        return self.root / "reports" / stage

    @property
    def runs(self) -> Path:
        """Local state that must survive: resume checkpoints, partial downloads, engines."""
        return self.state_root / "runs"

    @property
    def mlflow_database(self) -> Path:
        """The default MLflow store."""
        return self.state_root / "mlflow.db"


def repository_paths() -> Paths:
    """Paths in the working directory, the repository root; local state in DVC_ROOT if that is set.

    DVC sets DVC_ROOT for stage commands. It runs them in the root they belong to; in an experiment
    that is a copy under `.dvc/tmp/exps/`, and DVC_ROOT still names the checkout it was copied from.
    """
    root = Path.cwd().resolve()
    return Paths(root, Path(os.environ.get("DVC_ROOT", root)).resolve())


def checkout() -> Paths:
    """Paths in the working directory, for commands that a person types.

    Raises:
        NotACheckoutError: if that is not the repository root.
    """
    paths = repository_paths()
    if not (paths.root / "dvc.yaml").exists():
        raise NotACheckoutError(f"no dvc.yaml in {paths.root}; go to the repository root")
    return paths
