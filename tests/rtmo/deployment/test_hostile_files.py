"""ONNX files that lie, fail or were damaged: a sentence for each, and never a crash."""

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from rtmo.deployment import load_predictor
from rtmo.deployment.metadata import MetadataError, ModelMetadata
from rtmo.skeleton import COCO17

ROOT = Path(__file__).resolve().parents[3]
SIZE = 64
SHAPE = ["B", 3, SIZE, SIZE]
PICTURE = np.zeros((40, 50, 3), np.uint8)
MOST_BYTES = 8 << 30


def graph(
    *nodes: onnx.NodeProto,
    extra: tuple[TensorProto, ...] = (),
    inputs: dict[str, list] | None = None,
    kind: int = TensorProto.FLOAT,
    rows: int = 1,
    num_keypoints: int = 17,
) -> ModelProto:
    """One constant person, and whatever else; nodes that write `addend` are added to the boxes."""
    values = {
        "dets_value": np.array([[[8, 8, 40, 56, 0.9]]], np.float32),
        "keypoints_value": np.full((1, rows, num_keypoints, 3), 30, np.float32),
        "nothing": np.float32(0),
    }
    written = {name for node in nodes for name in node.output}
    last = [helper.make_node("Identity", ["keypoints_value"], ["keypoints"])]
    if "addend" in written:
        last += [
            helper.make_node("ReduceMax", ["addend"], ["largest"], keepdims=0),
            helper.make_node("Mul", ["largest", "nothing"], ["zero"]),
            helper.make_node("Add", ["dets_value", "zero"], ["dets"]),
        ]
    elif "dets" not in written:
        last.append(helper.make_node("Identity", ["dets_value"], ["dets"]))
    made = helper.make_graph(
        [*nodes, *last],
        "hostile",
        [
            helper.make_tensor_value_info(name, kind, shape)
            for name, shape in (inputs or {"input": SHAPE}).items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
            for name in ("dets", "keypoints")
        ],
        [
            *(numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()),
            *extra,
        ],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("evil", 1)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=10)
    metadata = ModelMetadata(skeleton=COCO17, input_size=SIZE, form="complete")
    for key, value in metadata.to_properties().items():
        model.metadata_props.add(key=key, value=value)
    return model


def with_property(key: str, value: str) -> ModelProto:
    model = graph()
    next(item for item in model.metadata_props if item.key == key).value = value
    return model


def outside(location: str) -> ModelProto:
    """Weights in another file."""
    stored = TensorProto(
        name="weight", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        stored.external_data.add(key=key, value=value)
    return graph(helper.make_node("Identity", ["weight"], ["addend"]), extra=(stored,))


def stored(dims: int) -> ModelProto:
    """Weights that say another size than they have."""
    weight = TensorProto(
        name="weight", data_type=TensorProto.FLOAT, dims=[dims], raw_data=bytes(16)
    )
    return graph(helper.make_node("Identity", ["weight"], ["addend"]), extra=(weight,))


def huge_when_run() -> ModelProto:
    """A quarter of a terabyte of zeros."""
    shape = numpy_helper.from_array(np.array([1 << 38], np.int64), "shape")
    return graph(helper.make_node("ConstantOfShape", ["shape"], ["addend"]), extra=(shape,))


def out_of_bounds_when_run() -> ModelProto:
    far = numpy_helper.from_array(np.int64(1 << 30), "far")
    return graph(
        helper.make_node("ReduceMax", ["input"], ["brightest"], keepdims=0),
        helper.make_node("Cast", ["brightest"], ["place"], to=TensorProto.INT64),
        helper.make_node("Add", ["place", "far"], ["index"]),
        helper.make_node("Gather", ["dets_value", "index"], ["addend"]),
        extra=(far,),
    )


HOSTILE: dict[str, tuple[Callable[[], ModelProto], str]] = {
    "weights above the folder": (lambda: outside("../secret.bin"), "External data path"),
    "weights anywhere": (lambda: outside("/etc/passwd"), "External data path"),
    "weights by a link": (lambda: outside("link.bin"), "External data path"),
    "weights that are not there": (lambda: outside("none.bin"), "External data path"),
    "weights of a terabyte": (lambda: stored(1 << 38), "weight"),
    "weights of negative size": (lambda: stored(-4), "weight|bounds"),
    "custom operator": (
        lambda: graph(helper.make_node("Evil", ["dets_value"], ["dets"], domain="evil")),
        "evil",
    ),
    "unknown operator": (
        lambda: graph(helper.make_node("NoSuch", ["dets_value"], ["dets"])),
        "NoSuch",
    ),
    "another input": (lambda: graph(inputs={"x": SHAPE}), "'x'"),
    "two inputs": (lambda: graph(inputs={"input": SHAPE, "more": SHAPE}), "more"),
    "rank of the input": (lambda: graph(inputs={"input": SHAPE[:3]}), r"expected .*\(B, 3"),
    "grey input": (lambda: graph(inputs={"input": ["B", 1, SIZE, SIZE]}), r"expected .*\(B, 3"),
    "size of the input": (lambda: graph(inputs={"input": ["B", 3, 32, 32]}), r"64, 64"),
    "bytes as input": (lambda: graph(kind=TensorProto.UINT8), "uint8"),
    "size in the metadata": (lambda: with_property("input_size", "99999999999"), "damaged"),
    "endless number": (lambda: with_property("input_size", "1e999"), "damaged"),
    "broken JSON": (lambda: with_property("skeleton", "{"), "damaged"),
    "deep JSON": (lambda: with_property("skeleton", "[" * 100_000), "damaged"),
    "another skeleton's keypoints": (lambda: graph(num_keypoints=14), "14"),
    "more poses than boxes": (lambda: graph(rows=3), "answers"),
    "memory while it runs": (huge_when_run, "while it runs"),
    "places while it runs": (out_of_bounds_when_run, "while it runs"),
}


@pytest.mark.parametrize(("make", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_refused_with_what_is_wrong(make, words, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    path = folder / "model.onnx"
    path.write_bytes(make().SerializeToString())
    with pytest.raises(ValueError, match=words) as refused:  # noqa: PT012 - either may refuse
        predict = load_predictor(path)
        predict(PICTURE)
    assert "model.onnx" in str(refused.value)


def test_metadata_that_are_no_text_are_refused(tmp_path):
    path = tmp_path / "model.onnx"
    content = graph().SerializeToString()
    path.write_bytes(content.replace(b"left_shoulder", b"\xff\xfe\xfdt_shoulder"))
    with pytest.raises(MetadataError, match="damaged"):
        load_predictor(path)


def fuzz(folder: Path, seed: int, count: int) -> None:
    """Damage a good file again and again; only errors that are meant for people may come of it."""
    rng = np.random.default_rng(seed)
    good = np.frombuffer(graph().SerializeToString(), np.uint8)
    path = folder / "fuzzed.onnx"
    for _ in range(count):
        content = good.copy()
        for place in rng.integers(0, len(content), rng.integers(1, 9)):
            content[place] = rng.integers(0, 256)
        if rng.random() < 0.2:
            content = content[: rng.integers(0, len(content))]
        path.write_bytes(content.tobytes())
        try:
            load_predictor(path)(PICTURE)
        except ValueError as error:
            if "fuzzed.onnx" not in str(error):
                raise


@pytest.mark.parametrize("count", [200, pytest.param(5000, marks=pytest.mark.slow)])
def test_damaged_files_never_end_the_process(tmp_path, count):
    program = (
        "import sys; from pathlib import Path\n"
        "from tests.rtmo.deployment.test_hostile_files import fuzz\n"
        "fuzz(Path(sys.argv[1]), 20, int(sys.argv[2]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path, str(count)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES)),
    )
    assert done.returncode == 0, done.stderr
