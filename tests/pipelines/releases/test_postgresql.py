"""The registry on a real PostgreSQL server."""

import psycopg
import pytest

from pipelines.registry.deferred import carry_out
from pipelines.registry.release import register
from pipelines.tracking.address import StoreUnavailableError
from pipelines.tracking.moves import Aliases, read_aliases
from pipelines.tracking.store import open_tracking
from tests.pipelines.postgresql_server import PASSWORD, Postgresql

pytestmark = pytest.mark.slow


def test_a_model_is_registered_and_promoted_there(
    postgresql: Postgresql, paths, make_workspace, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    address = postgresql.address("mlflow", "psycopg")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    tracking = open_tracking(paths)
    receipt = register(tracking, make_workspace(paths, (0.0, 0.0), experiment="retrain/1"))
    carry_out(paths, receipt, {"release.branch": "retrain/1"})
    again = register(open_tracking(paths), make_workspace(paths, (0.0, 0.0)))
    assert (receipt.verdict, again.verdict) == ("first", "same")
    assert read_aliases(tracking, "rtmo") == Aliases(champion=1)
    assert PASSWORD not in caplog.text + receipt.model_dump_json()
    # Its tables are upgraded by whoever can save them first.
    with psycopg.connect(address.replace("+psycopg", "")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'bda7b8c39065'")
    with pytest.raises(StoreUnavailableError, match=r"older MLflow.*pg_dump") as caught:
        open_tracking(paths)
    assert PASSWORD not in str(caught.value)
