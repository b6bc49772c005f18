"""The runner of TensorRT engines; it needs the GPU that the engine was built for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rtmo.deployment.build_engine import EngineBuildError, open_engine
from rtmo.deployment.engine_facts import EngineReceipt
from rtmo.deployment.framing import Framing
from rtmo.deployment.metadata import MetadataError
from rtmo.deployment.postprocess import Floats, InputPeople, people_of_outputs
from rtmo.deployment.runners import Predictor

OUTPUTS = ("dets", "keypoints")

ENGINE_TYPES = {"fp32": ("Float", "FP32"), "fp16": ("Half", "FP16"), "int8": ("Int8", "INT8")}
"""Precision of a file -> how TensorRT's description of an engine calls it."""


class EnginePredictor(Predictor):
    """A TensorRT engine of the raw form, its receipt (.json) beside it; GPU memory is torch's."""

    def __init__(self, path: Path, *, score_threshold: float = 0.1, nms_iou: float = 0.65) -> None:
        """Load the engine.

        Args:
            path: the engine that `cached_engine` wrote.
            score_threshold: people must score above this.
            nms_iou: box IoU above which the lower-scored of two people is dropped.

        Raises:
            MetadataError: if the receipt is missing: an engine does not say what it is.
            UnavailableError: if this host cannot load it; the message says why.
            EngineBuildError: if it computes in another precision than its receipt says.
        """
        facts = path.with_suffix(".json")
        if not facts.is_file():
            raise MetadataError(
                f"{path} has no receipt {facts.name} beside it, which says skeleton and input "
                "size; build it with cached_engine from rtmo-raw.onnx"
            )
        self.receipt = EngineReceipt.model_validate_json(facts.read_bytes())
        self.metadata = self.receipt.metadata
        super().__init__(
            self.metadata.skeleton, Framing(self.metadata.input_size, self.metadata.letterbox)
        )
        self.score_threshold = score_threshold
        self.nms_iou = nms_iou
        self._trt, self._engine = open_engine(path)
        self._require_precision(path)
        self._context = self._engine.create_execution_context()

    def infer(self, pixels: Floats) -> list[InputPeople]:
        """Run the engine in batches that its profile takes, then threshold and NMS on the CPU."""
        largest = self.receipt.profile.largest
        return [
            people
            for start in range(0, len(pixels), largest)
            for people in self._infer_batch(pixels[start : start + largest])
        ]

    def _infer_batch(self, pixels: Floats) -> list[InputPeople]:
        import torch

        dets, keypoints = self.run(torch.from_numpy(pixels).to("cuda"))
        return people_of_outputs(
            self.metadata.form,
            dets.cpu().numpy()[: len(pixels)],
            keypoints.cpu().numpy()[: len(pixels)],
            self.score_threshold,
            self.nms_iou,
        )

    def run(self, images: Any) -> tuple[Any, Any]:  # noqa: ANN401 - torch is imported when needed
        """The engine alone on torch's GPU memory.

        Args:
            images: (B, 3, S, S) float32 on the GPU, contiguous.

        Returns:
            dets (B, n, 5) and keypoints (B, n, K, 3) on the GPU, finished.
        """
        import torch

        stream = torch.cuda.current_stream()
        self._context.set_input_shape("input", tuple(images.shape))
        self._context.set_tensor_address("input", images.data_ptr())
        outputs = []
        for name in OUTPUTS:
            shape = tuple(self._context.get_tensor_shape(name))
            output = torch.empty(shape, dtype=torch.float32, device=images.device)
            self._context.set_tensor_address(name, output.data_ptr())
            outputs.append(output)
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError(f"TensorRT could not run a batch of {len(images)} images")
        stream.synchronize()
        dets, keypoints = outputs
        return dets, keypoints

    def _require_precision(self, path: Path) -> None:
        """Hold the types inside the engine against the file it was built from.

        Raises:
            EngineBuildError: if no layer of the engine has the file's type.
        """
        inspector = self._engine.create_engine_inspector()
        text = inspector.get_engine_information(self._trt.LayerInformationFormat.JSON)
        layers = json.loads(text).get("Layers", [])
        names = ENGINE_TYPES[self.metadata.precision]
        if layers and not any(name in json.dumps(layers) for name in names):
            raise EngineBuildError(
                f"{path} should compute in {self.metadata.precision}, but none of its "
                f"{len(layers)} layers names {' or '.join(names)}"
            )
