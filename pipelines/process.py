"""Run a command so that nothing of it outlives whoever asked for it.

DVC starts a stage in a plain child and forwards no signal: TERM or KILL to DVC alone, or KILL to
its caller, would leave the training alive and the GPU taken, and a second one could start. So

- every command in `dvc.yaml` is `exec python -m pipelines.process COMMAND`: a supervisor that ends
  COMMAND with DVC. Without `exec` the parent to watch would be a shell that outlives DVC (dash);
- a flow starts DVC by `bound_to_this_process`: the same supervisor, ending DVC with the flow. It
  also adopts what is orphaned below it, so the helpers of a stage whose supervisor was killed end.

The supervisor gives COMMAND a session of its own, passes TERM, INT and HUP on to all of it, and
leaves nothing of the session behind. It uses only the standard library and starts in no time.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

GRACE_S = 10.0
"""Between the first signal and KILL; enough for a training to leave its step."""
OUTER_GRACE_S = GRACE_S + 5
"""Around DVC: the supervisor of the stage inside must come first."""
TIMED_OUT = 124
"""Exit status of a command whose time was up, as that of coreutils' `timeout`."""
POLL_S = 0.1
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def bound_to_this_process(command: Sequence[str], *, limit_s: float = math.inf) -> list[str]:
    """The command line that runs `command` no longer than this process lives, nor than `limit_s`.

    Its exit status after the time is up is TIMED_OUT.
    """
    supervisor = [sys.executable, str(Path(__file__).resolve())]
    return [*supervisor, "--caller", str(os.getpid()), "--limit", str(limit_s), *command]


def supervise(
    command: Sequence[str], *, caller: int, grace_s: float = GRACE_S, limit_s: float = math.inf
) -> int:
    """Run `command` until it ends, `caller`, our parent's process id, is gone, or time is up.

    On a forwarded signal, when the caller is gone or the time is up, and when the command has ended
    but left processes of its session running, the session is signalled; what is left after
    `grace_s` is killed.

    Returns:
        The exit status of `command`; 128 + n if signal n ended it, as shells say it; TIMED_OUT if
        it ran for `limit_s`.
    """
    child = subprocess.Popen(command, start_new_session=True, preexec_fn=_die_with_parent)
    deadline = math.inf
    time_is_up_at = time.monotonic() + limit_s
    timed_out = False

    def stop(number: int, _frame: FrameType | None = None) -> None:
        nonlocal deadline
        deadline = min(deadline, time.monotonic() + grace_s)
        _signal_group(child.pid, number)

    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, stop)

    while child.poll() is None or _group_exists(child.pid):
        if time.monotonic() > deadline:
            _signal_group(child.pid, signal.SIGKILL)
            child.wait()
            break
        if deadline == math.inf:
            timed_out = child.returncode is None and time.monotonic() > time_is_up_at
            if timed_out or child.returncode is not None or os.getppid() != caller:
                stop(signal.SIGTERM)
        time.sleep(POLL_S)
    if timed_out:
        return TIMED_OUT
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _die_with_parent() -> None:
    """In the child: be killed should the supervisor itself be killed (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _adopt_orphans() -> None:
    """Become the parent of every process below us that loses its own (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _end_orphans(grace_s: float) -> None:
    """End what is left below us: by TERM, after the grace period by KILL."""
    deadline = time.monotonic() + grace_s
    asked: set[int] = set()
    while orphans := _children():
        is_late = time.monotonic() > deadline
        for orphan in orphans:
            if is_late or orphan not in asked:
                asked.add(orphan)
                os.kill(orphan, signal.SIGKILL if is_late else signal.SIGTERM)
            os.waitpid(orphan, os.WNOHANG)
        time.sleep(POLL_S)


def _children() -> list[int]:
    """Process ids of our children, dead ones that nobody waited for included (Linux only)."""
    file = Path(f"/proc/self/task/{os.getpid()}/children")
    return list(map(int, file.read_text().split())) if file.exists() else []


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def main(arguments: Sequence[str]) -> int:
    """`[--caller PID --limit SECONDS] COMMAND...`; without a PID the caller is the parent process.

    The PID closes a gap: a caller killed before we look would leave us another parent to watch.
    """
    match arguments:
        case ["--caller", caller, "--limit", limit, *command] if command:
            _adopt_orphans()
            status = supervise(
                command, caller=int(caller), grace_s=OUTER_GRACE_S, limit_s=float(limit)
            )
            _end_orphans(GRACE_S)
            return status
        case [first, *_] if first != "--caller":
            return supervise(arguments, caller=os.getppid())
        case _:
            sys.stderr.write(
                "usage: python -m pipelines.process [--caller PID --limit SECONDS] COMMAND...\n"
            )
            return os.EX_USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
