"""Model files on their way into a version, and those that no version came of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import LoggedModelOutput
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipelines.tracking.liveness import PROCESS_TAG, is_gone, this_process
from pipelines.tracking.store import Tracking

CONTENT_HASH_TAG = "content_hash"
MODEL_ID_TAG = "model_id"


def upload(tracking: Tracking, name: str, package: Path, content_hash: str, run_id: str) -> str:
    """Store the package as a logged model of the run; its id."""
    client = tracking.client
    tags = {CONTENT_HASH_TAG: content_hash, PROCESS_TAG: this_process()}
    model = client.create_logged_model(
        tracking.experiment_id, name=name, source_run_id=run_id, tags=tags
    )
    client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_model_artifacts(model.model_id, str(package))
    client.finalize_logged_model(model.model_id, "READY")
    return str(model.model_id)


def abandoned_uploads(tracking: Tracking) -> tuple[str, ...]:
    """Ids of logged models that no version names and whose uploading process is gone.

    It died during the upload, or after it and before the version was made.
    """
    claimed = set(_claimed(tracking))
    found: list[str] = []
    token = None
    while True:
        page = tracking.client.search_logged_models([tracking.experiment_id], page_token=token)
        found += [
            model.model_id
            for model in page
            if model.model_id not in claimed and is_gone(model.tags.get(PROCESS_TAG))
        ]
        token = page.token
        if not token:
            return tuple(found)


def _claimed(tracking: Tracking) -> Iterator[str]:
    """Ids that the versions of every registered model name."""
    token = None
    while True:
        page = tracking.client.search_model_versions("", page_token=token)
        for version in page:
            if MODEL_ID_TAG in version.tags:
                yield version.tags[MODEL_ID_TAG]
        token = page.token
        if not token:
            return


def size_of_upload(tracking: Tracking, model_id: str) -> int:
    """Bytes of everything stored with a logged model."""
    return sum(_sizes(tracking, model_id, None))


def _sizes(tracking: Tracking, model_id: str, folder: str | None) -> Iterator[int]:
    for item in tracking.client.list_logged_model_artifacts(model_id, folder):
        if item.is_dir:
            yield from _sizes(tracking, model_id, item.path)
        else:
            yield item.file_size or 0


def discard_upload(tracking: Tracking, model_id: str) -> None:
    """Remove a logged model with its files, which MLflow's deletion leaves on the disk."""
    delete_model_files(tracking, model_id)
    tracking.client.delete_logged_model(model_id)


def delete_model_files(tracking: Tracking, model_id: str) -> None:
    """Delete everything stored with a logged model; its record stays."""
    location = tracking.client.get_logged_model(model_id).artifact_location
    files: Any = get_artifact_repository(location, tracking_uri=tracking.address.uri)
    files.delete_artifacts()
