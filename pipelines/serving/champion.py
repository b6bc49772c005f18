"""The champion asked once, about one picture."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.paths import Paths


def predict_with_champion(paths: Paths, model: str, image: Path) -> Mapping[str, Any]:
    """What the champion finds in one picture.

    Args:
        paths: decides which store is asked.
        model: name of the registered model.
        image: JPEG or PNG file.

    Returns:
        `boxes_xyxy` (N, 4), `scores` (N,), `keypoints` (N, K, 3) as lists, original-image pixels.

    Raises:
        StoreUnavailableError: if the store cannot be used.
        UnknownVersionError: if there is no champion.
        FileNotFoundError, ValueError: if the file is missing or is no picture.
    """
    encoded = base64.b64encode(image.read_bytes()).decode("ascii")
    from pipelines.tracking.loading import load_alias  # mlflow takes seconds to import
    from pipelines.tracking.store import open_tracking

    answers: list[Mapping[str, Any]] = load_alias(open_tracking(paths), model, "champion").predict(
        [{"image": encoded}]
    )
    return answers[0]
