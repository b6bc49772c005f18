"""DVC commands in processes of their own that end with this one."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pipelines.process import bound_to_this_process

NO_VARIABLES: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended."""

    status: int
    last_lines: tuple[str, ...]
    """The end of what it printed."""


def run_dvc(
    root: Path,
    arguments: list[str],
    log: Callable[[str], None],
    environment: Mapping[str, str] = NO_VARIABLES,
    limit_s: float = math.inf,
) -> Ended:
    """Run `dvc ARGUMENTS` in `root`, with `environment` added to that of this process.

    Args:
        root: repository root.
        arguments: of DVC.
        log: called with each line that DVC and its stages print.
        environment: variables to set besides.
        limit_s: after this time it is ended with all it started; the status is then TIMED_OUT.
    """
    here = str(Path(sys.executable).parent)  # the `python` of stage commands is this one
    path = os.pathsep.join((here, os.environ.get("PATH", "")))
    last: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        bound_to_this_process([sys.executable, "-m", "dvc", *arguments], limit_s=limit_s),
        cwd=root,
        env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as running:
        try:
            for line in running.stdout or ():
                log(line.rstrip())
                last.append(line.rstrip())
        except BaseException:  # cancelled: end DVC and the stage before we go
            running.terminate()
            raise
    return Ended(running.returncode, tuple(last))
