import socket
import time
from pathlib import Path

import pytest

from pipelines.paths import Paths
from pipelines.tracking.address import StoreUnavailableError, check_reachable, store_address
from pipelines.tracking.store import open_tracking


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:{port}", "postgresql+psycopg://me:secret@127.0.0.1:{port}/mlflow"]
)
def test_a_server_that_does_not_answer_is_a_clear_error_within_five_seconds(
    uri: str, paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri.format(port=closed_port()))
    began = time.monotonic()
    with pytest.raises(StoreUnavailableError) as caught:
        open_tracking(paths)
    assert time.monotonic() - began < 5
    message = str(caught.value)
    assert "127.0.0.1" in message
    assert "MLFLOW_TRACKING_URI" in message
    assert "secret" not in message


def test_a_server_that_accepts_and_stays_silent_is_an_error_too(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(StoreUnavailableError, match="does not answer"):
            check_reachable(store_address(paths), timeout_s=0.2)


def test_a_file_that_is_no_database_is_refused(paths: Paths) -> None:
    paths.mlflow_database.write_text("not a database, but long enough")
    with pytest.raises(StoreUnavailableError, match="not an SQLite database"):
        open_tracking(paths)


def test_a_database_in_a_missing_folder_is_refused(
    paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{paths.root / 'absent' / 'mlflow.db'}")
    with pytest.raises(StoreUnavailableError, match="does not exist"):
        open_tracking(paths)


def test_the_default_store_is_at_the_root_also_for_a_queued_experiment(
    paths: Paths,
) -> None:
    inside = Paths(paths.root / ".dvc" / "tmp" / "exps" / "abc", paths.root)
    assert store_address(inside) == store_address(paths)
    assert store_address(paths).sqlite_file == paths.root / "mlflow.db"
    assert store_address(paths).artifact_root == paths.root / "mlartifacts"


def test_opening_a_store_does_not_change_where_mlflow_looks_by_itself(
    paths: Paths, tmp_path: Path
) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    open_tracking(paths)
    assert mlflow.get_tracking_uri() == before
