"""A local HTTP server of files with ranges, which misbehaves on request."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Page:
    """A web page in place of a file."""

    html: str
    status: int = 200


@dataclass(frozen=True)
class Cut:
    """The connection ends after so many bytes of the body."""

    bytes: int


@dataclass(frozen=True)
class Shift:
    """Parts begin so many bytes after the first one asked for, and say so."""

    bytes: int


STALL = "stall"
"""Silence in the middle of the body."""
UNMEASURED = "unmeasured"
"""Without a Content-Length: the end of the connection is the end of the file."""


class FileServer(ThreadingHTTPServer):
    """Serves `files`, or `content` at every other path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.files: dict[str, bytes] = {}
        self.content: bytes | None = None
        self.etag: str | None = '"v1"'
        self.content_type = "application/zip"
        self.has_ranges = True
        self.heeds_if_range = True
        self.behave: Callable[[int, str], object] = lambda *_: None
        """Given the number of the request and its path: None, a status, or one of the above."""
        self.requests: list[tuple[str, str | None]] = []
        """Path and Range header of each."""
        self.lock = threading.Lock()
        self.released = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client may leave early."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FileServer

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        with server.lock:
            server.requests.append((self.path, asked))
            number = len(server.requests)
        if not server.has_ranges:
            asked = None
        if server.heeds_if_range and self.headers.get("If-Range", server.etag) != server.etag:
            asked = None
        self.answer(server.behave(number, self.path), asked)

    def answer(self, behaviour: object, asked: str | None) -> None:
        server = self.server
        content = server.files.get(self.path, server.content)
        if content is None:
            behaviour = 404
        if isinstance(behaviour, int):
            return self.send(behaviour, b"")
        if isinstance(behaviour, Page):
            body = behaviour.html.encode()
            return self.send(behaviour.status, body, {"Content-Type": "text/html; charset=utf-8"})
        assert content is not None
        headers = {"Content-Type": server.content_type}
        if server.etag:
            headers["ETag"] = server.etag
        if asked is None:
            return self.send(200, content, headers, behaviour)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) + (behaviour.bytes if isinstance(behaviour, Shift) else 0)
        if start >= len(content):
            return self.send(416, b"", {"Content-Range": f"bytes */{len(content)}"})
        end = min(int(last) + 1 if last else len(content), len(content))
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        return self.send(206, content[start:end], headers, behaviour)

    def send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        behaviour: object = None,
    ) -> None:
        self.send_response(status)
        if behaviour == UNMEASURED:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if behaviour == STALL:
            self.wfile.write(body[: len(body) // 2])
            self.server.released.wait(5)
            body = b""
        if isinstance(behaviour, Cut):
            body = body[: behaviour.bytes]
        self.wfile.write(body)
        self.close_connection = behaviour is not None

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def serving() -> Iterator[FileServer]:
    """A server that runs while the block does."""
    server = FileServer()
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()
