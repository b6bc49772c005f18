"""What a model file says about itself, and how it is written into and read from ONNX.

Every field becomes one string property of the ONNX file, so that any viewer shows it and no
reader has to guess a skeleton, a letterbox rule or a threshold.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from rtmo._config import Config
from rtmo.skeleton import Skeleton

FORMAT = "rtmo"
"""Value of the property `format` in every file written here."""

LetterboxRule = Literal["centred", "top_left"]
"""Where the picture lies in the padded square: SPEC section 6, or rtmlib's corner."""

Padding = Literal["square", "stride"]
"""How much grey is put around a picture: up to the whole input square, as RTMO was trained and
measured, or only to the next multiple of the network's stride."""

Form = Literal["complete", "raw"]
"""`complete`: NMS inside, people out. `raw`: a fixed number of candidates out, NMS outside."""

Precision = Literal["fp32", "fp16", "int8"]
"""Of the network's weights and arithmetic in the graph; coordinates are float32 in all of them."""

Arithmetic = Literal["fp32", "fp16", "bf16", "int8"]
"""What a runtime computes the network in: the precision of the file, or bf16 of a float32 file."""

_TEXT = (str, LetterboxRule, Form, Precision)
"""Annotations of the fields that are stored as plain text."""


class MetadataError(ValueError):
    """A model file does not say what is needed to run it."""


class ModelMetadata(Config):
    """What a predictor has to know about a model file."""

    skeleton: Skeleton
    """Keypoint order, limbs and sigmas."""
    input_size: int = Field(gt=0, le=8192)
    """Side of the square network input, pixels."""
    letterbox: LetterboxRule = "centred"
    """How pictures were fitted into the input when the file was checked against torch."""
    form: Form
    """Whether NMS is inside."""
    precision: Precision = "fp32"
    """Precision of weights and arithmetic in the graph."""
    score_threshold: float = Field(0.1, ge=0, lt=1)
    """Default threshold in the complete form; the raw form has none inside."""
    nms_iou: float = Field(0.65, gt=0, le=1)
    """Default box IoU of NMS in the complete form; the raw form has none inside."""
    max_people: int = Field(200, gt=0)
    """People (complete) or candidates (raw) per picture at most."""
    size: str = ""
    """RTMO size, for people to read."""
    training_hash: str = ""
    """Stage hash of the training run that made the weights; empty when it is not known."""
    dataset: str = ""
    """Dataset of that run."""
    licence: str = ""
    """Licence of weights and data, as the training stage wrote it."""

    def to_properties(self) -> dict[str, str]:
        """The metadata as ONNX properties: plain strings as they are, everything else as JSON."""
        fields = self.model_dump(mode="json")
        return {"format": FORMAT} | {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in fields.items()
        }


def metadata_from_properties(properties: Mapping[str, str], source: str) -> ModelMetadata:
    """Read back what `ModelMetadata.to_properties` wrote; properties of other tools are ignored.

    Args:
        properties: the ONNX `metadata_props` as a mapping.
        source: name of the file, for messages.

    Raises:
        MetadataError: if the file was not written by this project or its metadata is damaged.
    """
    if properties.get("format") != FORMAT:
        raise MetadataError(
            f"{source} carries no RTMO metadata (property 'format' is "
            f"{properties.get('format')!r}, expected {FORMAT!r}), so its keypoints have no names "
            "or order; export it with `rtmo export`, or say which skeleton it has (skeleton=...)"
        )
    fields = ModelMetadata.model_fields
    known = {name: value for name, value in properties.items() if name in fields}
    try:
        return ModelMetadata.model_validate(
            {
                name: value if fields[name].annotation in _TEXT else json.loads(value)
                for name, value in known.items()
            }
        )
    except (ValidationError, json.JSONDecodeError, RecursionError) as error:
        raise MetadataError(f"{source} has damaged RTMO metadata: {error}") from error


def input_size(weights_metadata: Mapping[str, str], source: Path) -> int:
    """Side of the network input that a weights file was trained for.

    Raises:
        MetadataError: if the file does not say it.
    """
    text = weights_metadata.get("input_size", "")
    if not text.isdecimal():
        raise MetadataError(
            f"{source} says input_size {text!r}, expected a number of pixels; write the file with "
            "save_weights(..., metadata={'input_size': '640'})"
        )
    return int(text)
