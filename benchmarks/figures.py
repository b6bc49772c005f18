"""Every table that has a raw log, made again from it.

    python -m benchmarks.figures            # writes the tables into their pages
    python -m benchmarks.figures --check    # writes nothing; exit status 1 if a page disagrees

A page of `benchmarks/` or `docs/`, or the README, shows a log of `benchmarks/logs/` by

    <!-- figures: 2026-11-28-loader-speed.json -->
    <!-- end of figures -->

and what stands between the two lines is written by this command: machine, versions, load, command,
and the table that the benchmark makes of its log. A log that no page shows is an error; so is a
page of `benchmarks/` that shows none and does not say "No raw log".
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    accumulation,
    beside_rtmlib,
    cpu_runtimes,
    dvc_status_scale,
    evaluation_scale,
    fine_tuning,
    flow_overhead,
    gate_error_rates,
    loader_speed,
    memory_growth,
    model_speed,
    serve_batching,
    training_speed,
)
from benchmarks.raw_log import LOGS, RawLog

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- figures: (\S+) -->\n).*?(<!-- end of figures -->)", re.DOTALL)
NO_LOG = "No raw log"

TABLES: dict[str, Callable[[RawLog], str]] = {
    "accumulation": accumulation.table_of,
    "beside_rtmlib": beside_rtmlib.table_of,
    "cpu_runtimes": cpu_runtimes.table_of,
    "dvc_status_scale": dvc_status_scale.table_of,
    "evaluation_scale": evaluation_scale.table_of,
    "fine_tuning": fine_tuning.table_of,
    "flow_overhead": flow_overhead.table_of,
    "gate_error_rates": gate_error_rates.table_of,
    "loader_speed": loader_speed.table_of,
    "memory_growth": memory_growth.table_of,
    "model_speed": model_speed.table_of,
    "serve_batching": serve_batching.table_of,
    "training_speed": training_speed.table_of,
}
"""Benchmark -> what makes the table of its log."""


def pages(root: Path) -> list[Path]:
    """Every page that may show a log."""
    return [root / "README.md", *sorted(root.glob("docs/*.md")), *measured(root)]


def measured(root: Path) -> list[Path]:
    """The pages of measurements."""
    return sorted(root.glob("benchmarks/*.md"))


def rendered(log: RawLog) -> str:
    """What a page shows of a log.

    Raises:
        ValueError: for a benchmark without a table.
    """
    if log.benchmark not in TABLES:
        raise ValueError(
            f"a log of {log.benchmark!r}: no such benchmark makes tables; "
            f"add it to TABLES in benchmarks/figures.py ({', '.join(TABLES)})"
        )
    return f"{log.provenance()}\n\n{TABLES[log.benchmark](log)}\n"


def remade(text: str, logs: Path) -> str:
    """A page with every block written anew.

    Raises:
        FileNotFoundError: for a log that is not there.
    """

    def block(found: re.Match[str]) -> str:
        log = RawLog.model_validate_json((logs / found[2]).read_bytes())
        return f"{found[1]}{rendered(log)}{found[3]}"

    return BLOCK.sub(block, text)


def problems(root: Path, logs: Path) -> list[str]:
    """What does not hold, a sentence each; empty if all does."""
    shown: set[str] = set()
    found = []
    for page in pages(root):
        text, name = page.read_text(), page.relative_to(root)
        here = [block[2] for block in BLOCK.finditer(text)]
        shown.update(here)
        missing = [log for log in here if not (logs / log).exists()]
        found += [f"{name} shows {log}, which is not in benchmarks/logs" for log in missing]
        if not missing and remade(text, logs) != text:
            found.append(f"{name} disagrees with its raw log: run `make figures`")
        if text.count("<!-- figures:") != len(here):
            found.append(f"{name} has a block of figures without its end")
        if page.parent.name == "benchmarks" and not here and NO_LOG not in text:
            found.append(f"{name} shows no raw log and does not say '{NO_LOG}'")
    hidden = sorted(path.name for path in logs.glob("*.json") if path.name not in shown)
    return found + [f"no page shows benchmarks/logs/{name}" for name in hidden]


def main() -> int:
    """Command line."""
    if "--check" not in sys.argv[1:]:
        for page in pages(ROOT):
            text = page.read_text()
            if (new := remade(text, LOGS)) != text:
                page.write_text(new)
                print(f"written: {page.relative_to(ROOT)}")
    wrong = problems(ROOT, LOGS)
    print("\n".join(wrong or ["every table agrees with its raw log"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
