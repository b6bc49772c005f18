"""The file MLflow stores and runs as the registered model: pictures in, people out.

MLflow executes it when the model is logged and again wherever it is loaded, with the library from
the model's own `code` folder; it must import nothing of `pipelines`.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

from rtmo.deployment import load_predictor
from rtmo.deployment.pictures import decode_picture
from rtmo.deployment.postprocess import to_lists


class RtmoModel(PythonModel):
    """Answers a table with the column `image`: one dict per row, in original-picture pixels.

    A cell is an encoded picture (JPEG or PNG) as base64 text, or BGR uint8 pixels of shape
    (H, W, 3), as an array or, in JSON, as nested lists. An answer holds `boxes_xyxy` (N, 4),
    `scores` (N,) and `keypoints` (N, K, 3) of (x, y, score), best person first; N may be 0.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Open the ONNX file that lies beside this one."""
        self._predict = load_predictor(Path(context.artifacts["onnx"]))

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002 (MLflow's signature)
        model_input: pd.DataFrame,
        params: Mapping[str, Any] | None = None,  # noqa: ARG002
    ) -> list[dict[str, Any]]:
        """People of each row's picture.

        Raises:
            ValueError: if a cell is not a picture, naming the row.
        """
        images = [read_image(cell, row) for row, cell in enumerate(model_input["image"])]
        return [to_lists(poses) for poses in self._predict(images)]


def read_image(cell: object, row: int) -> NDArray[np.uint8]:
    """BGR uint8 pixels (H, W, 3) of one cell."""
    if isinstance(cell, str):
        return _decode(cell, row)
    try:
        pixels = np.asarray(cell)
    except ValueError:
        pixels = np.empty(0)  # nested lists of unequal lengths
    is_picture = pixels.ndim == 3 and pixels.shape[2] == 3 and min(pixels.shape[:2]) > 0
    if not is_picture or not np.issubdtype(pixels.dtype, np.integer):
        raise ValueError(
            f"row {row}: image has shape {pixels.shape} and type {pixels.dtype}; expected base64 "
            "text of a JPEG or PNG file, or uint8 BGR pixels of shape (H, W, 3)"
        )
    if pixels.min() < 0 or pixels.max() > 255:
        raise ValueError(f"row {row}: pixels must be 0..255, got {pixels.min()}..{pixels.max()}")
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _decode(text: str, row: int) -> NDArray[np.uint8]:
    try:
        encoded = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"row {row}: image is not base64 text ({error})") from None
    return decode_picture(encoded, f"row {row}: image")


set_model(RtmoModel())
