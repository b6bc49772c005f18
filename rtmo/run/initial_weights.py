"""The weights file that a training starts from: the content params promise, and its licences."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from rtmo.formats.licence import Licence
from rtmo.training.config import TrainConfig


class InitialWeightsError(ValueError):
    """The file is not the one that `params.yaml` names; the message says what to do."""


def require_agreement(train: TrainConfig, root: Path) -> None:
    """Compare the file `train.init_weights`, if it is one, with `train.init_weights_sha256`.

    DVC does not track the file: the hash among the params is what makes `train` stale.

    Raises:
        InitialWeightsError: if the file is missing or has another content.
    """
    if train.init_weights is None or train.init_weights_sha256 is None:
        return  # a published model is checked where it is fetched
    file = root / train.init_weights
    if not file.is_file():
        raise InitialWeightsError(f"train.init_weights: there is no file {file}")
    found = sha256(file)
    if found != train.init_weights_sha256:
        raise InitialWeightsError(
            f"train.init_weights: {file} has sha256 {found}, params.yaml says "
            f"{train.init_weights_sha256}. If the new file is meant, set train.init_weights_sha256 "
            "to its hash, which makes the stage `train` stale; else bring the former file back"
        )


def sha256(file: Path) -> str:
    """Hash of a file's bytes, as `train.init_weights_sha256` holds it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def initial_weights(train: TrainConfig, root: Path) -> dict[str, Any] | None:
    """File, hash and licences for the model card; None if the training starts from none.

    Raises:
        InitialWeightsError: see `require_agreement`.
    """
    require_agreement(train, root)
    if train.init_weights is None:
        return None
    if train.init_weights_sha256 is None:
        found: tuple[Licence, ...] = (_unknown(train.init_weights),)
    else:
        found = licences_of(root / train.init_weights)
    licences = [licence.model_dump() for licence in found]
    return {
        "file": train.init_weights,
        "sha256": train.init_weights_sha256,
        "licences": licences,
    }


def licences_of(weights: Path) -> tuple[Licence, ...]:
    """What a file of ours says of the data it was trained on and of what it began with.

    A file that says nothing, as an official checkpoint, is of unknown licence.

    Raises:
        WeightsError: if the file holds no RTMO.
    """
    from rtmo.model.weights import read_metadata  # torch

    metadata = read_metadata(weights)
    if "licences" in metadata:
        return tuple(Licence.model_validate(each) for each in json.loads(metadata["licences"]))
    if "licence" in metadata:
        return (Licence.model_validate_json(metadata["licence"]),)
    return (_unknown(weights.name),)


def _unknown(name: str) -> Licence:
    return Licence(name=f"weights {name}", url="", commercial_use="unknown")
