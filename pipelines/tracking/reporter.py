"""What a training reports, written to its MLflow run without ever stopping the training."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

logger = logging.getLogger(__name__)

MAX_METRICS_PER_REQUEST = 1000  # MLflow's own limit
FLUSH_EVERY_S = 5.0
MAX_BUFFERED = 200_000
FIRST_PAUSE_S, LONGEST_PAUSE_S = 10.0, 300.0

STORE_ERRORS = (MlflowException, SQLAlchemyError, OSError)
"""Everything a failing store or connection raises (errors of `requests` are OSErrors)."""


class MlflowReporter:
    """Implements `rtmo.training.reporting.Reporter` for one run.

    Values are buffered and written in batches. While the store fails they are kept, tried again
    after growing pauses, and the failures are counted and logged; nothing is raised.
    A continued run repeats the steps after its last checkpoint: points that the run already has
    are not written twice.
    """

    def __init__(self, client: MlflowClient, run_id: str, last_steps: Mapping[str, int]) -> None:
        self.run_id = run_id
        self.num_failures = 0
        self.num_dropped = 0
        self._client = client
        self._last_steps = dict(last_steps)
        self._metrics: list[Metric] = []
        self._images: list[tuple[str, Path]] = []
        self._pause_s = FIRST_PAUSE_S
        self._next_write = time.monotonic() + FLUSH_EVERY_S

    def log_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Note values of one step; they are written within seconds."""
        now_ms = time.time_ns() // 1_000_000
        for name, value in metrics.items():
            if step > self._last_steps.get(name, -1):
                self._last_steps[name] = step
                self._metrics.append(Metric(name, float(value), now_ms, step))
        surplus = len(self._metrics) - MAX_BUFFERED
        if surplus > 0:
            del self._metrics[:surplus]
            self.num_dropped += surplus
        if time.monotonic() >= self._next_write:
            self.flush()

    def log_image(self, name: str, path: Path) -> None:
        """Store a picture as `images/<file name>`; `name` is what warnings call it."""
        self._images.append((name, path))
        if time.monotonic() >= self._next_write:
            self.flush()

    def flush(self) -> bool:
        """Write what is buffered; False if something is still waiting for the store."""
        try:
            while self._metrics:
                batch = self._metrics[:MAX_METRICS_PER_REQUEST]
                self._client.log_batch(self.run_id, metrics=batch)
                del self._metrics[: len(batch)]
            while self._images:
                self._client.log_artifact(self.run_id, str(self._images[0][1]), "images")
                del self._images[0]
        except STORE_ERRORS as error:
            self._note_failure(error)
            return False
        self._pause_s = FIRST_PAUSE_S
        self._next_write = time.monotonic() + FLUSH_EVERY_S
        return True

    def close(self, status: str) -> None:
        """Write the rest and end the run with MLflow's `status`; a failure is only logged."""
        is_complete = self.flush()
        try:
            self._client.set_terminated(self.run_id, status)
        except STORE_ERRORS as error:
            self._note_failure(error)
            is_complete = False
        if not is_complete or self.num_dropped:
            logger.warning(
                "the MLflow run %s is incomplete (%d values unwritten, %d dropped, %d failures); "
                "`rtmo-pipeline sync` fills it from the outputs once the store answers",
                self.run_id,
                len(self._metrics),
                self.num_dropped,
                self.num_failures,
            )

    def _note_failure(self, error: Exception) -> None:
        self.num_failures += 1
        self._next_write = time.monotonic() + self._pause_s
        waiting = ", ".join([f"{len(self._metrics)} values", *(name for name, _ in self._images)])
        logger.warning(
            "MLflow failed %d times, the training goes on (waiting: %s; next try in %.0f s): %s",
            self.num_failures,
            waiting,
            self._pause_s,
            error,
        )
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)
