"""The model that answers: a file, or the version an alias of the registry points to."""

from __future__ import annotations

import asyncio
import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipelines.paths import Paths
from rtmo.deployment.manifest import file_sha256
from rtmo.deployment.predictor import load_predictor
from rtmo.deployment.runners import Predictor

REGISTRY = "models:/"
"""What an address in the registry begins with, as MLflow writes it: models:/NAME@ALIAS."""
EXPORTED = "rtmo.onnx"
"""File of an exported folder that is served: the one `register` takes."""

logger = logging.getLogger(__name__)


class ModelAddressError(ValueError):
    """What was given names no model that can be served."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model in memory."""

    predictor: Predictor
    name: str
    """Of the registered model, or of the file."""
    version: int | None
    """Its number in the registry; None for a file."""
    content_hash: str
    """sha256 of its files, as the registry has it; of a file, its own."""

    @property
    def identity(self) -> dict[str, str | int | None]:
        """What answers say of it."""
        return {"name": self.name, "version": self.version, "content_hash": self.content_hash}


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of a registered model."""

    paths: Paths
    model: str
    name: str

    def open(self, former: ServedModel | None = None) -> ServedModel:
        """The version it points to; `former` itself if it is still that one.

        Raises:
            StoreUnavailableError: if the store cannot be used.
            UnknownVersionError: if the alias is not set.
            ValueError, UnavailableError: if this host cannot run its file.
        """
        from pipelines.tracking.store import open_tracking  # mlflow takes seconds to import
        from pipelines.tracking.versions import PACKAGED_ONNX, download, require_alias

        tracking = open_tracking(self.paths)
        version = require_alias(tracking, self.model, self.name)
        if former is not None and former.version == version.number:
            return former
        with tempfile.TemporaryDirectory() as folder:
            file = download(tracking, version, PACKAGED_ONNX, folder)
            return _opened(file, self.model, version.number, version.content_hash)


def parse_address(text: str, paths: Paths) -> Alias | Path:
    """An alias from `models:/NAME@ALIAS`, else the model file of a path.

    Raises:
        ModelAddressError: if it is neither.
    """
    if text.startswith(REGISTRY):
        name, at, alias = text.removeprefix(REGISTRY).partition("@")
        if not (name and at and alias):
            raise ModelAddressError(
                f"{text} is no alias of a registered model; expected models:/NAME@ALIAS, such as "
                "models:/rtmo@champion"
            )
        return Alias(paths, name, alias)
    path = Path(text)
    file = path / EXPORTED if path.is_dir() else path
    if not file.is_file():
        raise ModelAddressError(
            f"there is no model file {file}; give models:/NAME@ALIAS, a model file, or a folder "
            f"that holds {EXPORTED}"
        )
    return file


def open_file(file: Path) -> ServedModel:
    """A model file that lies here.

    Raises:
        ValueError, UnavailableError: if it cannot be run.
    """
    return _opened(file, file.name, None, file_sha256(file))


def _opened(file: Path, name: str, version: int | None, content_hash: str) -> ServedModel:
    """A model that has answered once: the first run is slow, and may fail."""
    predictor = load_predictor(file)
    size = predictor.framing.input_size
    predictor(np.full((size, size, 3), 114, np.uint8))
    return ServedModel(predictor, name, version, content_hash)


class LiveModel:
    """What answers now. A request keeps the model it began with, so a change drops nobody."""

    def __init__(self, first: ServedModel) -> None:
        self.now = first
        self.problem: str | None = None
        """Why the last look at the alias failed; None while all is well."""

    async def follow(self, alias: Alias, poll_s: float) -> None:
        """Look at the alias again and again, and take what it points to. Ends when cancelled."""
        while True:
            await asyncio.sleep(poll_s)
            try:
                found = await asyncio.to_thread(alias.open, self.now)
            except Exception as error:  # whatever it is, the model at hand goes on answering
                if self.problem is None:
                    logger.exception("%s@%s cannot be followed", alias.model, alias.name)
                self.problem = str(error)
                continue
            self.problem = None
            if found is not self.now:
                logger.info("version %s answers from now on", found.version)
                self.now = found
