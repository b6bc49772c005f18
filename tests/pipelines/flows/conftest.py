"""One real Prefect server for all flow tests."""

from collections.abc import Iterator

import pytest
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """A Prefect server with a database of its own, for the whole session."""
    with prefect_test_harness(server_startup_timeout=180):  # its 30 s are short on a busy machine
        yield
