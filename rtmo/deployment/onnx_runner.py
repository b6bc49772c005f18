"""The runner of ONNX Runtime, for our files and for those of the official deployment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtmo.deployment.cache import cache_folder
from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import (
    MetadataError,
    ModelMetadata,
    Padding,
    metadata_from_properties,
)
from rtmo.deployment.postprocess import (
    Floats,
    InputPeople,
    people_of_outputs,
    require_people,
)
from rtmo.deployment.runners import Device, Predictor, UnavailableError
from rtmo.skeleton import Skeleton

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
PROVIDERS: Mapping[Device, tuple[str, ...]] = {
    "auto": (CUDA, CPU),
    "cpu": (CPU,),
    "cuda": (CUDA, CPU),
    "tensorrt": (TENSORRT, CUDA, CPU),
}
"""What ONNX Runtime may run on, in order of preference; one that is named must be there."""

Sides = tuple[int | None, ...]
"""A shape; None is any number."""


class OnnxPredictor(Predictor):
    """An ONNX file, complete or raw form, in ONNX Runtime."""

    def __init__(
        self,
        path: Path,
        device: Device = "auto",
        *,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        skeleton: Skeleton | None = None,
        threads: int | None = None,
        padding: Padding = "square",
    ) -> None:
        """Open the file.

        Args:
            path: file written by `export_onnx`, or one of the official deployment with `skeleton`.
            device: `auto` takes a GPU when this ONNX Runtime has one. `tensorrt` builds an engine
                for every input shape it meets, in minutes, and keeps it in the cache; of the
                complete form it leaves NMS to CUDA.
            score_threshold: people must score above this; files with thresholds baked in cannot go
                below theirs.
            nms_iou: box IoU above which the lower-scored of two people is dropped.
            skeleton: for files without RTMO metadata; files with metadata have their own.
            threads: CPU threads; None leaves it to ONNX Runtime.
            padding: how far pictures are padded; `stride` needs a file of dynamic height and width.

        Raises:
            MetadataError: if the file does not say what it is and no skeleton is given.
            ValueError: if the file is not a readable ONNX model, or has a fixed input size and
                `padding` is `stride`.
            UnavailableError: if a provider is asked for that is absent or does not start.
        """
        self._session = _onnx_session(path, device, threads)
        self._source = str(path)
        try:
            self.metadata = _described(self._session, skeleton, self._source)
            if padding == "stride":
                _require_dynamic_sides(self._session, self._source)
            overridable = {item.name for item in self._session.get_overridable_initializers()}
            self._is_for_one = self._session.get_inputs()[0].shape[0] == 1
        except UnicodeDecodeError as error:
            raise MetadataError(
                f"{path} is damaged: a name or a property in it is no text ({error})"
            ) from error
        super().__init__(
            self.metadata.skeleton,
            Framing(self.metadata.input_size, self.metadata.letterbox, padding),
        )
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        thresholds = {"score_threshold": score_threshold, "nms_iou": nms_iou}
        self._thresholds = {
            name: np.array([value], dtype=np.float32)
            for name, value in thresholds.items()
            if name in overridable
        }

    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Run the graph, for each image by itself if it is made for one.

        Raises:
            ValueError: if the graph cannot be run on them, or answers something else than people.
        """
        batches = np.split(pixels, len(pixels)) if self._is_for_one else [pixels]
        return [people for batch in batches for people in self._infer_batch(batch)]

    def _infer_batch(self, pixels: Floats) -> list[InputPeople]:
        """One run; the raw form gets its threshold and NMS here."""
        try:
            dets, keypoints = self._session.run(
                ["dets", "keypoints"], {"input": pixels, **self._thresholds}
            )
        except _runtime_errors() as error:
            raise ValueError(f"{self._source} fails while it runs: {error}") from error
        require_people(dets, keypoints, self.skeleton.num_keypoints, self._source)
        return people_of_outputs(
            self.metadata.form, dets, keypoints, self.score_threshold, self.nms_iou
        )


def _runtime_errors() -> tuple[type[Exception], ...]:
    """What ONNX Runtime raises for files it cannot open or run; they share no class of theirs."""
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    return (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
        UnicodeDecodeError,  # its message quotes a name in the file that is no text
    )


def _onnx_session(path: Path, device: Device, threads: int | None) -> Any:  # noqa: ANN401
    """An ONNX Runtime session; the library has no types."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    first = PROVIDERS[device][0]
    if device != "auto" and first not in available:
        raise UnavailableError(
            f"device {device!r} was asked for, but this ONNX Runtime only has "
            f"{', '.join(available)}; install onnxruntime-gpu"
        )
    providers = [(name, _provider_options(name)) for name in PROVIDERS[device] if name in available]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # below error it remarks on overridable initialisers
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except _runtime_errors() as error:
        raise ValueError(f"{path} is not an ONNX model that can be run: {error}") from error
    # A provider whose libraries do not load is left out with a mere line on the terminal.
    if device != "auto" and first not in session.get_providers():
        raise UnavailableError(
            f"device {device!r} was asked for, but {first} did not start; install the CUDA and "
            f"TensorRT libraries that onnxruntime {onnxruntime.__version__} was built for"
        )
    return session


def _provider_options(name: str) -> dict[str, str]:
    """Settings of a provider: engines are built once per machine and kept beside fetched models."""
    if name != TENSORRT:
        return {}
    cache = str(cache_folder() / "onnxruntime-tensorrt")
    return {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": cache,
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": cache,
    }


def _require_dynamic_sides(session: Any, source: str) -> None:  # noqa: ANN401
    """Refuse trimmed padding for a graph of one input size.

    Raises:
        ValueError: if height or width is fixed.
    """
    height, width = session.get_inputs()[0].shape[2:]
    if {type(height), type(width)} != {str}:  # dynamic axes have names
        raise ValueError(
            f"{source} takes inputs of {height}x{width} only, so padding cannot be trimmed to the "
            "stride; use padding 'square', or the complete form (rtmo.onnx) of `rtmo export`"
        )


def _described(session: Any, skeleton: Skeleton | None, source: str) -> ModelMetadata:  # noqa: ANN401
    """What the file says of itself, if its inputs and outputs are those of RTMO.

    Raises:
        MetadataError: if they are not, or if it says nothing and no skeleton is given.
    """
    properties = session.get_modelmeta().custom_metadata_map
    metadata = (
        metadata_from_properties(properties, source)
        if skeleton is None or "format" in properties
        else _official_layout(session, skeleton, source)
    )
    _require_layout(session, metadata, source)
    return metadata


def _require_layout(session: Any, metadata: ModelMetadata, source: str) -> None:  # noqa: ANN401
    """Refuse a graph whose declared inputs and outputs are not those of RTMO.

    Raises:
        MetadataError: saying what is declared; names of dynamic sides stand for any number.
    """
    size, skeleton = metadata.input_size, metadata.skeleton
    inputs = {item.name: (item.type, item.shape) for item in session.get_inputs()}
    outputs = {item.name: (item.type, item.shape) for item in session.get_outputs()}
    given = (outputs.get("keypoints", ("", []))[1] or [])[2:3]
    if given and isinstance(given[0], int) and given[0] != skeleton.num_keypoints:
        raise MetadataError(
            f"{source} gives {given[0]} keypoints, skeleton {skeleton.name!r} has "
            f"{skeleton.num_keypoints}"
        )
    fits = (
        set(inputs) == {"input"}
        and _is_declared(inputs["input"], (None, 3, size, size))
        and {"dets", "keypoints"} <= set(outputs)
        and _is_declared(outputs["dets"], (None, None, 5))
        and _is_declared(outputs["keypoints"], (None, None, skeleton.num_keypoints, 3))
    )
    if not fits:
        raise MetadataError(
            f"{source} has inputs {inputs} and outputs {outputs}; expected float32 'input' "
            f"(B, 3, {size}, {size}), 'dets' (B, n, 5) and 'keypoints' (B, n, "
            f"{skeleton.num_keypoints}, 3): is it an RTMO?"
        )


def _is_declared(declared: tuple[str, list[int | str | None]], wanted: Sides) -> bool:
    """Whether a tensor can have the wanted shape; a name or nothing declares no size."""
    kind, shape = declared
    return kind == "tensor(float)" and (
        not shape
        or (
            len(shape) == len(wanted)
            and all(
                side == most or most is None or not isinstance(side, int)
                for side, most in zip(shape, wanted, strict=True)
            )
        )
    )


def _official_layout(session: Any, skeleton: Skeleton, source: str) -> ModelMetadata:  # noqa: ANN401
    """Metadata of a file of the official deployment, which has the complete layout only.

    Raises:
        MetadataError: if its input is not that of such a file.
    """
    inputs = {item.name: item.shape for item in session.get_inputs()}
    sides = inputs.get("input", [])[2:]
    if len(sides) != 2 or sides[0] != sides[1] or not isinstance(sides[0], int):
        raise MetadataError(
            f"{source} has inputs {inputs}; expected 'input' of a fixed square size (mmdeploy's "
            "RTMO)"
        )
    return ModelMetadata(skeleton=skeleton, input_size=sides[0], form="complete")
