"""What holds before a request is read: who is asked, how much is sent, how many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RETRY_AFTER_S = 1
"""When a client may come back after a 503; a full queue is worked off within about that time."""


class RefusedError(Exception):
    """A request that gets no answer; the sentence says what was sent and what is expected."""

    def __init__(self, status: HTTPStatus, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def response(self) -> JSONResponse:
        """The answer. The connection ends with it: the rest of the body is not read."""
        headers = {"Connection": "close"}
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_S)
        return JSONResponse({"error": str(self)}, self.status, headers)


class Places:
    """A number of places; who finds none free is sent away at once instead of waiting."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._taken = 0

    @property
    def taken(self) -> int:
        """How many are taken now."""
        return self._taken

    @contextmanager
    def hold(self, count: int) -> Iterator[None]:
        """Take places, and give them back at the end.

        Raises:
            RefusedError: 503 if there are not as many.
        """
        if self._taken + count > self._limit:
            raise RefusedError(
                HTTPStatus.SERVICE_UNAVAILABLE,
                f"the server is full: {self._taken} {self._what} are being worked on, at most "
                f"{self._limit} may be; come back in {RETRY_AFTER_S} s",
            )
        self._taken += count
        try:
            yield
        finally:
            self._taken -= count


class Guard:
    """ASGI middleware: refuses unknown hosts and bodies that are too large or too slow.

    A page of another site can make a browser send requests to loopback under a name of its own;
    they carry that name as their host.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        allowed_hosts: frozenset[str],
        max_body_bytes: int,
        body_timeout_s: float,
    ) -> None:
        """Guard an application.

        Args:
            app: what answers.
            allowed_hosts: names of this server, lower case, without port.
            max_body_bytes: longest body.
            body_timeout_s: how long a body may take to arrive.
        """
        self._app = app
        self._allowed_hosts = allowed_hosts
        self._max_body_bytes = max_body_bytes
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or refuse."""
        if scope["type"] == "http":
            try:
                self._check(Headers(scope=scope))
            except RefusedError as refused:
                await refused.response()(scope, receive, send)
                return
            receive = self._limited(receive)
        await self._app(scope, receive, send)

    def _check(self, headers: Headers) -> None:
        host = host_name(headers.get("host", ""))
        if host not in self._allowed_hosts:
            raise RefusedError(
                HTTPStatus.MISDIRECTED_REQUEST,
                f"this server is not called {host!r}; start it with --allowed-host if that is one "
                "of its names",
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._max_body_bytes:
            raise self._too_long(f"{int(length)} bytes")

    def _too_long(self, sent: str) -> RefusedError:
        return RefusedError(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            f"the body has {sent}, at most {self._max_body_bytes} are taken; send fewer or smaller "
            "pictures",
        )

    def _limited(self, receive: Receive) -> Receive:
        """The same messages, counted and in time."""
        received = 0
        is_complete = False
        deadline = asyncio.get_running_loop().time() + self._body_timeout_s

        async def limited() -> Message:
            nonlocal received, is_complete
            if is_complete:  # what comes now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RefusedError(
                    HTTPStatus.REQUEST_TIMEOUT,
                    f"the body did not arrive within {self._body_timeout_s:g} s; "
                    f"{received} bytes did",
                ) from None
            received += len(message.get("body", b""))
            if received > self._max_body_bytes:
                raise self._too_long(f"more than {self._max_body_bytes} bytes")
            is_complete = not message.get("more_body", False)
            return message

        return limited


def host_name(host: str) -> str:
    """Name or address of a Host header, without port.

    Example:
        >>> host_name("LocalHost:5002"), host_name("[::1]:5002"), host_name("127.0.0.1")
        ('localhost', '[::1]', '127.0.0.1')
    """
    name, bracket, _port = host.lower().rpartition("]")
    return name + bracket if bracket else host.lower().partition(":")[0]
