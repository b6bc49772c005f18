"""FiftyOne with a database that answers."""

from __future__ import annotations

import os
from typing import Any


class FiftyOneUnavailableError(RuntimeError):
    """FiftyOne cannot be used on this host; the message says why."""


def connected_fiftyone() -> Any:  # noqa: ANN401 - the module
    """The module `fiftyone`, with a database that answers.

    Raises:
        FiftyOneUnavailableError: not installed, or no database.
    """
    # Read by FiftyOne when it is imported.
    os.environ.setdefault("FIFTYONE_DATABASE_VALIDATION", "false")
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "true")
    try:
        import fiftyone
        from fiftyone.core.config import FiftyOneConfigError
        from fiftyone.core.service import ServiceException
        from pymongo.errors import PyMongoError
    except ImportError as error:
        raise FiftyOneUnavailableError(f"not installed ({error})") from error
    try:
        fiftyone.list_datasets()
    except (FiftyOneConfigError, ServiceException, PyMongoError, OSError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise FiftyOneUnavailableError(
            f"its database does not start or answer ({type(error).__name__}: {reason})"
        ) from error
    return fiftyone
