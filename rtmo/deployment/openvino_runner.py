"""The runner of OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import ModelMetadata, Padding, metadata_from_properties
from rtmo.deployment.postprocess import Floats, InputPeople, people_of_outputs
from rtmo.deployment.runners import Predictor, UnavailableError

FloatType = Literal["f32", "bf16"]
"""What OpenVINO computes float32 operators in."""

OUR_SELECTION = "keep/"
"""Beginning of the names of the nodes that select people in files of ours (`onnx_selection`)."""
ANY = -1
"""A side that may have any length, as OpenVINO writes it."""
Shape = tuple[int, ...]
"""Of an input, (B, 3, H, W); empty for whatever the file takes."""
NMS_IOU_INPUT, SCORE_THRESHOLD_INPUT = 3, 4
"""Of the operator NonMaxSuppression."""


@cache
def _core() -> Any:  # noqa: ANN401 - OpenVINO states no types
    """The one core of this process.

    The CPU plugin of each core replaces the stack on which signals are handled, and puts the former
    one back when it goes. Several cores that go in another order than they came leave a stack that
    is freed, and the next signal, a Ctrl-C say, ends the process by SIGSEGV.
    """
    import openvino

    return openvino.Core()


class OpenVinoPredictor(Predictor):
    """Our ONNX file, or an OpenVINO model (.xml and .bin) that was made of one.

    It is compiled, in about a second, when the first picture comes, for exactly its input's height
    and width: a camera or a video has one size, and INT8 takes a tenth less time with sides that
    are known (`docs/experiments.md`). Inputs of other sizes share a second, general compilation.
    """

    def __init__(
        self,
        path: Path,
        *,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        threads: int | None = None,
        padding: Padding = "square",
        float_type: FloatType = "f32",
    ) -> None:
        """Open the file for the CPU.

        Args:
            path: the .xml written by `openvino_from_onnx`, its .bin beside it, or an ONNX file
                written by `export_onnx`.
            score_threshold: people must score above this.
            nms_iou: box IoU above which the lower-scored of two people is dropped.
            threads: CPU threads; None leaves it to OpenVINO.
            padding: how far pictures are padded; `stride` needs a file of dynamic height and width.
            float_type: what float32 operators are computed in. OpenVINO would choose bf16 by
                itself on CPUs that have it; here it does only when asked.

        Raises:
            UnavailableError: if this CPU does not have that type.
            MetadataError: if the file does not say what it is.
            ValueError: if OpenVINO cannot read the file, if it has a fixed input size and `padding`
                is `stride`, or if it is a foreign file with other thresholds baked in (a higher
                score threshold is fine).
        """
        core = _core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ValueError(f"{path} is not a readable OpenVINO model: {error}") from error
        properties = _openvino_properties(model)
        self.metadata = metadata_from_properties(properties, str(path))
        if self.metadata.form == "complete" and not _set_thresholds(
            model, score_threshold, nms_iou
        ):
            _require_above_baked(self.metadata, score_threshold, nms_iou, str(path))
        if padding == "stride" and model.input(0).partial_shape[2].is_static:
            raise ValueError(
                f"{path} takes inputs of {model.input(0).partial_shape} only, so padding cannot be "
                "trimmed to the stride; use padding 'square', or the complete form (rtmo.onnx)"
            )
        super().__init__(
            self.metadata.skeleton,
            Framing(self.metadata.input_size, self.metadata.letterbox, padding),
        )
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if float_type == "bf16" and "BF16" not in able:
            raise UnavailableError(
                f"bf16 was asked for, but OpenVINO has only {', '.join(able)} on this CPU"
            )
        self.float_type = float_type
        self._settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": float_type}
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        self._model = model
        self._source = str(path)
        self._compiled: dict[Shape, Any] = {}

    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Run the graph; the raw form gets its threshold and NMS here.

        Raises:
            ValueError: if OpenVINO cannot compile the graph for inputs of that shape.
            UnavailableError: if it computes in another type than was asked for.
        """
        outputs = self._compiled_for(pixels)({"input": pixels})
        return people_of_outputs(
            self.metadata.form,
            outputs["dets"],
            outputs["keypoints"],
            self.score_threshold,
            self.nms_iou,
        )

    def _compiled_for(self, pixels: Floats) -> Any:  # noqa: ANN401 - OpenVINO states no types
        """What runs inputs of that shape."""
        batch, *rest = pixels.shape
        shape: Shape = (1 if batch == 1 else ANY, *rest)
        if self._compiled and shape not in self._compiled:
            shape = ()
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(shape)
        return self._compiled[shape]

    def _compile(self, shape: Shape) -> Any:  # noqa: ANN401
        model = self._model
        try:
            if shape:
                model = model.clone()
                model.reshape(list(shape))
            compiled = _core().compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise ValueError(f"{self._source} cannot be compiled by OpenVINO: {error}") from error
        float_type = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if float_type != self.float_type:
            raise UnavailableError(f"{self.float_type} was asked for, OpenVINO took {float_type}")
        return compiled


def _set_thresholds(model: Any, score_threshold: float, nms_iou: float) -> bool:  # noqa: ANN401
    """Put thresholds into the complete form of ours; whether the model is one.

    ONNX Runtime takes them as inputs with defaults. OpenVINO makes constants of such inputs when it
    reads the file, so they are exchanged before the model is compiled.
    """
    from openvino import opset13 as operators

    for node in model.get_ops():
        name, kind = node.get_friendly_name(), node.get_type_name()
        if kind == "NonMaxSuppression" and name.startswith(OUR_SELECTION):
            for place, value in (
                (NMS_IOU_INPUT, nms_iou),
                (SCORE_THRESHOLD_INPUT, score_threshold),
            ):
                constant = operators.constant(np.array([value], dtype=np.float32))
                node.input(place).replace_source_output(constant.output(0))
            return True
    return False


def _require_above_baked(
    metadata: ModelMetadata, score_threshold: float, nms_iou: float, source: str
) -> None:
    """Refuse thresholds that a foreign file, whose graph is not known here, does not have.

    Raises:
        ValueError: if the score threshold is below the file's or the NMS threshold is another one.
    """
    baked = (metadata.score_threshold, metadata.nms_iou)
    if score_threshold < baked[0] or nms_iou != baked[1]:
        raise ValueError(
            f"{source} has score threshold {baked[0]} and NMS IoU {baked[1]} baked in; got "
            f"{score_threshold} and {nms_iou}. Use at least that score and that IoU, or open the "
            "file with ONNX Runtime or torch"
        )


def _openvino_properties(model: Any) -> Mapping[str, str]:  # noqa: ANN401
    """RTMO metadata in an OpenVINO model's rt_info; empty when there is none.

    Ours lie under `rtmo`; under `framework` OpenVINO puts the properties of an ONNX file.
    """
    names = ("format", *ModelMetadata.model_fields)
    for section in ("rtmo", "framework"):
        if model.has_rt_info([section, "format"]):
            return {
                name: model.get_rt_info([section, name]).astype(str)
                for name in names
                if model.has_rt_info([section, name])
            }
    return {}
