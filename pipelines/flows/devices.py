"""GPU slots: a slot is a lease on one device of this host, and makes it the only one to be seen.

Every device is a Prefect concurrency limit `device-<host>-<id>` with one slot. To let runs share a
device, raise its limit (`prefect gcl update device-... --limit 2`); it is never set back here.
The lease is renewed while the stage runs, so a slot whose holder crashed is free after LEASE_S; a
holder that cannot renew it is ended, for the device may be another's by then.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_URL

from pipelines.services.temporary import TEMPORARY

VISIBLE = "CUDA_VISIBLE_DEVICES"
LEASE_S = 300.0
WAIT_S = 15.0
"""Between two looks for a free device."""


def devices() -> tuple[str, ...]:
    """Ids of the devices that this process may give away: CUDA_VISIBLE_DEVICES, or all there are.

    Started with CUDA_VISIBLE_DEVICES=0,1, a worker keeps to these two.
    """
    named = os.environ.get(VISIBLE)
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip())
    if shutil.which("nvidia-smi") is None:
        return ()
    query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
    listed = subprocess.run(query, capture_output=True, text=True, check=False)
    return tuple(listed.stdout.split()) if listed.returncode == 0 else ()


@contextmanager
def device_slot(
    log: Callable[[str], None], *, lease_s: float = LEASE_S, wait_s: float = WAIT_S
) -> Iterator[Mapping[str, str]]:
    """Wait for a device that nobody holds; yield the variables that make it the only one seen.

    Without devices there is nothing to wait for. A temporary server knows of no other run, so with
    one there are no slots either, which is logged.
    """
    known = devices()
    if not known:
        yield {}
        return
    if PREFECT_API_URL.value() in (None, os.environ.get(TEMPORARY)):
        log("no GPU slot: with a temporary Prefect server runs do not know of each other")
        yield {}
        return
    for device in known:
        _make_limit(limit_name(device))
    with ExitStack() as held:
        device = _take_one(held, known, log, lease_s=lease_s, wait_s=wait_s)
        log(f"holding device {device}")
        yield {VISIBLE: device}


def limit_name(device: str) -> str:
    """The concurrency limit that stands for a device of this host."""
    return f"device-{socket.gethostname()}-{device}"


def _take_one(
    held: ExitStack,
    known: tuple[str, ...],
    log: Callable[[str], None],
    *,
    lease_s: float,
    wait_s: float,
) -> str:
    """Enter the lease of the first free device into `held`."""
    while True:
        for device in known:
            lease = concurrency(
                limit_name(device),
                max_retries=0,
                lease_duration=lease_s,
                strict=True,
                raise_on_lease_renewal_failure=True,
            )
            try:
                held.enter_context(lease)
            except ConcurrencySlotAcquisitionError as error:
                if not _is_taken(error):
                    raise
            else:
                return device
        log(f"waiting for a device: {', '.join(known)} are taken")
        time.sleep(wait_s)


def _is_taken(error: ConcurrencySlotAcquisitionError) -> bool:
    cause = error.__cause__
    return (
        isinstance(cause, httpx.HTTPStatusError)
        and cause.response.status_code == httpx.codes.LOCKED
    )


def _make_limit(name: str) -> None:
    """Make the limit of one device unless it is there; a person may have raised it."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            try:
                client.create_global_concurrency_limit(
                    GlobalConcurrencyLimitCreate(name=name, limit=1)
                )
            except ObjectAlreadyExists:
                return
