"""Versions of the registered model: one per content, complete as soon as it can be seen."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipelines.tracking.address import SERVER_SCHEMES
from pipelines.tracking.store import Tracking
from pipelines.tracking.uploads import (
    CONTENT_HASH_TAG,
    MODEL_ID_TAG,
    abandoned_uploads,
    discard_upload,
    upload,
)

PACKAGED_ONNX = "artifacts/rtmo.onnx"
"""Where a version keeps its complete form."""
COLLECTED_TAG = "collected"
"""When the files of a version were given up; absent while it has them."""
GZIP_MAGIC = b"\x1f\x8b"
MAX_TAG_LENGTH = 5000  # MLflow's own limit for tags of a version
MODEL_DESCRIPTION = (
    "People's keypoints in pictures. `champion` is what applications get, `previous` what a "
    "rollback goes back to, `challenger` the last one that was judged and not promoted."
)


class UnknownVersionError(LookupError):
    """A version that the registry does not have."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of the registered model."""

    name: str
    """Of the registered model."""
    number: int
    run_id: str
    """Training run that made it."""
    tags: Mapping[str, str]

    @property
    def content_hash(self) -> str:
        """sha256 over its model files."""
        return self.tags[CONTENT_HASH_TAG]

    @property
    def model_id(self) -> str:
        """MLflow's logged model that holds the files."""
        return self.tags[MODEL_ID_TAG]


def find_version(tracking: Tracking, name: str, content_hash: str) -> Version | None:
    """The first version with this content; None if there is none."""
    found = tracking.client.search_model_versions(
        f"name = '{name}' and tag.`{CONTENT_HASH_TAG}` = '{content_hash}'"
    )
    return min(map(_version, found), key=lambda version: version.number, default=None)


def find_complete_version(tracking: Tracking, name: str, content_hash: str) -> Version | None:
    """As `find_version`, but None also if the store lost the files (a removed artifact folder)."""
    found = find_version(tracking, name, content_hash)
    return found if found is not None and has_files(tracking, found) else None


def get_version(tracking: Tracking, name: str, number: int) -> Version:
    """The version with this number.

    Raises:
        UnknownVersionError: if there is none, naming those there are; or if it was not made here.
    """
    try:
        found = tracking.client.get_model_version(name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        numbers = [version.number for version in all_versions(tracking, name)]
        raise UnknownVersionError(
            f"there is no version {number} of model {name!r} in {tracking.address.shown}; "
            f"it has {', '.join(map(str, numbers)) or 'none'}"
        ) from None
    if not {CONTENT_HASH_TAG, MODEL_ID_TAG} <= set(found.tags):
        raise UnknownVersionError(
            f"version {number} of model {name!r} was not made by `register` (it lacks the tags "
            f"{CONTENT_HASH_TAG} and {MODEL_ID_TAG}), so it can be neither compared nor restored; "
            "give the alias to one that was"
        )
    return _version(found)


def find_champion(tracking: Tracking, name: str) -> Version | None:
    """The version with the alias `champion`; None if nobody has it or nothing was registered."""
    return find_alias(tracking, name, "champion")


def find_alias(tracking: Tracking, name: str, alias: str) -> Version | None:
    """The version with an alias; None if nobody has it or nothing was registered."""
    try:
        found = tracking.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None
    return get_version(tracking, name, int(found.version))


def require_alias(tracking: Tracking, name: str, alias: str) -> Version:
    """The version with an alias.

    Raises:
        UnknownVersionError: if nobody has it.
    """
    version = find_alias(tracking, name, alias)
    if version is None:
        raise UnknownVersionError(
            f"{tracking.address.shown} has no {alias} of model {name!r}; {_way_to(tracking, name)}"
        )
    return version


def _way_to(tracking: Tracking, name: str) -> str:
    """What to do where nobody has an alias."""
    registered = all_versions(tracking, name)
    if not registered:
        return (
            "`dvc repro` registers a model, `rtmo-pipeline sync` brings back the one this "
            "workspace registered"
        )
    number = registered[-1].number
    return (
        f"version {number} is registered and was not promoted: `rtmo-pipeline status` says why, "
        f"`rtmo-pipeline promote {number} --why REASON` promotes it all the same"
    )


def all_versions(tracking: Tracking, name: str) -> tuple[Version, ...]:
    """Every version of ours, oldest first."""
    found: list[ModelVersion] = []
    token = None
    while True:
        page = tracking.client.search_model_versions(f"name = '{name}'", page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            ours = [_version(item) for item in found if CONTENT_HASH_TAG in item.tags]
            return tuple(sorted(ours, key=lambda version: version.number))


def aliases_by_version(tracking: Tracking, name: str) -> dict[int, tuple[str, ...]]:
    """Version number -> all its aliases, also those that are not ours; the model must exist."""
    found: dict[int, list[str]] = {}
    for alias, number in tracking.client.get_registered_model(name).aliases.items():
        found.setdefault(int(number), []).append(alias)
    return {number: tuple(sorted(aliases)) for number, aliases in found.items()}


def ensure_registered_model(tracking: Tracking, name: str) -> None:
    """Make the registered model if it is new."""
    try:
        tracking.client.create_registered_model(name, description=MODEL_DESCRIPTION)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def create_version(
    tracking: Tracking,
    name: str,
    package: Path,
    *,
    content_hash: str,
    run_id: str,
    tags: Mapping[str, str],
) -> Version:
    """The version with this content: the one there is, or a new one.

    Files are uploaded first; the version appears afterwards with all its tags in one step, so
    nobody ever sees half of one. Two makers at once agree on the lower number without a lock, which
    would not reach other hosts: each looks again after creating, and the later one withdraws.

    Args:
        tracking: the store.
        name: of the registered model.
        package: folder in MLflow's model format.
        content_hash: sha256 over the model files.
        run_id: training run that made them.
        tags: what is known of the version.
    """
    ensure_registered_model(tracking, name)
    found = find_version(tracking, name, content_hash)
    if found is not None:
        if not has_files(tracking, found):
            tracking.client.log_model_artifacts(found.model_id, str(package))
            if COLLECTED_TAG in found.tags:
                number = str(found.number)
                tracking.client.delete_model_version_tag(name, number, COLLECTED_TAG)
        return found
    for abandoned in abandoned_uploads(tracking):
        discard_upload(tracking, abandoned)
    model_id = upload(tracking, name, package, content_hash, run_id)
    keys = {CONTENT_HASH_TAG: content_hash, MODEL_ID_TAG: model_id}
    made = tracking.client.create_model_version(
        name,
        source=_source(tracking, model_id),
        run_id=run_id,
        model_id=model_id,
        description=description_of(tags),
        tags={key: value[:MAX_TAG_LENGTH] for key, value in {**tags, **keys}.items()},
    )
    winner = find_version(tracking, name, content_hash)
    if winner is None or winner.number == int(made.version):
        return _version(made)
    tracking.client.delete_model_version(name, made.version)
    discard_upload(tracking, model_id)
    return winner


def description_of(tags: Mapping[str, str]) -> str:
    """A sentence for MLflow's pages, of what the tags of a version say.

    Example:
        >>> description_of({"model": "rtmo-t", "dataset": "embedded", "gate.AP": "0.2733"})
        'rtmo-t trained on embedded; on the gate split AP 0.2733. More in model_card.md.'
    """
    what = f"{tags.get('model', 'a model')} trained on {tags.get('dataset', 'unnamed data')}"
    measured = [f"{name} {tags[f'gate.{name}']}" for name in ("AP", "AR") if f"gate.{name}" in tags]
    figures = f"; on the gate split {', '.join(measured)}" if measured else ""
    return f"{what}{figures}. More in model_card.md."


def describe_version(tracking: Tracking, version: Version, tags: Mapping[str, str]) -> None:
    """Write tags on a version; a tag there already is replaced."""
    for key, value in tags.items():
        tracking.client.set_model_version_tag(
            version.name, str(version.number), key, value[:MAX_TAG_LENGTH]
        )


def attach_json(
    tracking: Tracking, version: Version, path: str, content: Sequence[Any] | Mapping[str, Any]
) -> None:
    """Store `content` beside the version's model files as `<path>`, gzipped JSON."""
    folder, _, file_name = path.rpartition("/")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / file_name
        file.write_bytes(gzip.compress(json.dumps(content).encode(), mtime=0))
        tracking.client.log_model_artifact(version.model_id, str(file), folder)


def attached_json(tracking: Tracking, version: Version, path: str) -> Any | None:  # noqa: ANN401
    """What `attach_json` stored; None if there is nothing at that path."""
    folder = path.rpartition("/")[0]
    client = tracking.client
    if path not in [
        item.path for item in client.list_logged_model_artifacts(version.model_id, folder)
    ]:
        return None
    with tempfile.TemporaryDirectory() as temporary:
        content = download(tracking, version, path, temporary).read_bytes()
    # S3 keeps `.gz` as an encoding of the content, and a server before it hands it out unpacked.
    return json.loads(gzip.decompress(content) if content.startswith(GZIP_MAGIC) else content)


def download(tracking: Tracking, version: Version, path: str, folder: str | Path) -> Path:
    """Copy one file or folder of the version's model into `folder`; where it then is.

    Addresses `models:/…` are resolved by MLflow in the process-wide store, so the files are taken
    from where the logged model says they are.
    """
    location = tracking.client.get_logged_model(version.model_id).artifact_location
    return Path(
        mlflow.artifacts.download_artifacts(
            artifact_uri=f"{location.rstrip('/')}/{path}",
            dst_path=str(folder),
            tracking_uri=tracking.address.uri,
        )
    )


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), found.run_id or "", dict(found.tags))


def has_files(tracking: Tracking, version: Version) -> bool:
    """Whether the store still holds the version's model."""
    files = tracking.client.list_logged_model_artifacts(version.model_id)
    return "MLmodel" in [item.path for item in files]


def _source(tracking: Tracking, model_id: str) -> str:
    """Where a new version's files are, as the store wants to be told.

    A server resolves `models:/<id>` itself and refuses local folders. Without a server MLflow
    resolves `models:/<id>` in the process-wide store, which is not ours to set; it gets the folder.
    """
    if tracking.address.scheme in SERVER_SCHEMES:
        return f"models:/{model_id}"
    return str(tracking.client.get_logged_model(model_id).artifact_location)
