"""What a step of the tour is, and how all of them are walked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from subprocess import SubprocessError
from typing import Literal

from pipelines.tour.copies import Copies

Verdict = Literal["pass", "FAIL", "unavailable"]


class PromiseError(AssertionError):
    """What was seen is not what was promised."""


class NotHereError(RuntimeError):
    """This machine cannot show it; the message says why."""


@dataclass(frozen=True, slots=True)
class Step:
    """One promise, and how to see it."""

    promise: str
    show: Callable[[Copies], str]
    """Returns what was seen, in words.

    Raises PromiseError if that is something else, NotHereError if it cannot be seen here.
    """


@dataclass(frozen=True, slots=True)
class Seen:
    """How one step went."""

    step: Step
    verdict: Verdict
    words: str
    commands: tuple[str, ...]
    """What was typed."""
    seconds: float


def walk(steps: Sequence[Step], copies: Copies, tell: Callable[[Seen], None]) -> list[Seen]:
    """Take every step, whatever became of the ones before."""
    walked = []
    for step in steps:
        copies.typed.clear()
        started = time.monotonic()
        verdict, words = _take(step, copies)
        seconds = time.monotonic() - started
        walked.append(Seen(step, verdict, words, tuple(copies.typed), seconds))
        tell(walked[-1])
    return walked


def _take(step: Step, copies: Copies) -> tuple[Verdict, str]:
    try:
        return "pass", step.show(copies)
    except NotHereError as reason:
        return "unavailable", str(reason)
    except PromiseError as error:
        return "FAIL", str(error)
    except (OSError, LookupError, ValueError, RuntimeError, SubprocessError) as error:
        return "FAIL", f"{type(error).__name__}: {error}"


def require(is_so: object, words: str) -> None:
    """Fail the step with `words` unless it is so."""
    if not is_so:
        raise PromiseError(words)
