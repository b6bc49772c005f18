"""Telling the Prefect server of new data; the trigger in `prefect.yaml` starts `retrain`."""

from __future__ import annotations

from prefect.events import emit_event
from prefect.events.worker import EventsWorker

NEW_DATA = "rtmo.data.changed"


def announce_data(dataset: str) -> None:
    """Emit the event, and return when the server has it."""
    emit_event(event=NEW_DATA, resource={"prefect.resource.id": f"rtmo.data.{dataset}"})
    EventsWorker.drain_all(timeout=30)
