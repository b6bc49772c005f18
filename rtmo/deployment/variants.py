"""Files in lower precision: made, held against torch, and removed again where they do not agree."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from rtmo.deployment.check import Reference
from rtmo.deployment.config import ExportConfig
from rtmo.deployment.deviation import layer_deviations, steepest
from rtmo.deployment.int8 import write_int8
from rtmo.deployment.manifest import Variant, VariantRuntime, file_sha256
from rtmo.deployment.metadata import Form, Precision
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.postprocess import Floats
from rtmo.deployment.precision import write_fp16, write_rounding_twin
from rtmo.deployment.runners import Predictor
from rtmo.deployment.variant_facts import Deviation, Island

FOLDER = "variants"
"""Folder of the variants, beside the float32 files."""

REPORT_SUFFIX = ".layers.json"
"""Of the report that takes the place of a variant outside its budget."""

DEVIATION_PICTURES = 2
"""Pictures in the layer-by-layer comparison."""

Opener = Callable[..., Predictor]

ORT_ON_CPU: tuple[str, Opener] = (
    "as ONNX Runtime runs it on the CPU",
    partial(OnnxPredictor, device="cpu"),
)
OPENVINO_ON_CPU: tuple[str, Opener] = ("as OpenVINO runs it on the CPU", OpenVinoPredictor)


@dataclass(frozen=True, slots=True)
class _Made:
    """A variant before its verdict."""

    path: Path
    source: Path
    precision: Precision
    made_for: VariantRuntime
    islands: dict[str, Island]
    runs: dict[str, Predictor]
    """What is run for it -> the predictor that does so."""
    shown: Path
    """File whose values show its arithmetic in ONNX Runtime on a CPU."""


def make_variants(
    folder: Path,
    sources: Mapping[Form, Path],
    reference: Reference,
    calibration: Sequence[Floats],
    config: ExportConfig,
) -> dict[str, Variant]:
    """Write FP16 and INT8 variants of both forms; keep those within budget.

    The complete form is for CPUs, the raw form for TensorRT. Without calibration there is no INT8.

    Args:
        folder: where the float32 files and later the manifest lie; variants go into `FOLDER` there.
        sources: the float32 files.
        reference: torch's answers on validation pictures.
        calibration: network inputs of training pictures, or none.
        config: budgets.

    Returns:
        Path beside the manifest -> facts, also of variants that are not shipped.
    """
    (folder / FOLDER).mkdir(exist_ok=True)
    variants: dict[str, Variant] = {}
    with TemporaryDirectory() as scratch:
        workshop = _Workshop(folder / FOLDER, Path(scratch), reference)
        for form, source in sources.items():
            made = [workshop.fp16(source, "tensorrt" if form == "raw" else "onnxruntime")]
            if calibration:
                int8 = workshop.int8_for_tensorrt if form == "raw" else workshop.int8_for_openvino
                made.append(int8(source, calibration))
            for variant in made:
                name = f"{FOLDER}/{variant.path.name}"
                variants[name] = _judged(variant, form, reference, config)
    return variants


@dataclass(frozen=True, slots=True)
class _Workshop:
    """Where variants are made."""

    folder: Path
    scratch: Path
    reference: Reference

    def fp16(self, source: Path, made_for: VariantRuntime) -> _Made:
        """The float16 variant, run as it is and with its rounding shown."""
        path = self.folder / f"{source.stem}-fp16.onnx"
        twin = self.scratch / f"{source.stem}-rounding.onnx"
        islands = write_fp16(source, path)
        write_rounding_twin(source, twin)
        name, opener = ORT_ON_CPU
        runs = {
            "every float16 value rounded": self._opened(opener, twin),
            name: self._opened(opener, path),
        }
        return _Made(path, source, "fp16", made_for, islands, runs, shown=twin)

    def int8_for_openvino(self, source: Path, calibration: Sequence[Floats]) -> _Made:
        """The INT8 variant with uint8 activations."""
        path = self.folder / f"{source.stem}-int8-cpu.onnx"
        islands = write_int8(source, path, calibration, "uint8")
        name, opener = OPENVINO_ON_CPU
        runs = {name: self._opened(opener, path)}
        return _Made(path, source, "int8", "openvino", islands, runs, shown=path)

    def int8_for_tensorrt(self, source: Path, calibration: Sequence[Floats]) -> _Made:
        """The INT8 variant with symmetric activations, which OpenVINO computes wrongly."""
        path = self.folder / f"{source.stem}-int8.onnx"
        islands = write_int8(source, path, calibration, "int8")
        name, opener = ORT_ON_CPU
        runs = {name: self._opened(opener, path)}
        return _Made(path, source, "int8", "tensorrt", islands, runs, shown=path)

    def _opened(self, opener: Opener, path: Path) -> Predictor:
        reference = self.reference
        return opener(path, score_threshold=reference.score_threshold, nms_iou=reference.nms_iou)


def _judged(made: _Made, form: Form, reference: Reference, config: ExportConfig) -> Variant:
    """Hold a variant against torch; outside its budget the file gives way to a report."""
    budget = config.budgets.of(made.precision)
    checks = {name: reference.check(predictor) for name, predictor in made.runs.items()}
    problems = [
        f"{name}: {problem}"
        for name, check in checks.items()
        for problem in check.over_budget(budget)
    ]
    made.path.with_suffix(REPORT_SUFFIX).unlink(missing_ok=True)  # of an earlier export
    variant = Variant(
        sha256=file_sha256(made.path),
        size_bytes=made.path.stat().st_size,
        form=form,
        precision=made.precision,
        made_for=made.made_for,
        checks=checks,
        islands=made.islands,
        problems=tuple(problems),
        deviation=_reported(made, reference) if problems else None,
    )
    if problems:
        made.path.unlink()
    return variant


def _reported(made: _Made, reference: Reference) -> Deviation:
    """Write the layer-by-layer report of a variant and sum it up."""
    pixels = reference.batches[0].pixels[:DEVIATION_PICTURES]
    layers = layer_deviations(made.source, made.shown, pixels)
    report = made.path.with_suffix(REPORT_SUFFIX)
    rows = [layer.model_dump() for layer in layers]
    report.write_text(json.dumps(rows, indent=1) + "\n")
    return Deviation(report=f"{FOLDER}/{report.name}", steepest=steepest(layers))
