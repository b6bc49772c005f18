"""The champion's detections on the split that is inspected: what a new model is held against."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any, Literal

from pipelines.params import Params
from pipelines.paths import Paths
from pipelines.registry.candidate import sha256
from pipelines.registry.comparison import (
    GateData,
    champion_detections,
    open_predictor,
)
from pipelines.tracking.address import StoreUnavailableError
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import PACKAGED_ONNX, Version, download, find_champion
from rtmo._config import Config

log = logging.getLogger(__name__)


class Reference(Config):
    """What the champion found."""

    status: Literal["available"] = "available"
    name: str
    """As `version 3`."""
    detections: tuple[dict[str, Any], ...]
    """COCO result list."""


class NoReference(Config):
    """There is nothing to compare with."""

    status: Literal["unavailable"] = "unavailable"
    reason: str
    """Why."""


def champion_reference(
    paths: Paths, params: Params, split: GateData, weights: Path
) -> Reference | NoReference:
    """Ask the registry's champion what it finds on a split; its answer is kept with it.

    Args:
        paths: of the workspace.
        params: its settings.
        split: the inspected data; not necessarily the gate split.
        weights: of the model that is inspected: if the champion's, there is nothing to compare.
    """
    try:
        tracking = open_tracking(paths)
        champion = find_champion(tracking, params.registration.name)
    except StoreUnavailableError as error:
        log.warning("no comparison with the champion: %s", error)
        return NoReference(reason=str(error))
    if champion is None:
        return NoReference(reason="there is no champion yet")
    name = f"version {champion.number}"
    if champion.tags.get("sha256.weights.safetensors") == sha256(weights):
        return NoReference(reason=f"this model is the champion, {name}")
    return _ask(tracking, champion, name, params, split)


def _ask(
    tracking: Tracking, champion: Version, name: str, params: Params, split: GateData
) -> Reference | NoReference:
    store = split.store
    with tempfile.TemporaryDirectory() as folder:
        predictor = open_predictor(download(tracking, champion, PACKAGED_ONNX, folder), params)
        if predictor.skeleton != store.skeleton:
            return NoReference(
                reason=f"the champion, {name}, has skeleton {predictor.skeleton.name}, the data "
                f"{store.skeleton.name}"
            )
        found = champion_detections(tracking, champion, predictor, split)
    return Reference(name=name, detections=tuple(dict(one) for one in found))
