"""The champion, for whoever asks: one picture, or a server on this machine."""

from __future__ import annotations

import base64
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from pipelines.paths import Paths
from pipelines.tracking.address import check_reachable, store_address

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 5002


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


def serve(paths: Paths, model: str, *, port: int = DEFAULT_PORT) -> NoReturn:
    """Become an MLflow server that answers POST /invocations on loopback until it is stopped.

    Raises:
        StoreUnavailableError: if the store cannot be used.
    """
    command = serve_command(model, port)
    os.execve(command[0], command, serve_environment(paths))


def serve_environment(paths: Paths) -> dict[str, str]:
    """What MLflow's model server needs to know.

    Raises:
        StoreUnavailableError: if the store cannot be used.
    """
    address = store_address(paths)
    check_reachable(address)
    beside_python = Path(sys.executable).parent  # MLflow starts `uvicorn` by its bare name
    return {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        **os.environ,
        "MLFLOW_TRACKING_URI": address.uri,
        "PATH": f"{beside_python}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }


def serve_command(model: str, port: int) -> list[str]:
    """The command line of MLflow's model server for the champion."""
    return [
        *(sys.executable, "-m", "mlflow", "models", "serve"),
        *("--model-uri", f"models:/{model}@champion"),
        *("--env-manager", "local"),
        *("--host", LOOPBACK, "--port", str(port)),
    ]
