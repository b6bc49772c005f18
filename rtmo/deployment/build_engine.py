"""TensorRT engines from the raw ONNX form: one path for TensorRT 10, 11 and TensorRT for RTX.

The network is strongly typed: precision is what the ONNX graph says, no builder flag can change
it. `tensorrt` is used where it is installed, else `tensorrt_rtx`, which builds ahead of time and
needs no GPU for that. Running an engine always needs one.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import onnx

from rtmo.deployment.engine_facts import BatchProfile, EngineReceipt, RunStatus
from rtmo.deployment.metadata import ModelMetadata, metadata_from_properties
from rtmo.deployment.runners import UnavailableError

PACKAGES = ("tensorrt", "tensorrt_rtx")
"""Python modules of TensorRT, in order of preference."""


class EngineBuildError(RuntimeError):
    """TensorRT refused the graph; the message names operator and reason."""


class TensorRtMissingError(RuntimeError):
    """No TensorRT is installed."""


def build_engine(
    onnx_path: Path, engine_path: Path, profile: BatchProfile | None = None
) -> EngineReceipt:
    """Parse the raw-form ONNX file and build an engine for a range of batch sizes.

    Args:
        onnx_path: file of the raw form (`NonMaxSuppression` parses but cannot be built).
        engine_path: engine to write.
        profile: batch sizes; None takes the defaults of `BatchProfile`.

    Raises:
        TensorRtMissingError: if neither package is installed.
        EngineBuildError: if parsing or building fails, or if TensorRT understood another precision
            than the file's.
        ValueError: if the file is not of the raw form.
    """
    profile = profile or BatchProfile()
    content = onnx_path.read_bytes()
    metadata = _raw_metadata(content, onnx_path)
    trt = _tensorrt()
    started = time.perf_counter()
    messages: list[str] = []
    logger = _message_logger(trt, messages.append)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        raise EngineBuildError(_parse_failure(parser, onnx_path))
    _require_precision(trt, network, content, metadata, onnx_path)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that types can be read back
    shapes = builder.create_optimization_profile()
    batches = (profile.smallest, profile.usual, profile.largest)
    shapes.set_shape(
        "input", *((batch, 3, metadata.input_size, metadata.input_size) for batch in batches)
    )
    config.add_optimization_profile(shapes)
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise EngineBuildError(_build_failure(messages, content, onnx_path))
    engine_path.write_bytes(engine)
    return EngineReceipt(
        package=trt.__name__,
        version=trt.__version__,
        onnx_sha256=hashlib.sha256(content).hexdigest(),
        metadata=metadata,
        profile=profile,
        layer_precisions=_layer_precisions(network),
        engine_bytes=engine_path.stat().st_size,
        seconds=round(time.perf_counter() - started, 2),
    )


def cached_engine(
    onnx_path: Path, folder: Path, profile: BatchProfile | None = None
) -> tuple[Path, EngineReceipt]:
    """The engine of that ONNX file for this TensorRT, built if `folder` does not have it yet.

    The key is ONNX hash, package, version and profile. Engines of `tensorrt` also depend on the
    GPU they were built on, so its name is part of the key.

    Raises:
        As `build_engine`.
    """
    profile = profile or BatchProfile()
    trt = _tensorrt()
    facts = (
        hashlib.sha256(onnx_path.read_bytes()).hexdigest(),
        trt.__name__,
        trt.__version__,
        _target(trt),
        profile.model_dump_json(),
    )
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    engine, receipt = folder / f"{key}.engine", folder / f"{key}.json"
    if engine.exists() and receipt.exists():
        return engine, EngineReceipt.model_validate_json(receipt.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{key}.partial"
    built = build_engine(onnx_path, partial, profile)
    partial.replace(engine)
    receipt.write_text(built.model_dump_json(indent=2))
    return engine, built


def run_status(engine_path: Path) -> RunStatus:
    """Whether this host can load the engine, and if not, what TensorRT said."""
    try:
        open_engine(engine_path)
    except UnavailableError as error:
        return RunStatus(status="unavailable", reason=str(error))
    return RunStatus(status="available", reason="")


def open_engine(engine_path: Path) -> tuple[ModuleType, Any]:
    """The TensorRT package and the engine, loaded by it.

    Raises:
        UnavailableError: if no TensorRT is installed or it cannot load the engine on this host.
    """
    try:
        trt = _tensorrt()
    except TensorRtMissingError as error:
        raise UnavailableError(str(error)) from error
    messages: list[str] = []
    runtime = trt.Runtime(_message_logger(trt, messages.append))
    engine = runtime.deserialize_cuda_engine(engine_path.read_bytes())
    if engine is None:
        reason = messages[0] if messages else "it gave no reason"
        raise UnavailableError(
            f"{trt.__name__} {trt.__version__} cannot load the engine here: {reason}"
        )
    return trt, engine


def _tensorrt() -> ModuleType:
    for name in PACKAGES:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise TensorRtMissingError(
        "no TensorRT here: neither tensorrt nor tensorrt_rtx can be imported; "
        "`pip install tensorrt-rtx` is enough to build"
    )


def _target(trt: ModuleType) -> str:
    """What an engine of this package is tied to: `portable` for RTX, else the GPU's capability."""
    if trt.__name__ == "tensorrt_rtx":
        return "portable"
    import torch

    return f"sm{torch.cuda.get_device_capability()}" if torch.cuda.is_available() else "no GPU"


def _raw_metadata(content: bytes, source: Path) -> ModelMetadata:
    """What a raw-form ONNX file says about itself.

    Raises:
        ValueError: if it is not one.
        MetadataError: if it does not say what it is.
    """
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError is not importable by a stable name
        raise ValueError(f"{source} is not an ONNX file: {error}") from error
    properties = {item.key: item.value for item in model.metadata_props}
    metadata = metadata_from_properties(properties, str(source))
    if metadata.form != "raw":
        raise ValueError(
            f"{source} has the {metadata.form} form, whose NonMaxSuppression TensorRT parses but "
            "cannot build; use the raw form (rtmo-raw.onnx)"
        )
    return metadata


def _require_precision(
    trt: ModuleType,
    network: Any,  # noqa: ANN401
    content: bytes,
    metadata: ModelMetadata,
    source: Path,
) -> None:
    """Hold the types that TensorRT derived against what the file says it is.

    Raises:
        EngineBuildError: if convolutions have another type, or Q/DQ pairs went missing.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    of_convolutions = {
        layer.get_output_type(0).name for layer in layers if layer.type == trt.LayerType.CONVOLUTION
    }
    nodes = onnx.load_from_string(content).graph.node
    wanted = sum(node.op_type == "DequantizeLinear" for node in nodes)
    dequantising = sum(layer.type == trt.LayerType.DEQUANTIZE for layer in layers)
    expected = "HALF" if metadata.precision == "fp16" else "FLOAT"
    if of_convolutions - {expected}:
        raise EngineBuildError(
            f"{source} says precision {metadata.precision}, but TensorRT sees convolutions of type "
            f"{', '.join(sorted(of_convolutions))}, expected {expected} only"
        )
    if dequantising != wanted or (metadata.precision == "int8") != (wanted > 0):
        raise EngineBuildError(
            f"{source} says precision {metadata.precision} and has {wanted} DequantizeLinear "
            f"nodes; TensorRT sees {dequantising}"
        )


def _message_logger(trt: ModuleType, remember: Callable[[str], None]) -> Any:  # noqa: ANN401
    """A TensorRT logger that keeps errors instead of printing them."""

    class ErrorLogger(trt.ILogger):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:  # noqa: ANN401
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                remember(message)

    return ErrorLogger()


def _parse_failure(parser: Any, source: Path) -> str:  # noqa: ANN401
    reasons = [
        f"operator {error.node_operator() or 'unknown'} (node {error.node_name()!r}): "
        f"{error.desc()}"
        for error in (parser.get_error(i) for i in range(parser.num_errors))
    ]
    return f"TensorRT cannot parse {source}: " + "; ".join(reasons or ["it gave no reason"])


def _build_failure(messages: list[str], content: bytes, source: Path) -> str:
    """The log of a failed build, with the operators of the nodes it names."""
    text = "; ".join(messages) or "it gave no reason"
    nodes = onnx.load_from_string(content).graph.node
    operators = sorted({node.op_type for node in nodes if node.name and node.name in text})
    named = f" at operator {', '.join(operators)}" if operators else ""
    return f"TensorRT cannot build {source}{named}: {text}"


def _layer_precisions(network: Any) -> dict[str, int]:  # noqa: ANN401
    layers = (network.get_layer(i) for i in range(network.num_layers))
    counts = Counter(layer.get_output_type(0).name for layer in layers if layer.num_outputs)
    return dict(sorted(counts.items()))
