"""The registered model as a folder in MLflow's format that carries all it needs."""

from __future__ import annotations

import base64
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import mlflow.pyfunc
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types.schema import AnyType, Array, ColSpec, Schema

SERVING_FILE = Path(__file__).parents[1] / "serving_model.py"
LIBRARY = Path(__file__).parents[2] / "rtmo"
REQUIREMENTS = ("numpy", "onnxruntime", "opencv-python-headless", "pydantic")
"""What the packaged part of the library needs at run time; pinned to what is installed."""

SIGNATURE = ModelSignature(
    # MLflow has no type for pictures: text (base64) or pixels, checked by the model itself.
    inputs=Schema([ColSpec(AnyType(), "image")]),  # type: ignore[no-untyped-call]
    outputs=Schema(
        [
            ColSpec(Array(Array("double")), "boxes_xyxy"),
            ColSpec(Array("double"), "scores"),
            ColSpec(Array(Array(Array("double"))), "keypoints"),
        ]
    ),
)


class BrokenPackageError(RuntimeError):
    """The packaged model does not answer; it must not be registered."""


def save_package(folder: Path, onnx: Path, metadata: dict[str, str]) -> None:
    """Write the model with its code, and ask it once.

    Args:
        folder: where; must not exist.
        onnx: exported model, complete form.
        metadata: written into the MLmodel file.

    Raises:
        BrokenPackageError: if the written model cannot be loaded or does not answer the example.
    """
    mlflow.pyfunc.save_model(
        folder,
        python_model=str(SERVING_FILE),
        artifacts={"onnx": str(onnx)},
        code_paths=[str(LIBRARY)],
        signature=SIGNATURE,
        input_example=example_input(),
        pip_requirements=[f"{name}=={importlib.metadata.version(name)}" for name in REQUIREMENTS],
        metadata=metadata,
    )
    try:
        answer = mlflow.pyfunc.load_model(str(folder)).predict(example_input())
    except Exception as error:  # whatever a user of the model would meet
        raise BrokenPackageError(f"the packaged {onnx.name} does not work: {error}") from error
    if len(answer) != 1 or set(answer[0]) != {"boxes_xyxy", "scores", "keypoints"}:
        raise BrokenPackageError(f"the packaged {onnx.name} answers the example with {answer!r}")


def write_card(folder: Path, content: Mapping[str, Any], text: str) -> None:
    """Add the model card to a package, for programs and for people."""
    (folder / "model_card.json").write_text(json.dumps(content, indent=2), encoding="utf-8")
    (folder / "model_card.md").write_text(text, encoding="utf-8")


def example_input() -> list[dict[str, str]]:
    """One drawn picture as a request would hold it: a shaded square without people."""
    ramp = np.linspace(60, 200, 96, dtype=np.uint8)
    image = np.repeat(np.tile(ramp, (96, 1))[..., None], 3, axis=2)
    encoded = cv2.imencode(".jpg", image)[1].tobytes()
    return [{"image": base64.b64encode(encoded).decode("ascii")}]
