"""The raw log of a measurement: what was timed or counted, on which machine, by which command.

A benchmark calls `begin` before it measures and `end` with its samples; that writes
`benchmarks/logs/<date>-<benchmark>.json`. Tables are made of logs alone (`benchmarks.figures`).
"""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rtmo._config import Config
from rtmo.deployment.latency import Hardware, hardware

LOGS = Path(__file__).resolve().parent / "logs"


class RawLog(Config):
    """One run of one benchmark."""

    benchmark: str
    """Module of `benchmarks` that measured."""
    date: datetime.date
    """Day of the measurement, UTC."""
    command: str
    """What was typed; of paths outside the repository only the last part."""
    machine: Hardware
    """Processor, memory, GPU, Python and the libraries that decide most figures."""
    versions: dict[str, str]
    """Versions of further distributions that decide these figures."""
    load_before: float
    """Runnable processes of the whole machine in the minute before."""
    load_after: float
    """The same at the end, with the benchmark's own threads in it."""
    settings: dict[str, Any]
    """What a table says besides its samples: sizes, counts, names."""
    samples: dict[str, Any]
    """Everything that was measured, unrounded, one value per run; the shape is the benchmark's."""

    def provenance(self) -> str:
        """Machine, versions, load and command, as Markdown."""
        machine = self.machine
        versions = {"Python": machine.python, **machine.versions, **self.versions}
        return (
            f"{self.date}; {machine.cpu}, {machine.logical_cpus} CPUs, "
            f"{machine.memory_gib:.0f} GiB, {machine.gpu or 'no GPU'}; "
            + ", ".join(f"{name} {version}" for name, version in versions.items())
            + f"; load {self.load_before:.1f} before, {self.load_after:.1f} after.\n\n"
            + f"    {self.command}"
        )


@dataclass(frozen=True)
class Measurement:
    """One that is under way."""

    benchmark: str
    load_before: float
    versions: dict[str, str]

    def end(
        self,
        samples: Mapping[str, Any],
        settings: Mapping[str, Any] | None = None,
        folder: Path = LOGS,
    ) -> RawLog:
        """Write the log into the folder and say so; a second one of a day gets a number."""
        log = RawLog(
            benchmark=self.benchmark,
            date=datetime.datetime.now(datetime.UTC).date(),
            command=command_line(self.benchmark, sys.argv[1:]),
            machine=hardware(),
            versions=self.versions,
            load_before=self.load_before,
            load_after=os.getloadavg()[0],
            settings=dict(settings or {}),
            samples=dict(samples),
        )
        path = free_path(folder, f"{log.date}-{self.benchmark.replace('_', '-')}")
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(log.model_dump_json(indent=1) + "\n")
        print(f"raw log: {path}", file=sys.stderr)
        return log


def begin(benchmark: str, distributions: tuple[str, ...] = ()) -> Measurement:
    """Note the load before measuring, and the versions of distributions that matter here."""
    versions = {name: metadata.version(name) for name in distributions}
    return Measurement(benchmark, os.getloadavg()[0], versions)


def command_line(benchmark: str, arguments: list[str]) -> str:
    """The command of a script of this folder, without folders of this machine.

    >>> command_line("loader_speed", ["/home/me/store", "--rounds", "14", "data/train"])
    'python -m benchmarks.loader_speed store --rounds 14 data/train'
    """
    words = [Path(word).name if word.startswith(("/", "..")) else word for word in arguments]
    return " ".join([f"python -m benchmarks.{benchmark}", *words])


def free_path(folder: Path, stem: str) -> Path:
    """`stem.json`, or the first of `stem-2.json`, … that is not there."""
    path, number = folder / f"{stem}.json", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}-{number}.json"
    return path
