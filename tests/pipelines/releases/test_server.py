"""The same against a real MLflow server."""

import pytest

from pipelines.paths import Paths
from pipelines.registry.release import register
from pipelines.tracking.address import StoreUnavailableError, store_address
from pipelines.tracking.glance import Wanted, missing_from_store
from pipelines.tracking.moves import Aliases, read_aliases
from pipelines.tracking.store import open_tracking
from tests.pipelines.releases.server_processes import mlflow_server

GOOD, OFF_LEFT = (0.0, 0.0), (12.0, 0.0)


@pytest.fixture
def server(paths: Paths, monkeypatch: pytest.MonkeyPatch):
    """A server on loopback with its own database, and the variable that names it."""
    folder = paths.root / "server"
    folder.mkdir()
    with mlflow_server(folder, str(folder / "artifacts")) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


@pytest.mark.slow
def test_a_server_gets_runs_versions_and_aliases_and_tells_what_it_lacks(
    server, paths, make_workspace
):
    address = store_address(paths)
    wanted = Wanted("rtmo", "0" * 64, "0" * 64, "champion")
    assert missing_from_store(address, wanted) == ("run", "version", "alias champion")
    tracking = open_tracking(paths)
    first = register(tracking, make_workspace(paths, OFF_LEFT))
    second = register(tracking, make_workspace(paths, GOOD))
    assert second.verdict == "better", second.words
    assert read_aliases(tracking, "rtmo") == Aliases(champion=2, previous=1)
    for receipt in (first, second):
        wanted = Wanted("rtmo", receipt.stage_hash, receipt.content_hash, "champion")
        assert missing_from_store(address, wanted) == ()
    wanted = Wanted("rtmo", "0" * 64, "0" * 64, "challenger")
    assert missing_from_store(address, wanted) == ("version", "alias challenger")


@pytest.mark.slow
def test_something_else_than_mlflow_at_the_address_is_named(server, paths, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{server}/nothing-here")
    with pytest.raises(StoreUnavailableError, match="answers 404 to /health"):
        open_tracking(paths)
