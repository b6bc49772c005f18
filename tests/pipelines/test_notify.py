"""People are told through a real local server; its address never reaches the log."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipelines.notify import WEBHOOK, notify


class Chat(ThreadingHTTPServer):
    """A chat service that keeps what it is told."""

    status = 200

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Post)
        self.told: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hooks/t0ken"


class Post(BaseHTTPRequestHandler):
    server: Chat

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.told.append(json.loads(body)["text"])
        self.send_response(self.server.status)
        self.end_headers()

    def log_message(self, *_arguments: object) -> None:
        """Keep the tests' output clean."""


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    server = Chat()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv(WEBHOOK, server.address)
    yield server
    server.shutdown()
    server.server_close()


def test_without_a_webhook_the_log_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(WEBHOOK, raising=False)
    lines: list[str] = []
    notify("done", lines.append)
    assert lines == ["done"]


def test_a_webhook_is_told_besides(chat: Chat) -> None:
    lines: list[str] = []
    notify("done", lines.append)
    assert (lines, chat.told) == (["done"], ["done"])


def test_a_webhook_that_refuses_is_logged_without_its_address(chat: Chat) -> None:
    chat.status = 403
    lines: list[str] = []
    notify("done", lines.append)
    assert lines == ["done", "nobody was told: the address in RTMO_WEBHOOK answers 403"]


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/t0ken", "t0ken", "http://[t0ken"])
def test_a_webhook_that_does_not_answer_harms_nothing(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WEBHOOK, address)
    lines: list[str] = []
    notify("done", lines.append)
    assert "cannot be used" in lines[1]
    assert "t0ken" not in "".join(lines)
