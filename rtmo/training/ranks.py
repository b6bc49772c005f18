"""A program in several processes, one per device: started, restarted and ended by torchrun.

Over several hosts torchrun is started by hand on each of them; then the program finds itself in a
rank and starts nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from types import FrameType

MAX_RESTARTS = 3
"""Times that all ranks begin again, from the last checkpoint, when one of them has died."""


def is_rank() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first() -> bool:
    """Whether this process is the only one, or the rank that writes files and reports."""
    return os.environ.get("RANK", "0") == "0"


def start_ranks(module: str, processes: int, *, interrupted: int) -> int:
    """Run `python -m module` in so many ranks on this host and wait for them.

    Returns:
        The exit status: 0, or `interrupted` if SIGTERM asked to stop, or torchrun's.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [f"--nproc-per-node={processes}", f"--max-restarts={MAX_RESTARTS}", "-m", module]
    child = subprocess.Popen(command)
    asked = False

    def pass_on(_signal: int, _frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        child.terminate()

    former = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = child.wait()
    finally:
        signal.signal(signal.SIGTERM, former)
    return interrupted if asked and status else status
