"""A recipe as a file: the sections `model`, `augment` and `train` of a `params.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rtmo._config import Config, SettingsError, check_settings
from rtmo.data.config import AugmentConfig
from rtmo.model.config import ModelConfig
from rtmo.training.config import TrainConfig


class RecipeSections(Config):
    """What determines the weights, beside the data and the weights it starts from."""

    model: ModelConfig
    """Which RTMO."""
    augment: AugmentConfig = AugmentConfig()
    """What training pictures go through."""
    train: TrainConfig
    """The run."""


def read_recipe(path: Path) -> RecipeSections:
    """Read the sections that concern a training; others may be there and are not looked at.

    Raises:
        SettingsError: if the file is missing or no YAML, or a key of these sections is unknown,
            missing or impossible; every one is named.
    """
    try:
        content = YAML(typ="safe").load(path)  # as DVC reads it: 4e-3 is a number
    except FileNotFoundError:
        raise SettingsError(f"there is no recipe {path}; a params.yaml is one") from None
    except YAMLError as error:
        raise SettingsError(f"{path} is not YAML: {error}") from None
    if isinstance(content, Mapping):
        content = {name: content[name] for name in RecipeSections.model_fields if name in content}
    return check_settings(RecipeSections, content, source=path.name)
