"""The model in the workspace and everything the stages before `register` found out about it."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from pipelines.paths import Paths
from rtmo._config import Config
from rtmo.deployment.latency import LatencyReport
from rtmo.deployment.manifest import Manifest
from rtmo.evaluation.bootstrap import Interval
from rtmo.store import Licence

MODEL_FILES = ("weights.safetensors", "rtmo.onnx", "rtmo-raw.onnx")
"""What the content hash covers: the trained weights and both exported forms."""


class IncompleteWorkspaceError(RuntimeError):
    """An output of an earlier stage is missing or damaged; the message names it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One trained, exported, evaluated model."""

    stage_hash: str
    """Of the training."""
    files: Mapping[str, Path]
    """Model files by name."""
    sha256: Mapping[str, str]
    """Of each model file."""
    card: Mapping[str, Any]
    """`model_card.json` of the training."""
    metrics: Mapping[str, float]
    """On the validation split."""
    intervals: Mapping[str, Interval]
    """Of AP and AR on the validation split, 95 %."""
    gate_metrics: Mapping[str, float]
    """On the gate split."""
    gate_detections: tuple[Mapping[str, Any], ...]
    """COCO result list on the gate split."""
    taxonomy: Mapping[str, Any]
    """`metrics.json` of the stage `inspect`: which errors there are and what they cost."""
    manifest: Manifest
    """Of the export: parity figures and what could be built."""
    benchmark: LatencyReport | None
    """Of the machine that ran it; None for a model brought back from history: DVC keeps none."""
    curves: tuple[tuple[int, Mapping[str, float]], ...]
    """(step, values) per epoch."""

    @property
    def content_hash(self) -> str:
        """The identity of the model: what it computes, not where or when it was made."""
        return content_hash(self.sha256)

    @property
    def onnx(self) -> Path:
        """The complete form, which is served."""
        return self.files["rtmo.onnx"]

    @property
    def licences(self) -> tuple[Licence, ...]:
        """Of the data, and of weights the training started from."""
        cards = (self.card, *self.card["merged"])
        data = dict.fromkeys(Licence.model_validate(card["licence"]) for card in cards)
        initial = self.card["initial"]
        inherited = [] if initial is None else initial["licences"]
        return tuple(data | dict.fromkeys(map(Licence.model_validate, inherited)))


def read_candidate(paths: Paths) -> Candidate:
    """Read the outputs of `train`, `evaluate`, `inspect`, `export` and `benchmark`.

    Raises:
        IncompleteWorkspaceError: naming what is missing or unreadable.
    """
    benchmark = read_config(LatencyReport, paths.report("benchmark") / "benchmark.json")
    return _read(paths, benchmark)


def read_former_candidate(paths: Paths) -> Candidate:
    """As `read_candidate`, from what DVC keeps: latency is not among it.

    Raises:
        IncompleteWorkspaceError: naming what is missing or unreadable.
    """
    return _read(paths, None)


def _read(paths: Paths, benchmark: LatencyReport | None) -> Candidate:
    files = model_files(paths)
    hashes = {name: sha256(file) for name, file in files.items()}
    evaluated = paths.report("evaluate")
    card = read_json(paths.trained / "model_card.json")
    manifest = read_config(Manifest, paths.exported / "manifest.json")
    for name, exported in manifest.files.items():
        if hashes.get(name) != exported.sha256:
            raise IncompleteWorkspaceError(
                f"{paths.exported / name} is not the file that manifest.json describes; "
                "`dvc repro` exports again, `dvc checkout export` brings the former files back"
            )
    return Candidate(
        stage_hash=str(card["stage_hash"]),
        files=files,
        sha256=hashes,
        card=card,
        metrics=read_json(evaluated / "metrics.json"),
        intervals={
            name: Interval(**ends) for name, ends in read_json(evaluated / "intervals.json").items()
        },
        gate_metrics=read_json(evaluated / "gate_metrics.json"),
        gate_detections=tuple(read_json(evaluated / "gate_detections.json")),
        taxonomy=read_json(paths.report("inspect") / "metrics.json"),
        manifest=manifest,
        benchmark=benchmark,
        curves=tuple(read_curves(paths.trained / "curves.csv")),
    )


def model_files(paths: Paths) -> dict[str, Path]:
    """Where the model files lie in the workspace."""
    weights, *exported = MODEL_FILES
    return {weights: paths.trained / weights} | {name: paths.exported / name for name in exported}


def content_hash(sha256_by_name: Mapping[str, str]) -> str:
    """sha256 over names and hashes of the model files, in order of name."""
    lines = [f"{name} {digest}\n" for name, digest in sorted(sha256_by_name.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def sha256(file: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        IncompleteWorkspaceError: if there is no such file.
    """
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        raise _missing(file) from None


def read_json(file: Path) -> Any:  # noqa: ANN401
    """Content of a report of an earlier stage.

    Raises:
        IncompleteWorkspaceError: if there is no such file or it is not JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except FileNotFoundError:
        raise _missing(file) from None
    except ValueError as error:
        raise IncompleteWorkspaceError(
            f"{file} is not JSON ({error}); delete it and run `dvc repro`"
        ) from None


ReportType = TypeVar("ReportType", bound=Config)


def read_config(kind: type[ReportType], file: Path) -> ReportType:
    """A report of an earlier stage that has a schema.

    Raises:
        IncompleteWorkspaceError: if there is no such file or it does not fit the schema.
    """
    try:
        return kind.model_validate(read_json(file))
    except ValidationError as error:
        raise IncompleteWorkspaceError(
            f"{file} does not fit {kind.__name__}; run `dvc repro`: {error}"
        ) from None


def read_curves(file: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Rows of `curves.csv` as (step, values); empty cells are left out.

    Raises:
        IncompleteWorkspaceError: if there is no such file, or it has no column `step`.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise _missing(file) from None
    yield from parse_curves(text.splitlines(), str(file))


def parse_curves(lines: Iterable[str], source: str) -> Iterator[tuple[int, dict[str, float]]]:
    """The rows of a CSV text; see `read_curves`.

    Example:
        >>> list(parse_curves(["epoch,step,loss,AP", "0,10,2.5,", "1,20,1.5,0.25"], "curves.csv"))
        [(10, {'epoch': 0.0, 'loss': 2.5}), (20, {'epoch': 1.0, 'loss': 1.5, 'AP': 0.25})]
    """
    for row in csv.DictReader(lines):
        if "step" not in row:
            raise IncompleteWorkspaceError(f"{source} has columns {[*row]}, expected one `step`")
        values = {name: float(cell) for name, cell in row.items() if name != "step" and cell}
        yield int(float(row["step"])), values


def _missing(file: Path) -> IncompleteWorkspaceError:
    return IncompleteWorkspaceError(
        f"{file} does not exist; `dvc repro` makes it, `dvc checkout` or `dvc pull` brings it back"
    )
