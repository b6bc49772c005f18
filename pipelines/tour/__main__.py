"""`python -m pipelines.tour`: walk all steps on a finished checkout; `make tour` calls it.

Exit status: 0 if no promise was broken, 1 if one was, 2 if there is nothing to tour yet.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.paths import checkout
from pipelines.tour.copies import Copies
from pipelines.tour.models import (
    PARITY,
    engine_is_built,
    error_report_opens,
    evaluator_equals_pycocotools,
    parity_tests_see_a_changed_constant,
    rtmlib_runs_our_file,
)
from pipelines.tour.releases import (
    lost_store_comes_back,
    plain_client_finds_the_champion,
    worse_challenger_is_refused,
)
from pipelines.tour.steps import Seen, Step, walk
from pipelines.tour.training import (
    doctor_finds_exchanged_labels,
    one_parameter_concerns_its_stages,
    resumes_after_a_kill,
    retrain_has_nothing_to_do_and_can_be_cancelled,
)

STEPS = (
    Step("The error report is complete and needs no server", error_report_opens),
    Step("One parameter concerns only the stages that read it", one_parameter_concerns_its_stages),
    Step(
        "Any MLflow client finds and loads the model by its alias", plain_client_finds_the_champion
    ),
    Step("A deleted store comes back with the same model", lost_store_comes_back),
    Step("Our scores are those of pycocotools", evaluator_equals_pycocotools),
    Step("rtmlib runs our ONNX file", rtmlib_runs_our_file),
    Step("A TensorRT engine is built, and says what it needs to run", engine_is_built),
    Step("The dataset doctor finds left and right exchanged", doctor_finds_exchanged_labels),
    Step("Parity tests notice a changed constant", parity_tests_see_a_changed_constant),
    Step("A killed training ends with the bits of an undisturbed one", resumes_after_a_kill),
    Step(
        "Retraining: nothing to do, then cancelled without a trace",
        retrain_has_nothing_to_do_and_can_be_cancelled,
    ),
    Step("A worse model is refused; rollback; history", worse_challenger_is_refused),
)
MADE_BY_REPRO = (
    "dvc.lock",
    "models/train/weights.safetensors",
    "models/export/rtmo.onnx",
    "reports/inspect/report.html",
    "reports/register/receipt.json",
)
PASSING_BY = (".git", ".venv", "__pycache__", ".dvc/tmp")
"""What this program and git touch by being there."""
OWN_EDITS = """\
Now your own edits, in the copies: {scratch}
  finished/  the checkout as it was     change a number in params.yaml, then `dvc status`
  parity/    code and tests             change a constant in rtmo/, then {parity}
  trained/   a pipeline of seconds      change anything, then `dvc repro`; kill it on the way
Type this first, for the programs of this checkout and its own stores:
  . {scratch}/environment
"""


def main() -> int:
    """Walk, and say what was seen."""
    argparse.ArgumentParser(prog="make tour", description=__doc__).parse_args()
    paths = checkout()
    missing = [name for name in MADE_BY_REPRO if not (paths.root / name).exists()]
    if missing:
        print(f"not here yet: {', '.join(missing)}. The tour starts after `make repro`.")
        return 2
    started = time.monotonic()
    before = snapshot(paths.root)
    with tempfile.TemporaryDirectory(prefix="rtmo-tour-", ignore_cleanup_errors=True) as folder:
        copies = Copies(paths, Path(folder))
        seen = walk(STEPS, copies, tell)
        changed = differences(before, snapshot(paths.root))
        verdict = f"FAIL: {', '.join(changed[:5])}" if changed else "pass"
        print(f"{verdict:<12}The checkout is as it was found")
        tally = count(seen)
        print(f"{tally} in {(time.monotonic() - started) / 60:.1f} min")
        invite(copies)
    return 1 if changed or any(one.verdict == "FAIL" for one in seen) else 0


def tell(seen: Seen) -> None:
    """Print one step with what was typed for it."""
    print(f"{seen.verdict:<12}{seen.step.promise} ({seen.seconds:.0f} s)")
    for command in seen.commands:
        print(f"              $ {command}")
    print(f"            {seen.words}\n", flush=True)


def count(seen: Sequence[Seen]) -> str:
    """How many steps went how."""
    verdicts = [one.verdict for one in seen]
    return ", ".join(f"{verdicts.count(one)} {one}" for one in ("pass", "FAIL", "unavailable"))


def invite(copies: Copies) -> None:
    """At a terminal, keep the copies until the person has tried something in them."""
    if not sys.stdin.isatty():
        return
    lines = [f"export {name}={shlex.quote(text)}" for name, text in copies.environment.items()]
    (copies.scratch / "environment").write_text("\n".join([*lines, "export PYTHONPATH=.\n"]))
    print(OWN_EDITS.format(scratch=copies.scratch, parity=PARITY))
    input("Enter removes them. ")


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every file of the checkout."""
    return {
        str(path.relative_to(root)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in _files(root)
    }


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        here = Path(folder)
        names[:] = [name for name in names if not _is_passed_by((here / name).relative_to(root))]
        yield from (here / name for name in files if (here / name).is_file())


def _is_passed_by(folder: Path) -> bool:
    return folder.name in PASSING_BY or folder.as_posix() in PASSING_BY


def differences(before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]]) -> list[str]:
    """Files that were made, removed or changed."""
    return sorted(name for name in before | after if before.get(name) != after.get(name))


if __name__ == "__main__":
    sys.exit(main())
