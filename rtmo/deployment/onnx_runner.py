"""The runner of ONNX Runtime, for our files and for those of the official deployment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import (
    MetadataError,
    ModelMetadata,
    Padding,
    metadata_from_properties,
)
from rtmo.deployment.postprocess import Floats, InputPeople, people_of_outputs
from rtmo.deployment.runners import Device, Predictor, UnavailableError
from rtmo.skeleton import Skeleton

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""What ONNX Runtime may run on, in order of preference."""


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
            device: `auto` takes a GPU when this ONNX Runtime has one.
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
            UnavailableError: if `cuda` is asked for and there is none.
        """
        self._session = _onnx_session(path, device, threads)
        properties = self._session.get_modelmeta().custom_metadata_map
        self.metadata = (
            metadata_from_properties(properties, str(path))
            if skeleton is None or "format" in properties
            else _official_layout(self._session, skeleton, str(path))
        )
        if padding == "stride":
            _require_dynamic_sides(self._session, str(path))
        super().__init__(
            self.metadata.skeleton,
            Framing(self.metadata.input_size, self.metadata.letterbox, padding),
        )
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        overridable = {item.name for item in self._session.get_overridable_initializers()}
        thresholds = {"score_threshold": score_threshold, "nms_iou": nms_iou}
        self._thresholds = {
            name: np.array([value], dtype=np.float32)
            for name, value in thresholds.items()
            if name in overridable
        }

    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Run the graph; the raw form gets its threshold and NMS here."""
        dets, keypoints = self._session.run(
            ["dets", "keypoints"], {"input": pixels, **self._thresholds}
        )
        return people_of_outputs(
            self.metadata.form, dets, keypoints, self.score_threshold, self.nms_iou
        )


def _onnx_session(path: Path, device: Device, threads: int | None) -> Any:  # noqa: ANN401
    """An ONNX Runtime session; the library has no types."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    available = onnxruntime.get_available_providers()
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise UnavailableError(
            f"device 'cuda' was asked for, but this ONNX Runtime only has {', '.join(available)}; "
            "install onnxruntime-gpu"
        )
    wanted = ["CPUExecutionProvider"] if device == "cpu" else [*PROVIDERS]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # below error it remarks on overridable initialisers
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=[name for name in wanted if name in available]
        )
    except (
        errors.Fail,
        errors.InvalidArgument,
        errors.InvalidGraph,
        errors.InvalidProtobuf,
        errors.NoSuchFile,
        errors.NotImplemented,
        errors.RuntimeException,
    ) as error:
        raise ValueError(f"{path} is not an ONNX model that can be run: {error}") from error


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


def _official_layout(session: Any, skeleton: Skeleton, source: str) -> ModelMetadata:  # noqa: ANN401
    """Metadata of a file of the official deployment, which has the complete layout only.

    Raises:
        MetadataError: if inputs and outputs are not those of that deployment.
    """
    inputs = {item.name: item.shape for item in session.get_inputs()}
    outputs = {item.name: item.shape for item in session.get_outputs()}
    if set(inputs) != {"input"} or not {"dets", "keypoints"} <= set(outputs):
        raise MetadataError(
            f"{source} has inputs {sorted(inputs)} and outputs {sorted(outputs)}; expected input "
            "'input' and outputs 'dets' and 'keypoints' (mmdeploy's RTMO)"
        )
    height, width = inputs["input"][2:]
    if height != width or not isinstance(height, int):
        raise MetadataError(f"{source} has input size {height}x{width}; expected a fixed square")
    num_keypoints = outputs["keypoints"][2]
    if isinstance(num_keypoints, int) and num_keypoints != skeleton.num_keypoints:
        raise MetadataError(
            f"{source} gives {num_keypoints} keypoints, skeleton {skeleton.name!r} has "
            f"{skeleton.num_keypoints}"
        )
    return ModelMetadata(skeleton=skeleton, input_size=height, form="complete")
