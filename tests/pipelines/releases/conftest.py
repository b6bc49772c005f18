"""MLflow stores, and workspaces with a tiny real ONNX model to register in them."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from dvc.repo import Repo
from onnx import TensorProto, helper, numpy_helper

from pipelines import dvc_graph
from pipelines.params import load_params
from pipelines.paths import Paths
from pipelines.registry.candidate import read_candidate
from pipelines.registry.comparison import GateData
from pipelines.registry.receipt import Receipt, receipt_file
from pipelines.registry.release import Registration, register
from pipelines.stages.register import write_receipt
from rtmo.deployment.check import Check
from rtmo.deployment.engine_facts import RunStatus
from rtmo.deployment.latency import latency
from rtmo.deployment.manifest import ExportedFile, Manifest, TensorRtStatus, file_sha256
from rtmo.deployment.metadata import ModelMetadata
from rtmo.deployment.parity import parity
from rtmo.deployment.predictor import load_predictor
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.predict import predict_store
from rtmo.formats.records import ImageRecord, PersonRecord
from rtmo.skeleton import COCO17
from rtmo.store import Licence, Store, StoreMeta
from rtmo.store_writer import write_store


@pytest.fixture(scope="session")
def new_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as MLflow makes it, without experiments; making one takes more than a second."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_database: Path) -> Paths:
    """A repository root that holds nothing but a new default store."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    root = tmp_path / "repository"
    root.mkdir()
    shutil.copy(new_database, root / "mlflow.db")
    return Paths(root, root)


@pytest.fixture
def tracking(paths: Paths):
    """The store of `paths`, opened."""
    from pipelines.tracking.store import open_tracking

    return open_tracking(paths)


INPUT_SIZE = 128


Model = tuple[float, float]
"""An ONNX model that sees the same two people in every picture: by how many pixels it misses the
one on the left and the one on the right."""


@pytest.fixture
def make_workspace(repository: Path, tmp_path: Path) -> Callable[..., Registration]:
    """Write what the stages before `register` leave, really evaluated, and read it as it does.

    The gate split has one person per picture, on the left in half of the pictures and on the right
    in the others, so that two models can each be better on one half.
    """

    def make(
        paths: Paths,
        model: Model,
        *,
        num_images: int = 12,
        commercial_use: str = "yes",
        experiment: str | None = None,
        **register: object,
    ) -> Registration:
        text = (repository / "params.yaml").read_text()
        # How much seeds deviate was measured on trainings, which these models are not.
        paths.params.write_text(re.sub(r"seed_std: [\d.]+", "seed_std: null", text))
        params = load_params(paths.root)
        params = params.model_copy(
            update={
                "registration": params.registration.model_copy(
                    update={
                        "bootstrap_samples": 200,
                        "max_latency_ratio": 20.0,
                        "floor_ap": 0.1,
                        **register,
                    }
                ),
                "benchmark": params.benchmark.model_copy(update={"runs": 3, "warmup_runs": 1}),
            }
        )
        gate = paths.processed("embedded") / "gate"
        if not gate.exists():
            write_gate(gate, num_images)
        write_outputs(paths, model, Store.open(gate), commercial_use)
        return Registration(
            paths=paths,
            params=params,
            candidate=read_candidate(paths),
            gate=GateData(gate, f"md5-of-{num_images}-images.dir", params.evaluate),
            lineage={"git.commit": "c0ffee", "data_digest": "d" * 64},
            by="tester@here",
            experiment=experiment,
        )

    return make


def person(left: bool, off_px: float = 0.0) -> np.ndarray:
    """(17, 2) points on a grid in one half of the picture."""
    x, y = np.meshgrid(np.linspace(8, 52, 3), np.linspace(16, 112, 6))
    points = np.stack([x.ravel(), y.ravel()], axis=1)[:17]
    return points + np.array([off_px if left else off_px + 64, 0.0])


def write_gate(folder: Path, num_images: int) -> None:
    meta = StoreMeta(
        dataset="embedded",
        split="gate",
        protocol="coco",
        skeleton=COCO17,
        licence=Licence(name="CC0-1.0", url="https://example.org", commercial_use="yes"),
    )
    jpeg = cv2.imencode(".jpg", np.full((INPUT_SIZE, INPUT_SIZE, 3), 128, np.uint8))[1].tobytes()
    records = []
    for image_id in range(1, num_images + 1):
        points = person(left=image_id % 2 == 0)
        someone = PersonRecord(
            id=image_id,
            box_xywh=(points[0, 0], points[0, 1], 44.0, 96.0),
            keypoints=tuple(np.insert(points, 2, 2, axis=1).ravel().tolist()),
            num_keypoints=17,
            is_crowd=False,
            area=44.0 * 96.0,
            segmentation=None,
        )
        name = f"{image_id:012}.jpg"
        record = ImageRecord(
            id=image_id,
            file_name=name,
            height=INPUT_SIZE,
            width=INPUT_SIZE,
            crowd_index=None,
            is_turned=False,
            people=(someone,),
        )
        records.append((record, jpeg))
    write_store(folder, meta, records)


def write_onnx(path: Path, model: Model) -> None:
    """A graph of our complete form whose answer does not depend on the pixels."""
    people = np.stack([person(left=True, off_px=model[0]), person(left=False, off_px=model[1])])
    scored = np.insert(people, 2, 0.9, axis=2).astype(np.float32)[None]
    boxes = np.array([[[8, 16, 52, 112, 0.8], [72, 16, 116, 112, 0.8]]], np.float32)
    batch = [
        helper.make_node("Shape", ["input"], ["batch"], start=0, end=1),
        *(
            node
            for name, rank in (("dets", 2), ("keypoints", 3))
            for node in (
                helper.make_node("Concat", ["batch", f"{name}_ones"], [f"{name}_shape"], axis=0),
                helper.make_node("Expand", [f"{name}_one", f"{name}_shape"], [name]),
            )
        ),
    ]
    graph = helper.make_graph(
        batch,
        "two_people",
        [
            helper.make_tensor_value_info(
                "input", TensorProto.FLOAT, ["B", 3, INPUT_SIZE, INPUT_SIZE]
            )
        ],
        [
            helper.make_tensor_value_info("dets", TensorProto.FLOAT, ["B", 2, 5]),
            helper.make_tensor_value_info("keypoints", TensorProto.FLOAT, ["B", 2, 17, 3]),
        ],
        [
            numpy_helper.from_array(boxes, "dets_one"),
            numpy_helper.from_array(scored, "keypoints_one"),
            numpy_helper.from_array(np.ones(2, np.int64), "dets_ones"),
            numpy_helper.from_array(np.ones(3, np.int64), "keypoints_ones"),
        ],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=INPUT_SIZE, form="complete")
    for key, value in metadata.to_properties().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    onnx.save(proto, path)


def write_outputs(paths: Paths, model: Model, store: Store, commercial_use: str) -> None:
    """models/ and reports/ of one model; its stage hash follows from the model."""
    stage_hash = hashlib.sha256(repr(model).encode()).hexdigest()
    evaluated, benchmarked = paths.report("evaluate"), paths.report("benchmark")
    for folder in (paths.trained, paths.exported, evaluated, benchmarked):
        folder.mkdir(parents=True, exist_ok=True)
    (paths.trained / "weights.safetensors").write_text(repr(model))
    (paths.trained / "curves.csv").write_text("epoch,step,loss,AP\n0,10,2.5,\n1,20,1.5,0.25\n")
    write_json(
        paths.trained / "model_card.json",
        {
            "model": "rtmo-t",
            "input_size": INPUT_SIZE,
            "skeleton": "coco17",
            "dataset": "embedded",
            "licence": {"name": "Some terms", "url": "", "commercial_use": commercial_use},
            "training_images": 100,
            "merged": [],
            "stage_hash": stage_hash,
            "seed": 0,
            "weights": "moving average after epoch 1",
            "initial": None,
            "train": {"init_weights": None},
        },
    )
    write_onnx(paths.exported / "rtmo.onnx", model)
    shutil.copy(paths.exported / "rtmo.onnx", paths.exported / "rtmo-raw.onnx")
    predictor = load_predictor(paths.exported / "rtmo.onnx", "cpu")
    found = predict_store(predictor, store, 8, lambda _done, _all: None)
    report = evaluate_keypoints(store.to_coco(), found, skeleton=COCO17, protocol="coco")
    write_json(evaluated / "gate_detections.json", found)
    for name in ("metrics.json", "gate_metrics.json"):
        write_json(evaluated / name, report.metrics)
    ap = report.metrics["AP"]
    write_json(evaluated / "intervals.json", {"AP": {"value": ap, "low": ap, "high": ap}})
    inspected = paths.report("inspect")
    inspected.mkdir(parents=True, exist_ok=True)
    write_json(
        inspected / "metrics.json", {"AP": ap, "gain_alone": {"miss": 1 - ap, "jitter": 0.01}}
    )
    images = [store.read_image(0)]
    exported = ExportedFile(
        sha256=file_sha256(paths.exported / "rtmo.onnx"),
        size_bytes=1,
        form="complete",
        precision="fp32",
        opset=18,
        check=Check(
            parity=parity(predictor, predictor, images),
            ap_torch=report.metrics["AP"],
            ap_exported=report.metrics["AP"],
            ar_torch=report.metrics["AR"],
            ar_exported=report.metrics["AR"],
        ),
    )
    nothing = RunStatus(status="unavailable", reason="no TensorRT in this test")
    manifest = Manifest(
        training_hash=stage_hash,
        skeleton="coco17",
        size="t",
        input_size=INPUT_SIZE,
        score_threshold=0.1,
        nms_iou=0.65,
        files={"rtmo.onnx": exported},
        tensorrt={"fp32": TensorRtStatus(build=nothing, run=nothing)},
    )
    (paths.exported / "manifest.json").write_text(manifest.model_dump_json())
    timed = latency({"onnx": predictor}, images, warmup_runs=0, runs=2, threads=1)
    (benchmarked / "benchmark.json").write_text(timed.model_dump_json())


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content))


DVC_YAML = """
stages:
  convert: {cmd: 'false', outs: [data/processed/embedded/gate]}
  train: {cmd: python train.py, deps: [train.py, recipe.txt], outs: [models/train]}
  export: {cmd: export, deps: [models/train], outs: [models/export]}
  evaluate: {cmd: python evaluate.py, deps: [models/train], outs: [reports/evaluate]}
  inspect: {cmd: inspect, deps: [reports/evaluate], metrics: [reports/inspect/metrics.json]}
  register: {cmd: register, deps: [models/export, data/processed/embedded/gate]}
"""
TRAIN = """
import pathlib
out = pathlib.Path("models/train")
out.mkdir(parents=True)
(out / "weights.safetensors").write_text(pathlib.Path("recipe.txt").read_text())
"""
EVALUATE = """
import pathlib
out = pathlib.Path("reports/evaluate")
out.mkdir(parents=True)
for name in ("metrics.json", "gate_metrics.json"):
    (out / name).write_text(pathlib.Path("found.json").read_text())
"""
IDENTITY = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")


@pytest.fixture
def git() -> Callable[..., str]:
    """Run git in a folder: what it prints."""

    def run(folder: Path, *arguments: str) -> str:
        command = ["git", *IDENTITY, *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout

    return run


@pytest.fixture
def prepare(paths, make_workspace, monkeypatch, git) -> Callable[..., Registration]:
    """Make a model and commit what a person commits, in a real DVC repository; not registered.

    `train` and `evaluate` in its `dvc.yaml` can be run, and make the same weights and metrics.
    """
    monkeypatch.chdir(paths.root)
    (paths.root / "dvc.yaml").write_text(DVC_YAML)
    (paths.root / "train.py").write_text(TRAIN)
    (paths.root / "evaluate.py").write_text(EVALUATE)
    (paths.root / ".gitignore").write_text("/mlflow.db\n/mlartifacts\n/runs\n/reports\n")
    git(paths.root, "init", "-q", "-b", "main")
    Repo.init(str(paths.root)).close()

    def make(model: Model, **settings: object) -> Registration:
        (paths.root / "recipe.txt").write_text(repr(model))
        registration = make_workspace(paths, model, **settings)
        card_file = paths.trained / "model_card.json"
        card = json.loads(card_file.read_text())
        card["stage_hash"] = dvc_graph.stage_hash(paths.root, "train")
        card_file.write_text(json.dumps(card))
        shutil.copy(paths.report("evaluate") / "metrics.json", paths.root / "found.json")
        with Repo(str(paths.root)) as repo:
            repo.commit(force=True)
        git(paths.root, "add", "-A")
        git(paths.root, "commit", "--allow-empty", "-qm", f"Model {model}")
        return replace(registration, candidate=read_candidate(paths))

    return make


@pytest.fixture
def release(tracking, paths, prepare) -> Callable[..., Receipt]:
    """`prepare` a model and register it as the stage does, receipt included."""

    def make(model: Model, **settings: object) -> Receipt:
        receipt = register(tracking, prepare(model, **settings))
        folder = receipt_file(paths).parent
        folder.mkdir(parents=True, exist_ok=True)
        write_receipt(receipt, folder)
        return receipt

    return make


@pytest.fixture
def lose_store(new_database: Path) -> Callable[[Paths], Paths]:
    """Move a checkout away from its store: MLflow keeps connections to a deleted one open."""

    def lose(paths: Paths) -> Paths:
        shutil.rmtree(paths.root / "mlartifacts")
        root = paths.root.with_name("moved")
        paths.root.rename(root)
        shutil.copy(new_database, root / "mlflow.db")
        return Paths(root, root)

    return lose
