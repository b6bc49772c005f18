"""What was measured of a version, as metrics of its logged model: numbers to search and sort by.

Tags of a version are text; MLflow compares numbers only in metrics. A figure names the data it was
measured on as MLflow's dataset of the metric, so figures on other data are told apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from mlflow.entities import LoggedModel, Metric

from pipelines.tracking.runs import MAX_DIGEST_LENGTH
from pipelines.tracking.store import Tracking
from pipelines.tracking.versions import Version


@dataclass(frozen=True, slots=True)
class Figure:
    """One number."""

    name: str
    """As `gate.AP` or `latency_p50_ms`."""
    value: float
    dataset: str
    """Name of the data it was measured on; empty for what does not depend on a split."""
    digest: str
    """Version of that data."""


def log_figures(
    tracking: Tracking, version: Version, figures: Iterable[Figure], *, run_id: str
) -> None:
    """Add the figures that the version lacks; one that is there on the same data stays.

    MLflow keeps a model's metrics with a run, which must not be a deleted one.
    """
    model = tracking.client.get_logged_model(version.model_id)
    known = {(figure.name, figure.digest) for figure in _figures(model)}
    now_ms = time.time_ns() // 1_000_000
    missing = [
        Metric(
            figure.name,
            figure.value,
            now_ms,
            0,
            model_id=version.model_id,
            dataset_name=figure.dataset if figure.digest else None,  # MLflow wants both or none
            dataset_digest=figure.digest[:MAX_DIGEST_LENGTH] or None,
            run_id=run_id,
        )
        for figure in figures
        if (figure.name, figure.digest[:MAX_DIGEST_LENGTH]) not in known
    ]
    if missing:
        tracking.client.log_batch(run_id, metrics=missing)


def all_figures(tracking: Tracking) -> dict[str, tuple[Figure, ...]]:
    """Logged model id -> its figures, for every model in the store."""
    found: dict[str, tuple[Figure, ...]] = {}
    token = None
    while True:
        page = tracking.client.search_logged_models([tracking.experiment_id], page_token=token)
        found |= {model.model_id: _figures(model) for model in page}
        token = page.token
        if not token:
            return found


def _figures(model: LoggedModel) -> tuple[Figure, ...]:
    """Of one logged model, in order of measurement."""
    return tuple(
        Figure(metric.key, metric.value, metric.dataset_name or "", metric.dataset_digest or "")
        for metric in sorted(model.metrics or (), key=lambda metric: metric.timestamp)
    )
