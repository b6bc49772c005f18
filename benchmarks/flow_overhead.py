"""What a flow costs over plain `dvc repro`, and a scheduled run that finds nothing to do.

    python -m benchmarks.flow_overhead

Two stages of standard Python that take no time, in a repository of their own with a bare git
remote. Seconds of whole processes by the clock and, in brackets, of processor time, which other
work on the machine does not change; the scheduled run is timed from flow start. Writes a raw log.
"""

from __future__ import annotations

import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from pipelines.services.prefect_database import template

ROOT = Path(__file__).resolve().parents[1]
DVC_YAML = """
stages:
  draw:
    cmd: exec python -c "open('drawn.txt', 'w').write(open('seed.txt').read())"
    deps: [seed.txt]
    outs: [drawn.txt]
  copy:
    cmd: exec python -c "open('copied.txt', 'w').write(open('drawn.txt').read())"
    deps: [drawn.txt]
    outs: [copied.txt]
"""
REPEATS = 2
PLAIN = "`dvc repro`"
SCHEDULED = "scheduled run that finds nothing to do, from flow start"
TEMPORARY = "flow, temporary server"
NEW_HOME = "flow, temporary server, first run of a PREFECT_HOME"
WANTED_S = {NEW_HOME: "20", TEMPORARY: "20", "flow, running server": "12", SCHEDULED: "20"}
RETRAIN = """
import time
from pipelines.flows.retrain import retrain
started = time.monotonic()
report = retrain(target="copy")
print(f"{report.outcome}: {time.monotonic() - started:.1f}")
"""


def main() -> None:
    """Time every way; print the table."""
    measurement = raw_log.begin("flow_overhead", ("dvc", "prefect"))
    samples: dict[str, list[tuple[float, float]]] = {}
    scheduled_s = []
    with tempfile.TemporaryDirectory() as folder:
        repository = make_repository(Path(folder))
        home = {"PREFECT_HOME": str(Path(folder) / "prefect"), "PYTHONPATH": str(ROOT)}
        alone = [sys.executable, "-m", "pipelines.cli", "run", "copy"]
        repro = [sys.executable, "-m", "dvc", "repro", "copy"]
        samples[PLAIN] = times(repository, repro, home)
        samples[NEW_HOME] = []
        for number in range(REPEATS):
            new = {**home, "PREFECT_HOME": str(Path(folder) / f"prefect-{number}")}
            samples[NEW_HOME] += times(repository, alone, new, repeats=1)
        samples[TEMPORARY] = times(repository, alone, new)
        with prefect_server(home) as address:
            served = {**home, "PREFECT_API_URL": address}
            samples["flow, running server"] = times(repository, alone, served)
            publish(repository)
            scheduled = [sys.executable, "-c", RETRAIN]
            for _ in range(REPEATS + 1):
                said = run(repository, scheduled, served).splitlines()[-1]
                outcome, _, taken = said.rpartition(": ")
                if outcome != "nothing to do":
                    raise SystemExit(f"a scheduled run had something to do: {said}")
                scheduled_s.append(float(taken))
    settings = {"template": template().is_file()}
    print(table_of(measurement.end({"whole": samples, "scheduled": scheduled_s}, settings)))


def table_of(log: RawLog) -> str:
    """Wall and processor time of every way, and what it costs over plain DVC."""
    whole = log.samples["whole"]
    plain = statistics.mean(wall for wall, _ in whole[PLAIN])
    rows = [
        (
            name,
            ", ".join(f"{wall:.1f} ({processor:.1f})" for wall, processor in tries),
            "" if name == PLAIN else f"{statistics.mean(w for w, _ in tries) - plain:.1f}",
            WANTED_S.get(name, ""),
        )
        for name, tries in whole.items()
    ]
    scheduled = ", ".join(f"{seconds:.1f}" for seconds in log.samples["scheduled"])
    rows.append((SCHEDULED, scheduled, "", WANTED_S[SCHEDULED]))
    made = {
        True: "A new PREFECT_HOME starts from the database that `tools/install` made.\n\n",
        False: "No database of `tools/install` is there: a new PREFECT_HOME makes its own.\n\n",
        None: "",  # logs of before there was one
    }[log.settings.get("template")]
    heading = ["", "seconds (processor time)", "over `dvc repro`", "wanted at most"]
    return made + table(heading, rows)


def times(
    repository: Path, command: list[str], variables: dict[str, str], repeats: int = REPEATS
) -> list[tuple[float, float]]:
    """Wall and processor seconds of a command with both stages stale, a few times."""
    seconds = []
    for _ in range(repeats):
        (repository / "seed.txt").write_text(str(time.time_ns()))
        started, busy = time.monotonic(), processor_s()
        run(repository, command, variables)
        seconds.append((time.monotonic() - started, processor_s() - busy))
    return seconds


def processor_s() -> float:
    """Processor time of all commands that ended so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(repository: Path, command: list[str], variables: dict[str, str]) -> str:
    """Standard output of a command that must succeed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    done = subprocess.run(
        command,
        cwd=repository,
        env={**inherited, "PATH": path, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return done.stdout


def make_repository(folder: Path) -> Path:
    """A git and DVC repository with two stages and a bare remote."""
    repository = folder / "repository"
    repository.mkdir()
    (repository / "dvc.yaml").write_text(DVC_YAML)
    (repository / "seed.txt").write_text("0")
    for command in (
        ["git", "init", "-q", "-b", "main"],
        ["git", "init", "-q", "--bare", "-b", "main", str(folder / "remote.git")],
        ["git", "remote", "add", "origin", str(folder / "remote.git")],
        ["git", "config", "user.name", "Benchmark"],
        ["git", "config", "user.email", "benchmark@example.org"],
        [sys.executable, "-m", "dvc", "init", "-q"],
        [sys.executable, "-m", "dvc", "config", "core.analytics", "false"],
    ):
        run(repository, command, {})
    publish(repository)
    return repository


def publish(repository: Path) -> None:
    """Commit everything and push it."""
    for command in (["add", "-A"], ["commit", "-qm", "Now"], ["push", "-q", "origin", "main"]):
        run(repository, ["git", *command], {})


@contextmanager
def prefect_server(variables: dict[str, str]) -> Iterator[str]:
    """A Prefect server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        port = bound.getsockname()[1]
    address = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--port", str(port)]
    environment = {**os.environ, **variables, "PREFECT_API_URL": address}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            while not answers(f"{address}/health"):
                time.sleep(0.2)
            yield address
        finally:
            server.terminate()


def answers(address: str) -> bool:
    """Whether the server is up."""
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
