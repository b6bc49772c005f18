"""Is the process that began something still there? Marks for runs, models and alias moves."""

from __future__ import annotations

import json
import os
import socket

import psutil

PROCESS_TAG = "process"
"""MLflow tag that holds the mark of the process that works on a run or a model."""

START_TOLERANCE_S = 1.0
"""The start time is derived from clock ticks and the boot time: equal within a tick or two."""


def this_process() -> str:
    """A mark of this process: host, process id and, as ids are used again, when it started."""
    started = psutil.Process().create_time()
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started": started})


def is_gone(mark: str | None) -> bool:
    """Whether the marked process certainly no longer runs.

    False where nobody here can know: no mark, or the mark of another host.

    Example:
        >>> is_gone(this_process()), is_gone(None)
        (False, False)
    """
    if mark is None:
        return False
    content = json.loads(mark)
    if content["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(content["pid"])
        is_same = abs(process.create_time() - content["started"]) <= START_TOLERANCE_S
        is_alive = is_same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    return not is_alive
