"""Loading a registered model in this process."""

from __future__ import annotations

import tempfile

import mlflow.pyfunc
from mlflow.pyfunc import PyFuncModel

from pipelines.tracking.store import Tracking
from pipelines.tracking.versions import download, require_alias


def load_alias(tracking: Tracking, name: str, alias: str) -> PyFuncModel:
    """The version that an alias points to, with the library code it carries.

    Raises:
        UnknownVersionError: if the alias is not set.
    """
    version = require_alias(tracking, name, alias)
    with tempfile.TemporaryDirectory() as folder:
        loaded: PyFuncModel = mlflow.pyfunc.load_model(str(download(tracking, version, "", folder)))
        return loaded
