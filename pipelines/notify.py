"""Tell people what came of a run: always in the log, and to a webhook if one is set.

RTMO_WEBHOOK holds the address to POST `{"text": ...}` to, as chat services take it. It is a secret:
whoever knows it can write there. So it is never logged, and neither is the answer.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import httpx

WEBHOOK = "RTMO_WEBHOOK"
TIMEOUT_S = 10.0


def notify(text: str, log: Callable[[str], None]) -> None:
    """Log `text` and send it to the webhook; a webhook that fails is logged and harms nothing."""
    log(text)
    address = os.environ.get(WEBHOOK)
    if not address:
        return
    try:
        status = httpx.post(address, json={"text": text}, timeout=TIMEOUT_S).status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:  # their words may repeat the address
        log(f"nobody was told: the address in {WEBHOOK} cannot be used ({type(error).__name__})")
        return
    if status >= httpx.codes.BAD_REQUEST:
        log(f"nobody was told: the address in {WEBHOOK} answers {status}")
