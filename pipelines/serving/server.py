"""`rtmo-pipeline serve`: from an address of a model to a server that runs until it is stopped."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any

import uvicorn
from uvicorn.config import LOGGING_CONFIG

from pipelines.params import ServeConfig
from pipelines.paths import Paths
from pipelines.serving.app import build_app
from pipelines.serving.limits import host_name
from pipelines.serving.models import Alias, LiveModel, open_file, parse_address

LOOPBACK = "127.0.0.1"
LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "[::1]"})


class UnnamedHostError(ValueError):
    """A server that others can reach must know its names."""


def serve(
    paths: Paths,
    model: str,
    config: ServeConfig,
    *,
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
) -> None:
    """Answer requests until TERM or INT; then those that were begun are answered first.

    Args:
        paths: decide which registry is asked.
        model: models:/NAME@ALIAS, a model file, or a folder that holds rtmo.onnx.
        config: limits and batching.
        host: address to bind to.
        port: 0 takes a free one.
        allowed_hosts: names of the server besides those of loopback.

    Raises:
        UnnamedHostError: if it binds beyond loopback and no name is given.
        ModelAddressError: if there is no such model; others see `models.Alias.open`.
    """
    names = hosts_of(host, allowed_hosts)
    address = parse_address(model, paths)
    alias = address if isinstance(address, Alias) else None
    first = address.open() if isinstance(address, Alias) else open_file(address)
    app = build_app(LiveModel(first), alias, config, names)
    uvicorn.Server(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=_log_config(),
            server_header=False,
            timeout_graceful_shutdown=config.stop_timeout_s,
        )
    ).run()


def hosts_of(host: str, allowed_hosts: Sequence[str]) -> frozenset[str]:
    """Names under which the server may be asked.

    Raises:
        UnnamedHostError: if there is none but loopback's, and it is bound elsewhere.
    """
    named = frozenset(host_name(name) for name in allowed_hosts)
    if not named and not _is_loopback(host):
        raise UnnamedHostError(
            f"--host {host} lets other machines ask, and anybody who can reach it may; say under "
            "which names with --allowed-host (the service has no login: put a proxy before it)"
        )
    return LOOPBACK_HOSTS | named


def _log_config() -> dict[str, Any]:
    """uvicorn's, with what this package says besides."""
    loggers = {"pipelines.serving": {"handlers": ["default"], "level": "INFO"}}
    return {**LOGGING_CONFIG, "loggers": {**LOGGING_CONFIG["loggers"], **loggers}}


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
