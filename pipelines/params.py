"""The schema of `params.yaml`: the library's settings put together, and those of the pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from rtmo._config import Config, SettingsError, check_settings
from rtmo.data.config import AugmentConfig
from rtmo.deployment.config import BenchmarkConfig, ExportConfig
from rtmo.evaluation.config import ErrorRate, EvaluateConfig, InspectConfig
from rtmo.model.config import ModelConfig
from rtmo.training.config import TrainConfig


class ParamsError(ValueError):
    """`params.yaml` (or what is to be merged into it) cannot be used; the message says why."""


DATASET_NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class MergedSet(Config):
    """One more dataset that takes part in training (SPEC section 5.5)."""

    dataset: str = Field(pattern=DATASET_NAME)
    """Name of a file in `sources/`."""
    sampling_factor: float = Field(gt=0, le=1)
    """Fraction of its images seen in one epoch."""
    until_epoch: int = Field(gt=0)
    """First epoch without it: the last regime is trained on `data.dataset` alone."""


class DataParams(Config):
    """Which data, and how it is split."""

    dataset: str = Field(pattern=DATASET_NAME)
    """Name of a file in `sources/`: trained on, validated on, and what the gate is measured on."""
    merge: tuple[MergedSet, ...] = ()
    """Other datasets to train on besides."""
    gate_fraction: float = Field(ge=0, lt=0.5)
    """Part of the training images put aside for the release gate, where the source has no split
    of that name."""

    @model_validator(mode="after")
    def _check(self) -> DataParams:
        names = [self.dataset, *(merged.dataset for merged in self.merge)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"{', '.join(repeated)} is in dataset and merge more than once")
        return self


class RateCondition(Config):
    """A limit on how much more often than the champion a challenger may err in one way."""

    metric: ErrorRate
    """On the gate split."""
    max_increase: float = Field(ge=0, le=1)
    """Challenger's rate less the champion's, at most."""


class RegisterConfig(Config):
    """The rules of the release gate (DESIGN section 7)."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Name of the registered model."""
    floor_ap: float = Field(ge=0, le=1)
    """Least AP on the gate split of a first champion."""
    bootstrap_samples: int = Field(ge=100)
    """Resamplings of the gate images."""
    confidence: float = Field(gt=0.5, lt=1)
    """Of the interval of the paired AP difference; it must lie above `min_effect` to promote."""
    min_effect: float = Field(ge=0, le=1)
    """AP by which a challenger must be better."""
    max_latency_ratio: float = Field(gt=0)
    """Challenger's median latency over the champion's, at most."""
    seed_std: float | None = Field(None, ge=0)
    """Standard deviation of AP over trainings that differ in their seed alone, as measured: it
    widens the interval. None says that it was not, and `registry.gate.ASSUMED_SEED_STD` does."""
    allow_licences: tuple[str, ...] = ()
    """Names of licences that do not allow commercial use, or are unknown, and are signed for."""
    promoters: tuple[str, ...] = ()
    """Who may change the champion: user names, as `ann` or `ann@host`, and `gate` for what the gate
    finds better. Empty allows everybody."""
    conditions: tuple[RateCondition, ...] = ()
    """Errors that must not become more frequent, whatever AP says."""


class ServeConfig(Config):
    """Limits and batching of `rtmo-pipeline serve`."""

    max_batch: int = Field(ge=1)
    """Pictures in one forward pass at most."""
    max_wait_ms: float = Field(ge=0)
    """How long a picture waits for others to go with."""
    max_waiting: int = Field(ge=1)
    """Requests at once, and pictures of theirs, at most; more are sent away with 503."""
    max_body_mb: float = Field(gt=0)
    """Length of a request."""
    max_pictures: int = Field(ge=1)
    """Pictures in a request."""
    max_megapixels: float = Field(gt=0, le=150)  # Pillow reads no header of more than 179
    """Size of a picture, read from its header before anything is decoded."""
    body_timeout_s: float = Field(gt=0)
    """How long a request may take to arrive."""
    poll_s: float = Field(gt=0)
    """How often the registry is asked whether the alias moved."""
    stop_timeout_s: int = Field(ge=0)
    """How long requests that were begun may take once the server is told to stop."""

    @model_validator(mode="after")
    def _check(self) -> ServeConfig:
        if self.max_pictures > self.max_waiting:
            raise ValueError(
                f"max_pictures {self.max_pictures} is above max_waiting {self.max_waiting}: such a "
                "request would never be taken"
            )
        return self


class RetentionConfig(Config):
    """What `rtmo-pipeline collect` keeps besides what is needed (`pipelines/retention.py`)."""

    keep_versions: int = Field(ge=1)
    """This many of the newest versions, and of the last champions, keep their files and data."""
    keep_days: float = Field(ge=1)
    """Checkpoints and unfinished runs stay for so long."""


Minutes = Annotated[float, Field(gt=0)]


class TimeoutParams(Config):
    """Minutes after which a flow ends a stage; a run by `dvc repro` has no limit."""

    download: Minutes
    convert: Minutes
    train: Minutes
    evaluate: Minutes
    inspect: Minutes
    export: Minutes
    benchmark: Minutes
    register_: Minutes = Field(alias="register")  # `register` is a method of ABCMeta


class Params(Config):
    """Everything in `params.yaml`."""

    data: DataParams
    """Which data."""
    model: ModelConfig
    """Which RTMO."""
    augment: AugmentConfig
    """What training pictures go through."""
    train: TrainConfig
    """Training."""
    evaluate: EvaluateConfig
    """Detections for evaluation."""
    inspect: InspectConfig
    """Error inspection."""
    export: ExportConfig
    """Export and parity."""
    benchmark: BenchmarkConfig
    """Latency."""
    registration: RegisterConfig = Field(alias="register")  # `register` is a method of ABCMeta
    """The release gate; the section is called `register`."""
    serve: ServeConfig
    """The HTTP server."""
    timeouts_min: TimeoutParams
    """Limits for stages that hang."""
    retention: RetentionConfig
    """What stays on the disk."""


def load_params(root: Path) -> Params:
    """Read and check `params.yaml` under `root`.

    Raises:
        ParamsError: if the file is missing or is not YAML, or if a key is unknown or missing, or a
            value has the wrong type or is impossible; every such key is named with its path.
    """
    path = root / "params.yaml"
    return validate_params(read_yaml(path), source=path.name)


def load_former_params(former: Path, present: Path) -> Params:
    """`params.yaml` of a former commit, whose schema may have lacked keys of today.

    Args:
        former: root of a checkout of that commit.
        present: root of the checkout whose values the missing keys get.

    Raises:
        ParamsError: as `load_params`; also for a key that there is no more.
    """
    path = former / "params.yaml"
    content = _filled(read_yaml(path), read_yaml(present / "params.yaml"))
    return validate_params(content, source=f"{path.name} of the former commit")


def _filled(former: object, present: object) -> object:
    """`former` with what only `present` has.

    Example:
        >>> _filled({"a": 1, "b": {"c": 2}}, {"b": {"c": 3, "d": 4}, "e": 5})
        {'b': {'c': 2, 'd': 4}, 'e': 5, 'a': 1}
    """
    if not isinstance(former, Mapping) or not isinstance(present, Mapping):
        return former
    return {**present, **{key: _filled(value, present.get(key)) for key, value in former.items()}}


def read_yaml(path: Path) -> object:
    """The content of a YAML file, read as DVC reads it (`4e-3` is a number).

    Raises:
        ParamsError: if there is no such file or it is not YAML.
    """
    try:
        return YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist") from None
    except YAMLError as error:
        raise ParamsError(f"{path} is not YAML: {error}") from None


def validate_params(content: object, *, source: str) -> Params:
    """Check the content of a params file; `source` names it in errors.

    Raises:
        ParamsError: see `load_params`.
    """
    try:
        return check_settings(Params, content, source=source)
    except SettingsError as error:
        raise ParamsError(str(error)) from None
