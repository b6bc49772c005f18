"""Pictures of requests that come at the same time go through the network together."""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import islice, takewhile

import numpy as np

from rtmo.deployment.postprocess import Floats, InputPeople
from rtmo.deployment.runners import Predictor


class ClosedError(RuntimeError):
    """The server is stopping; nothing more is taken."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    predictor: Predictor
    pixels: Floats
    """(1, 3, H, W)."""
    people: Future[InputPeople] = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)

    def goes_with(self, other: _Waiting) -> bool:
        """Whether both fit into one forward pass."""
        return self.predictor is other.predictor and self.pixels.shape == other.pixels.shape


class Batcher:
    """One thread that runs networks; whoever submits gets a future.

    A batch begins with the picture that has waited longest, and holds those after it that go
    through the same network in the same size. How many pictures may wait is the caller's affair.
    """

    def __init__(self, *, max_batch: int, max_wait_ms: float) -> None:
        """Start the thread.

        Args:
            max_batch: pictures in one forward pass at most.
            max_wait_ms: how long the first picture of a batch waits for others; 0 takes only those
                that came while the batch before was computed.
        """
        self._max_batch = max_batch
        self._max_wait_s = max_wait_ms / 1000
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name="batcher", daemon=True)
        self._thread.start()

    def submit(self, predictor: Predictor, pixels: Floats) -> Future[InputPeople]:
        """Queue one network input, shape (1, 3, H, W).

        Raises:
            ClosedError: after `close`.
        """
        waiting = _Waiting(predictor, pixels)
        with self._changed:
            if self._is_closed:
                raise ClosedError("the server is stopping")
            self._waiting.append(waiting)
            self._changed.notify()
        return waiting.people

    def close(self) -> None:
        """Finish what waits, then end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            # A future that runs cannot be cancelled any more.
            wanted = [one for one in batch if one.people.set_running_or_notify_cancel()]
            if wanted:
                _run(wanted)

    def _next_batch(self) -> list[_Waiting]:
        """The next pictures to compute; empty when closed and nothing is left."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._is_closed)
            batch = self._mates()
            while not self._is_closed and len(batch) == len(self._waiting) < self._max_batch:
                if not self._changed.wait(batch[0].since + self._max_wait_s - time.monotonic()):
                    break
                batch = self._mates()
            for _ in batch:
                self._waiting.popleft()
            return batch

    def _mates(self) -> list[_Waiting]:
        """The first in the queue and those right after it that go with it."""
        first = list(islice(self._waiting, self._max_batch))
        return list(takewhile(first[0].goes_with, first)) if first else []


def _run(batch: list[_Waiting]) -> None:
    try:
        people = batch[0].predictor.infer(np.concatenate([waiting.pixels for waiting in batch]))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to hear
        for waiting in batch:
            waiting.people.set_exception(error)
        return
    for waiting, found in zip(batch, people, strict=True):
        waiting.people.set_result(found)
