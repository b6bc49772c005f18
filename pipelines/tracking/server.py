"""Plain requests to an MLflow server: MLflow's own client is slow to load and slow to fail."""

from __future__ import annotations

import base64
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit, urlunsplit


def get(uri: str, path: str, query: Mapping[str, str], *, timeout_s: float) -> bytes:
    """The body of the server's answer.

    Credentials come from the address or from MLflow's own variables, as for its client.

    Raises:
        urllib.error.HTTPError: for an answer that is no success.
        OSError: if there is no answer.
        ValueError: if the address is none.
    """
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    full_path = f"{parts.path.rstrip('/')}/{path}"
    url = urlunsplit((parts.scheme, host, full_path, urlencode(query), ""))
    request = urllib.request.Request(url, headers=_authorization(parts.username, parts.password))
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        body: bytes = response.read()
    return body


def _authorization(user: str | None, password: str | None) -> dict[str, str]:
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if token and not user:
        return {"Authorization": f"Bearer {token}"}
    user = user or os.environ.get("MLFLOW_TRACKING_USERNAME")
    password = password or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    if not user:
        return {}
    encoded = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {encoded}"}
