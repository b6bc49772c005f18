"""The runner of OpenVINO, on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import ModelMetadata, metadata_from_properties
from rtmo.deployment.postprocess import Floats, InputPeople, people_of_outputs
from rtmo.deployment.runners import Predictor


class OpenVinoPredictor(Predictor):
    """An OpenVINO model (.xml and .bin), complete or raw form; the raw form takes any threshold."""

    def __init__(
        self,
        path: Path,
        *,
        score_threshold: float = 0.1,
        nms_iou: float = 0.65,
        threads: int | None = None,
    ) -> None:
        """Open and compile the file for the CPU in float32.

        Args:
            path: the .xml written by `openvino_from_onnx`; its .bin lies beside it.
            score_threshold: people must score above this.
            nms_iou: box IoU above which the lower-scored of two people is dropped.
            threads: CPU threads; None leaves it to OpenVINO.

        Raises:
            MetadataError: if the file does not say what it is.
            ValueError: if OpenVINO cannot read the file, or if it has the complete form and the
                thresholds are not those baked in (a higher score threshold is fine).
        """
        import openvino

        core = openvino.Core()
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ValueError(f"{path} is not a readable OpenVINO model: {error}") from error
        properties = _openvino_properties(model)
        self.metadata = metadata_from_properties(properties, str(path))
        if self.metadata.form == "complete":
            _require_above_baked(self.metadata, score_threshold, nms_iou, str(path))
        super().__init__(
            self.metadata.skeleton, Framing(self.metadata.input_size, self.metadata.letterbox)
        )
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        # OpenVINO would choose bf16 by itself on CPUs that have it.
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        self._compiled = core.compile_model(model, "CPU", settings)

    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Run the graph; the raw form gets its threshold and NMS here."""
        outputs = self._compiled({"input": pixels})
        return people_of_outputs(
            self.metadata.form,
            outputs["dets"],
            outputs["keypoints"],
            self.score_threshold,
            self.nms_iou,
        )


def _require_above_baked(
    metadata: ModelMetadata, score_threshold: float, nms_iou: float, source: str
) -> None:
    """Refuse thresholds that a runtime with constant defaults cannot reach.

    Raises:
        ValueError: if the score threshold is below the file's or the NMS threshold is another one.
    """
    baked = (metadata.score_threshold, metadata.nms_iou)
    if score_threshold < baked[0] or nms_iou != baked[1]:
        raise ValueError(
            f"{source} has score threshold {baked[0]} and NMS IoU {baked[1]} baked in; got "
            f"{score_threshold} and {nms_iou}. Use at least that score and that IoU, or convert "
            "rtmo-raw.onnx, whose thresholds are free"
        )


def _openvino_properties(model: Any) -> Mapping[str, str]:  # noqa: ANN401
    """The RTMO section of an OpenVINO model's rt_info; empty when there is none."""
    if not model.has_rt_info(["rtmo"]):
        return {}
    names = ("format", *ModelMetadata.model_fields)
    return {
        name: model.get_rt_info(["rtmo", name]).astype(str)
        for name in names
        if model.has_rt_info(["rtmo", name])
    }
