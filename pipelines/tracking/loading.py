"""Loading a registered model in this process."""

from __future__ import annotations

import tempfile

import mlflow.pyfunc
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from pipelines.tracking.store import Tracking
from pipelines.tracking.versions import UnknownVersionError, download, get_version


def load_alias(tracking: Tracking, name: str, alias: str) -> PyFuncModel:
    """The version that an alias points to, with the library code it carries.

    Raises:
        UnknownVersionError: if the alias is not set.
    """
    try:
        found = tracking.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        raise UnknownVersionError(
            f"{tracking.address.shown} has no {alias} of model {name!r}; `dvc repro` registers a "
            "model, `rtmo-pipeline sync` brings back the one this workspace registered"
        ) from None
    version = get_version(tracking, name, int(found.version))
    with tempfile.TemporaryDirectory() as folder:
        loaded: PyFuncModel = mlflow.pyfunc.load_model(str(download(tracking, version, "", folder)))
        return loaded
