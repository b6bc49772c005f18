"""INT8 by explicit Q/DQ nodes: most convolutions; everything else stays float32.

Weights are int8, symmetric, one scale per output channel. Activations are quantised where a
convolution reads them, in one of two ways, because the runtimes want different ones: TensorRT
takes symmetric int8 only; OpenVINO and ONNX Runtime compute uint8 with a zero point, which wastes
no half of the range on SiLU's small negative side.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from fnmatch import fnmatch
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import onnx

from rtmo.deployment.bias_correction import correct_biases
from rtmo.deployment.postprocess import Floats
from rtmo.deployment.precision import islands_of, save_variant
from rtmo.deployment.score_correction import correct_scores
from rtmo.deployment.variant_facts import Island

Activations = Literal["uint8", "int8"]
"""How values between convolutions are stored."""

PERCENTILE = 99.999
"""Share of calibration values, percent, that lies inside the range of its quantised value."""

QUANTISED = (
    "backbone.stage*",
    "neck.lateral*",
    "neck.top_down*",
    "neck.downsample*",
    "neck.bottom_up*",
    "head.levels.*.cls_convs*",
    "head.levels.*.pose_convs*",
)
"""Patterns of the names of convolutions that are quantised."""

KEPT_FLOAT = {
    "backbone.stem*": "first convolution: it reads pixels, and its error reaches everything",
    "neck.input_proj*": "projections into the neck: no activation bounds their range",
    "neck.encoder*": "attention over the coarsest map: matrix products, not convolutions",
    "neck.projector*": "last maps before the head: no activation bounds their range",
    "head.levels.*.out_*": "scores and boxes: an error there is an error of the result",
}
"""Patterns of the names of nodes of the network that stay float32 -> reason."""


def write_int8(
    source: Path, target: Path, batches: Sequence[Floats], activations: Activations
) -> dict[str, Island]:
    """Write a float32 file's INT8 variant; returns what stays float32 in it.

    Args:
        source: complete or raw form, written by `export_onnx`.
        target: .onnx file to write.
        batches: network inputs of training pictures, which set the ranges.
        activations: `int8` for TensorRT, `uint8` for CPUs.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    model = onnx.load(source)
    convolutions = [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and any(fnmatch(node.name, part) for part in QUANTISED)
    ]
    with TemporaryDirectory() as folder, _quiet_quantiser():
        quantised = Path(folder) / target.name
        quantize_static(
            source,
            quantised,
            _batch_reader(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_quantize=convolutions,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8 if activations == "int8" else QuantType.QUInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "ActivationSymmetric": activations == "int8",
                "CalibPercentile": PERCENTILE,
                "WeightSymmetric": True,
                "QuantizeBias": False,  # TensorRT has no int32 biases
                # The activation after a convolution reads its float32 result.
                "OpTypesToExcludeOutputQuantization": ["Conv"],
            },
        )
        variant = onnx.load(quantised)
    correct_biases(variant, source, batches)
    correct_scores(variant, source, batches)
    save_variant(variant, target, "int8")
    return islands_of(model) | {
        pattern: Island(reason=reason, nodes=count)
        for pattern, reason in KEPT_FLOAT.items()
        if (count := sum(fnmatch(node.name, pattern) for node in model.graph.node))
    }


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """Silence what the quantiser prints, and its advice to fold the graph first: it is folded.

    ONNX Runtime's sessions of it remark on overridable initialisers.
    """
    import onnxruntime

    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    onnxruntime.set_default_logger_severity(3)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
        onnxruntime.set_default_logger_severity(2)  # its own default: warnings


def _batch_reader(batches: Iterable[Floats]) -> Any:  # noqa: ANN401 - the library has no types
    """The pictures one by one, as dictionaries: ONNX Runtime's calibration stacks what it collects.

    So a last batch that is smaller than the others would end it.
    """
    from onnxruntime.quantization import CalibrationDataReader

    class BatchReader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, remaining: Iterator[Floats]) -> None:
            self.remaining = remaining

        def get_next(self) -> dict[str, Floats] | None:
            picture = next(self.remaining, None)
            return None if picture is None else {"input": picture[None]}

    return BatchReader(picture for batch in batches for picture in batch)
