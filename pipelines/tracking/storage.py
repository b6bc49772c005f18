"""What versions and runs occupy in the store, and giving it back."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mlflow.entities import Run, ViewType

from pipelines.tracking.liveness import PROCESS_TAG, is_gone
from pipelines.tracking.runs import STAGE_HASH_TAG
from pipelines.tracking.store import Tracking
from pipelines.tracking.uploads import delete_model_files, size_of_upload
from pipelines.tracking.versions import COLLECTED_TAG, Version, describe_version


def size_of_files(tracking: Tracking, version: Version) -> int:
    """Bytes of everything stored with a version's logged model."""
    return size_of_upload(tracking, version.model_id)


def remove_files(tracking: Tracking, version: Version) -> None:
    """Give up the model files of a version; its tags, figures and history stay.

    It can be registered again, or brought back from its commit, and then has files again.
    """
    delete_model_files(tracking, version.model_id)
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    describe_version(tracking, version, {COLLECTED_TAG: now})


def unfinished_runs(tracking: Tracking, *, older_than_days: float) -> tuple[Run, ...]:
    """Training runs that failed or were killed so long ago, and that nobody works on."""
    before_ms = int((time.time() - older_than_days * 86_400) * 1000)
    found: list[Run] = []
    token = None
    while True:
        page = tracking.client.search_runs(
            [tracking.experiment_id],
            f"attributes.status != 'FINISHED' and attributes.start_time < {before_ms}",
            ViewType.ACTIVE_ONLY,
            page_token=token,
        )
        found += [run for run in page if STAGE_HASH_TAG in run.data.tags and _is_over(run)]
        token = page.token
        if not token:
            return tuple(found)


def _is_over(run: Run) -> bool:
    return run.info.status != "RUNNING" or is_gone(run.data.tags.get(PROCESS_TAG))
