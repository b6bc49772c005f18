"""Where the time of a training goes."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Activity = Literal["data_wait", "forward_backward", "update", "validation", "checkpoint"]
"""What a training does; `update` is clipping, optimiser and weight averaging."""


class Clock:
    """Seconds per activity; time under no activity is `other`.

    Example:
        >>> clock = Clock()
        >>> with clock.during("update"):
        ...     pass
        >>> sorted(clock.seconds())
        ['checkpoint', 'data_wait', 'forward_backward', 'other', 'update', 'validation']
    """

    def __init__(self, former: Mapping[str, float] | None = None) -> None:
        """Start now.

        Args:
            former: `seconds()` of the process this run continues.
        """
        self._former = dict(former or {})
        self._spent: dict[str, float] = dict.fromkeys(get_args(Activity), 0.0)
        self._start = time.perf_counter()

    @contextmanager
    def during(self, activity: Activity) -> Iterator[None]:
        """Count the time of the context as `activity`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[activity] += time.perf_counter() - start

    def seconds(self) -> dict[str, float]:
        """Seconds so far by activity, former processes included; they add up to the whole."""
        whole = time.perf_counter() - self._start
        mine = {**self._spent, "other": whole - sum(self._spent.values())}
        return {name: value + self._former.get(name, 0.0) for name, value in mine.items()}


class Pace:
    """Speed of one epoch, from where this process began it; validation is not counted."""

    def __init__(self, clock: Clock) -> None:
        self.images = 0
        self._clock = clock
        self._start = clock.seconds()

    def images_per_s(self) -> float:
        """Training speed."""
        return self.images / self._training_seconds()

    def data_wait(self) -> float:
        """Share of the time spent waiting for data."""
        waited = self._clock.seconds()["data_wait"] - self._start["data_wait"]
        return waited / self._training_seconds()

    def metrics(self) -> dict[str, float]:
        """For the reporters; nothing where no step was taken."""
        if not self.images:
            return {}
        return {"images_per_s": self.images_per_s(), "data_wait": self.data_wait()}

    def _training_seconds(self) -> float:
        now = self._clock.seconds()
        return sum(now[name] - self._start[name] for name in now if name != "validation")
