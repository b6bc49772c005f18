"""Pictures per second of `rtmo-pipeline serve` with and without batches, in turns.

    python -m benchmarks.serve_batching --model models/export/rtmo.onnx --pictures PHOTOS

All servers run in one process on loopback; a client sends its next picture when it has the answer.
Writes a raw log.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import uvicorn

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from pipelines.params import load_params
from pipelines.serving.app import build_app
from pipelines.serving.models import LiveModel, open_file
from pipelines.serving.server import LOOPBACK_HOSTS
from rtmo.deployment.pictures import find_pictures

CLIENTS = (1, 4, 16)
SIZES = (1, 4, 8)
"""Largest batch; 1 is no batching."""


@contextlib.contextmanager
def serving(model: Path, max_batch: int) -> Iterator[str]:
    """A server with the settings of params.yaml but for the batch."""
    config = load_params(Path.cwd()).serve.model_copy(update={"max_batch": max_batch})
    app = build_app(LiveModel(open_file(model)), None, config, LOOPBACK_HOSTS)
    with socket.create_server(("127.0.0.1", 0)) as bound:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{bound.getsockname()[1]}/predict"
        finally:
            server.should_exit = True
            thread.join()


def measure(address: str, contents: list[bytes], clients: int, count: int) -> tuple[float, float]:
    """Pictures per second, and the median time of a request in ms."""
    turns = itertools.cycle(contents)
    sent = [next(turns) for _ in range(count)]
    with httpx.Client(timeout=120) as http, ThreadPoolExecutor(clients) as pool:

        def ask(content: bytes) -> float:
            begin = time.perf_counter()
            http.post(address, files={"pictures": ("a.jpg", content)}).raise_for_status()
            return time.perf_counter() - begin

        begin = time.perf_counter()
        times = list(pool.map(ask, sent))
        return count / (time.perf_counter() - begin), 1000 * statistics.median(times)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pictures", type=Path, required=True)
    parser.add_argument("--count", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    measurement = raw_log.begin("serve_batching")
    contents = [path.read_bytes() for path in find_pictures(options.pictures)[:32]]
    found: dict[str, list[tuple[float, float]]] = {}
    with contextlib.ExitStack() as stack:
        addresses = {size: stack.enter_context(serving(options.model, size)) for size in SIZES}
        for _ in range(options.rounds):
            for clients, size in itertools.product(CLIENTS, SIZES):
                result = measure(addresses[size], contents, clients, options.count)
                found.setdefault(f"{clients} x {size}", []).append(result)
    settings = {"model": options.model.name, "pictures": len(contents), "requests": options.count}
    print(table_of(measurement.end(found, settings)))


def table_of(log: RawLog) -> str:
    """Pictures per second of each round, and the median of the rounds' median request."""
    rows = []
    for name, results in log.samples.items():
        rates = ", ".join(f"{rate:.1f}" for rate, _ in results)
        median = statistics.median(milliseconds for _, milliseconds in results)
        rows.append((*name.split(" x "), rates, f"{median:.0f}"))
    head = ["clients", "largest batch", "pictures/s (each round)", "request p50 ms"]
    return (
        f"`{log.settings['model']}`, {log.settings['pictures']} pictures, "
        f"{log.settings['requests']} requests a cell.\n\n{table(head, rows)}"
    )


if __name__ == "__main__":
    main()
