"""A published model's files in the cache, and the ways to run them in float32."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rtmo.deployment.cache import cache_folder
from rtmo.deployment.metadata import ModelMetadata, Padding
from rtmo.deployment.official_files import (
    OfficialFile,
    fetch_official,
    fetch_official_onnx,
    official_file,
)
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.runners import Device, Predictor, TorchPredictor

CONVERSION = 1
"""Part of the names of converted files; raise it when older ones must not be used any more."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How the predictor is asked for; the fields are those of `load_predictor`."""

    score_threshold: float = 0.1
    nms_iou: float = 0.65
    threads: int | None = None
    padding: Padding = "square"


Way = Callable[[Wanted], Predictor]


class PublishedModel:
    """One model of the catalogue; what is not in the cache is fetched when it is needed.

    Raises:
        ValueError: if there is no published model of that name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.official: OfficialFile = official_file(name)
        self.stem = self.official.file.removesuffix(".pth")

    @cached_property
    def weights(self) -> Path:
        """The published checkpoint, verified."""
        return fetch_official(self.name)

    @cached_property
    def published_onnx(self) -> Path:
        """The published ONNX file, verified."""
        return fetch_official_onnx(self.name)

    @property
    def converted(self) -> Path:
        """The exported ONNX file; its folder's name has the checksum of the weights in it."""
        return cache_folder() / "converted" / f"{self.stem}-{CONVERSION}" / "rtmo.onnx"

    def convert(self) -> None:
        """Export the weights, unless that was done before. A reader never sees half a file."""
        if self.converted.is_file() or not has("torch", "onnx", "onnxscript"):
            return
        from rtmo.deployment.export_onnx import export_onnx
        from rtmo.model.weights import load_model

        model = load_model(self.weights)
        logger.warning("first use of %s on this machine: its weights are converted", self.name)
        metadata = ModelMetadata(
            skeleton=self.official.skeleton,
            input_size=self.official.input_size,
            form="complete",
            size=self.official.size,
            dataset=self.official.trained_on,
        )
        folder = self.converted.parent
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder, prefix=".unfinished-") as scratch:
            made = Path(scratch) / self.converted.name
            export_onnx(model, made, metadata)
            made.replace(self.converted)

    def ways(self, padding: Padding) -> Mapping[str, Way]:
        """What a CPU can open with what is installed and converted; the first is the yardstick."""
        ways: dict[str, Way] = {}
        has_openvino = has("openvino")
        if has("torch"):
            ways["torch"] = lambda wanted: self.in_torch(wanted, "cpu")
        if self.converted.is_file():
            if has("onnxruntime"):
                ways["ONNX Runtime"] = self._converted_in_onnx_runtime
            if has_openvino:
                ways["OpenVINO"] = lambda wanted: _openvino(self.converted, wanted)
        elif not has("torch"):
            ways["ONNX Runtime, published file"] = lambda wanted: self.in_onnx_runtime(
                wanted, "cpu"
            )
            if has_openvino and padding == "square":
                ways["OpenVINO, published file"] = self._published_in_openvino
        return ways

    def in_torch(self, wanted: Wanted, device: Device) -> Predictor:
        """The weights in torch."""
        import torch

        from rtmo.model.weights import load_model

        if wanted.threads is not None:
            torch.set_num_threads(wanted.threads)
        return TorchPredictor(
            load_model(self.weights),
            device,
            input_size=self.official.input_size,
            score_threshold=wanted.score_threshold,
            nms_iou=wanted.nms_iou,
            padding=wanted.padding,
        )

    def in_onnx_runtime(self, wanted: Wanted, device: Device) -> Predictor:
        """The published ONNX file in ONNX Runtime."""
        return OnnxPredictor(
            self.published_onnx,
            device,
            score_threshold=wanted.score_threshold,
            nms_iou=wanted.nms_iou,
            skeleton=self.official.skeleton,
            threads=wanted.threads,
            padding=wanted.padding,
        )

    def _converted_in_onnx_runtime(self, wanted: Wanted) -> Predictor:
        return OnnxPredictor(
            self.converted,
            "cpu",
            score_threshold=wanted.score_threshold,
            nms_iou=wanted.nms_iou,
            threads=wanted.threads,
            padding=wanted.padding,
        )

    def _published_in_openvino(self, wanted: Wanted) -> Predictor:
        """The published ONNX file in OpenVINO, which has to be told what the file does not say."""
        import openvino

        source = self.published_onnx
        path = source.with_name(f"{source.stem}-openvino-{CONVERSION}.xml")
        if not path.is_file():
            model: Any = openvino.convert_model(source)
            metadata = ModelMetadata(
                skeleton=self.official.skeleton,
                input_size=model.input(0).partial_shape[2].get_max_length(),
                form="complete",
                score_threshold=0.0,  # its own is not known: lower ones find no more
            )
            for key, value in metadata.to_properties().items():
                model.set_rt_info(value, ["rtmo", key])
            with TemporaryDirectory(dir=path.parent, prefix=".unfinished-") as scratch:
                made = Path(scratch) / path.name
                openvino.save_model(model, made, compress_to_fp16=False)
                made.with_suffix(".bin").replace(path.with_suffix(".bin"))
                made.replace(path)
        return _openvino(path, wanted)


def _openvino(path: Path, wanted: Wanted) -> Predictor:
    return OpenVinoPredictor(
        path,
        score_threshold=wanted.score_threshold,
        nms_iou=wanted.nms_iou,
        threads=wanted.threads,
        padding=wanted.padding,
    )


def has(*modules: str) -> bool:
    """Whether all of them are installed."""
    return all(find_spec(module) is not None for module in modules)
