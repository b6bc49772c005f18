"""The real pipeline on a tiny embedded dataset, killed on the way, in a checkout of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.tour.copies import copy_sources, make_tiny, set_params, shrink

pytestmark = pytest.mark.slow


def make_checkout(repository: Path, folder: Path) -> Path:
    """The tracked and new files of this checkout, with a tiny dataset and short stages."""
    copy_sources(repository, folder)
    make_tiny(folder)
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "Tiny")):
        identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
        subprocess.run(["git", *identity, *command], cwd=folder, check=True)
    return folder


def set_param(folder: Path, name: str, value: object) -> None:
    section, key = name.split(".")
    set_params(folder, {section: {key: value}})


def environment() -> dict[str, str]:
    """Commands find this environment's Python and no server of the person who runs the tests."""
    inherited = {name: value for name, value in os.environ.items() if "MLFLOW" not in name}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return inherited | {"PATH": path, "DVC_NO_ANALYTICS": "1"}


def run(folder: Path, *command: str) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def children_of(process: int) -> Iterator[int]:
    """Process ids of all descendants (Linux)."""
    for task in Path(f"/proc/{process}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            yield child
            yield from children_of(child)


def is_training(process: int) -> bool:
    command = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
    return command[1:3] == [b"-m", b"pipelines.stages.train"]


def kill_training(folder: Path) -> None:
    """`dvc repro train`, whose training gets KILL as soon as it has a checkpoint on disk."""
    command = ["dvc", "repro", "train"]
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as dvc:
        patience = time.monotonic() + 300
        while last_step(folder) == 0:
            assert dvc.poll() is None, dvc.stdout.read().decode()
            assert time.monotonic() < patience
            time.sleep(0.05)
        (victim,) = filter(is_training, children_of(dvc.pid))
        os.kill(victim, signal.SIGKILL)
        assert dvc.wait(60) != 0


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/checkpoints/*/step-*.pt"))


def last_step(folder: Path) -> int:
    """Of the newest checkpoint; there is one of step 0, after the first validation."""
    return max((int(path.stem.split("-")[1]) for path in checkpoints(folder)), default=0)


@pytest.fixture(scope="module")
def untouched(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which nothing ran yet."""
    return make_checkout(repository, tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def undisturbed(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which training ran in one go."""
    folder = tmp_path_factory.mktemp("undisturbed") / "checkout"
    shutil.copytree(untouched, folder)
    run(folder, "dvc", "repro", "train")
    return folder


def test_two_processes_train_under_dvc(untouched: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(untouched, folder)
    set_param(folder, "train.processes", 2)
    set_param(folder, "train.global_batch", 16)
    run(folder, "dvc", "repro", "train")
    metrics = json.loads((folder / "models/train/metrics.json").read_text())
    assert metrics["steps"] == 2 * (54 // 16)  # a tenth of 64 pictures or so is the gate's
    assert (folder / "models/train/weights.safetensors").exists()


@pytest.fixture(scope="module")
def finished(untouched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout whose training was killed once, and which then went on to the end."""
    folder = tmp_path_factory.mktemp("killed") / "checkout"
    shutil.copytree(untouched, folder)
    kill_training(folder)
    last = last_step(folder)
    assert not (folder / "models" / "train").exists()
    log = run(folder, "sh", "-c", "dvc repro --no-run-cache 2>&1")
    assert f"continuing from step {last}" in log
    steps = json.loads((folder / "models/train/metrics.json").read_text())["steps"]
    assert 0 < last < steps, "the kill came too late to show anything"
    return folder


@pytest.mark.timeout(1200)
def test_a_killed_training_ends_with_the_bits_of_an_undisturbed_one(
    undisturbed: Path, finished: Path
) -> None:
    weights = Path("models/train/weights.safetensors")
    assert (undisturbed / weights).read_bytes() == (finished / weights).read_bytes()


def test_nothing_half_written_is_left(finished: Path) -> None:
    assert [path for path in finished.rglob("*") if "unfinished" in path.name] == []
    assert list((finished / "runs").rglob("*.partial")) == []
    assert checkpoints(finished) == []


def test_a_second_repro_has_nothing_to_do(finished: Path) -> None:
    lock = (finished / "dvc.lock").read_text()
    assert "Data and pipelines are up to date" in run(finished, "dvc", "repro")
    assert (finished / "dvc.lock").read_text() == lock


@pytest.mark.parametrize(
    ("name", "value", "stages"),
    [
        ("register.min_effect", 0.01, ["register"]),
        ("inspect.worst_people", 3, ["inspect"]),
        ("export.parity_images", 5, ["export", "register"]),  # the gate packs and checks files
        ("train.seed", 1, ["train"]),
    ],
)
def test_a_parameter_concerns_its_stages_only(
    finished: Path, name: str, value: object, stages: list[str]
) -> None:
    former = (finished / "params.yaml").read_text()
    try:
        set_param(finished, name, value)
        status = json.loads(run(finished, "dvc", "status", "--json"))
    finally:
        (finished / "params.yaml").write_text(former)
    assert list(status) == stages


def test_dvc_shows_graph_metrics_and_plots(finished: Path) -> None:
    assert "register" in run(finished, "dvc", "dag")
    metrics = json.loads(run(finished, "dvc", "metrics", "show", "--json"))
    (files,) = (revision["data"] for revision in metrics.values())
    assert "AP" in files["reports/evaluate/metrics.json"]["data"]
    page = run(finished, "dvc", "plots", "show").strip()
    assert page.endswith("index.html")


def test_another_process_loads_the_champion(finished: Path) -> None:
    code = """
import mlflow
model = mlflow.pyfunc.load_model("models:/rtmo@champion")
print(model.metadata.signature)
"""
    assert "image" in run(finished, sys.executable, "-c", code)


def test_a_lost_store_gets_the_same_champion_back(finished: Path) -> None:
    former = champion(finished)
    for name in ("mlflow.db", "mlartifacts"):
        path = finished / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    run(finished, "rtmo-pipeline", "sync")
    assert champion(finished) == former


@pytest.mark.timeout(1200)
def test_a_registered_version_is_reproduced_bit_for_bit(finished: Path) -> None:
    identity = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
    for command in (("add", "dvc.lock"), ("commit", "-qm", "Trained")):
        run(finished, "git", *identity, *command)
    count = "import mlflow; print(len(mlflow.search_runs(search_all_experiments=True)))"
    before = run(finished, sys.executable, "-c", count)
    said = run(
        finished, sys.executable, "-m", "pipelines.cli", "reproduce", "models:/rtmo@champion"
    )
    assert "identical: the weights and" in said
    assert run(finished, sys.executable, "-c", count) == before  # the registry was left alone
    assert run(finished, "git", "worktree", "list").count("\n") == 1
    assert "Data and pipelines are up to date" in run(finished, "dvc", "status")


def champion(folder: Path) -> str:
    """Its content hash, as another process reads it (MLflow keeps connections to a store open)."""
    code = """
from mlflow import MlflowClient
version = MlflowClient().get_model_version_by_alias("rtmo", "champion")
print(version.tags["content_hash"])
"""
    return run(folder, sys.executable, "-c", code)


def test_merged_sets_go_through_the_stages_and_leave_nothing_behind(
    untouched: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    shutil.copytree(untouched, folder)
    source = folder / "sources" / "embedded-crowdpose.json"
    shrink(source)
    alone = (folder / "params.yaml").read_text()
    other = {"dataset": "embedded-crowdpose", "sampling_factor": 0.5, "until_epoch": 1}
    set_param(folder, "data.merge", [other])
    run(folder, "dvc", "repro", "train")
    card = json.loads((folder / "models/train/model_card.json").read_text())
    assert [merged["dataset"] for merged in card["merged"]] == ["embedded-crowdpose"]
    assert card["validation"]["images_seen"] == (54 + 32) // 8 * 8 + 54 // 8 * 8
    stores = folder / "data/processed/embedded"
    before = (stores / "train/image_ids.npy").read_bytes()

    (folder / "params.yaml").write_text(alone)
    run(folder, "dvc", "repro", "convert")
    assert (stores / "train/image_ids.npy").read_bytes() == before
    assert not list((stores / "merged").iterdir())
    assert not (folder / "data/raw/embedded/merged").exists()
