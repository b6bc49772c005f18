"""DVC's remote and MLflow's artifacts on S3, against a server that speaks its protocol."""

import shutil
import subprocess
import sys

import boto3
import pytest

from pipelines import dvc_data
from pipelines.paths import Paths
from pipelines.sync import sync
from pipelines.tracking.moves import read_aliases
from pipelines.tracking.storage import remove_files, size_of_files
from pipelines.tracking.store import open_tracking
from pipelines.tracking.versions import get_version, has_files
from tests.pipelines.releases.server_processes import mlflow_server, running

pytestmark = pytest.mark.slow
BUCKET = "rtmo"


@pytest.fixture
def s3(tmp_path, monkeypatch):
    """A bucket, its client, and the variables that DVC and MLflow find it by."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with running(("moto.server", "--host", "127.0.0.1"), tmp_path, {}, "/moto-api/") as uri:
        monkeypatch.setenv("MLFLOW_S3_ENDPOINT_URL", uri)
        monkeypatch.setenv("AWS_ENDPOINT_URL", uri)
        client = boto3.client("s3", endpoint_url=uri)
        client.create_bucket(Bucket=BUCKET)
        yield client


def keys(client, prefix):
    found = client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    return {item["Key"] for item in found}


def dvc(folder, *arguments):
    command = [sys.executable, "-m", "dvc", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_colleague_gets_the_same_champion_from_an_s3_remote(s3, release, paths, lose_store):
    dvc(paths.root, "remote", "add", "-d", "store", f"s3://{BUCKET}/dvc")
    champion = release((0.0, 0.0))
    dvc_data.send_data(paths.root, print)
    assert keys(s3, "dvc/files/md5/")

    paths = lose_store(paths)
    shutil.rmtree(paths.root / ".dvc" / "cache")
    for folder in ("models", "data", "reports/evaluate"):
        shutil.rmtree(paths.root / folder)
    dvc_data.restore_data(paths.root, print)
    assert sync(paths).remarks == ()
    tracking = open_tracking(paths)
    version = get_version(tracking, "rtmo", read_aliases(tracking, "rtmo").champion)
    assert version.content_hash == champion.content_hash


def test_models_are_kept_on_s3_and_their_files_can_be_given_up(
    s3, paths, make_workspace, monkeypatch, tmp_path
):
    from pipelines.registry.release import register

    folder = tmp_path / "server"
    folder.mkdir()
    with mlflow_server(folder, f"s3://{BUCKET}/mlflow") as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        tracking = open_tracking(paths)
        receipt = register(tracking, make_workspace(Paths(paths.root, paths.root), (12.0, 0.0)))
        second = register(tracking, make_workspace(paths, (0.0, 0.0)))
        assert (receipt.verdict, second.verdict) == ("first", "better")  # asked through S3
        assert any(key.endswith("rtmo.onnx") for key in keys(s3, "mlflow/"))
        assert not list(folder.rglob("*.onnx"))
        version = get_version(tracking, "rtmo", 1)
        before = keys(s3, "mlflow/")
        assert size_of_files(tracking, version) > 0
        remove_files(tracking, version)
        assert not has_files(tracking, version)
        assert has_files(tracking, get_version(tracking, "rtmo", 2))
        assert len(keys(s3, "mlflow/")) < len(before)
