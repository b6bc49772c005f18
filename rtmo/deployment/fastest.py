"""Which way of running a model is fastest on this host: checked and timed once, then remembered."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pydantic import ValidationError

from rtmo._config import Config
from rtmo.deployment.latency import hardware, latency
from rtmo.deployment.runners import Predictor, UnavailableError

WARMUP_RUNS, RUNS = 2, 10

Opener = Callable[[], Predictor]

logger = logging.getLogger(__name__)


class Host(Config):
    """What decides which way is fastest; a choice made on another one does not hold."""

    cpu: str
    """Processor name."""
    logical_cpus: int
    """Logical processors that this process may use."""
    threads: int | None
    """CPU threads asked for; None leaves it to each runtime."""
    versions: dict[str, str]
    """Versions of the runtimes that are installed."""

    @property
    def digest(self) -> str:
        """A name for it in file names."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:12]


class TimedWay(Config):
    """One way of running a model."""

    name: str
    """Its key among the openers."""
    p50_ms: float | None
    """Median time of a picture, all steps; None if it cannot be used."""
    problem: str = ""
    """Why it cannot be used."""


class Choice(Config):
    """All ways that were tried, fastest first, those that cannot be used last."""

    host: Host
    """Where."""
    ways: tuple[TimedWay, ...]
    """What was seen."""

    @property
    def usable(self) -> tuple[str, ...]:
        """Names of the ways that can be used, fastest first."""
        return tuple(way.name for way in self.ways if way.p50_ms is not None)

    def in_words(self) -> str:
        """For a person.

        >>> host = Host(cpu="any", logical_cpus=2, threads=None, versions={})
        >>> ways = (TimedWay(name="a", p50_ms=9.0), TimedWay(name="b", p50_ms=None, problem="no"))
        >>> Choice(host=host, ways=ways).in_words()
        'a 9 ms, b not used (no)'
        """
        return ", ".join(
            f"{way.name} not used ({way.problem})"
            if way.p50_ms is None
            else f"{way.name} {way.p50_ms:.0f} ms"
            for way in self.ways
        )


def this_host(threads: int | None) -> Host:
    """The one that this process runs on."""
    machine = hardware()
    return Host(
        cpu=machine.cpu,
        logical_cpus=machine.logical_cpus,
        threads=threads,
        versions=machine.versions,
    )


def choose_fastest(
    openers: Mapping[str, Opener],
    problem_of: Callable[[Predictor], str],
    images: Sequence[NDArray[Any]],
    host: Host,
    runs: int = RUNS,
) -> Choice:
    """Open every way, leave out what is not right, time the others in turns.

    Args:
        openers: name -> what opens that way; a RuntimeError (UnavailableError is one) or ValueError
            of it is a problem.
        problem_of: why a predictor may not be used, empty if it may.
        images: BGR uint8 pictures to time on.
        host: recorded.
        runs: counted runs of each way.

    Raises:
        UnavailableError: if no way can be used; the message has the problem of each.
    """
    predictors: dict[str, Predictor] = {}
    problems: dict[str, str] = {}
    for name, opener in openers.items():
        try:
            predictor = opener()
            problem = problem_of(predictor)
        except (RuntimeError, ValueError) as error:  # OpenVINO's faults are plain RuntimeErrors
            problem = str(error)
        else:
            predictors[name] = predictor
        if problem:
            problems[name] = problem
            predictors.pop(name, None)
    if not predictors:
        raise UnavailableError(f"no way of running the model is usable here: {problems}")
    timed = latency(
        predictors,
        images,
        warmup_runs=WARMUP_RUNS,
        runs=runs,
        threads=host.threads or host.logical_cpus,
    ).latency
    ways = [TimedWay(name=name, p50_ms=timed[name]["total"].p50_ms) for name in predictors]
    ways.sort(key=lambda way: way.p50_ms or 0.0)
    unusable = [TimedWay(name=name, p50_ms=None, problem=why) for name, why in problems.items()]
    return Choice(host=host, ways=(*ways, *unusable))


def remember(choice: Choice, path: Path) -> None:
    """Write a choice where `recall` finds it; a reader never sees half of it.

    Where it cannot be written, it is made again the next time, and a warning says so.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(choice.model_dump_json(indent=1) + "\n")
        partial.replace(path)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the next opening times again", path, error)


def recall(path: Path, host: Host) -> Choice | None:
    """The choice that was made on this host; None if there is none that can be read."""
    try:
        choice = Choice.model_validate_json(path.read_bytes())
    except (OSError, ValidationError, json.JSONDecodeError):
        return None
    return choice if choice.host == host else None
