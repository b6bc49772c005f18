"""Lower-precision variants of the exported ONNX files: what computes in which type, and why.

The network proper (backbone, neck, head) may be lowered. What turns its output into coordinates
stays float32: those parts are cheap, and measured alone in half precision at 640 pixels they do
more harm than the whole network (docs/decisions/precision.md).
"""

from __future__ import annotations

from pathlib import Path

import onnx

from rtmo.deployment.half_precision import round_like_half, to_half
from rtmo.deployment.metadata import Precision
from rtmo.deployment.variant_facts import Island

NETWORK = ("backbone", "neck", "head")
"""First words of the names of nodes that may leave float32."""

ISLANDS = {
    "dcc": "keypoints: phases of the bin encodings, softmax and expectations over bins",
    "keep/": "NMS: overlaps and places of kept people",
    "arrange/": "output: coordinates in input pixels, which float16 knows to 0.5 px above 512",
    "/": "boxes: exponentials and coordinates in input pixels, and the scores that order them",
}
"""First words of the names of nodes that stay float32 -> reason."""


def in_network(node: onnx.NodeProto) -> bool:
    """Whether a node belongs to the part that may be lowered."""
    return bool(node.name.startswith(NETWORK))


def islands_of(model: onnx.ModelProto) -> dict[str, Island]:
    """The parts of an exported graph that stay float32, by the beginning of their nodes' names."""
    counts = {
        prefix: sum(node.name.startswith(prefix) for node in model.graph.node) for prefix in ISLANDS
    }
    return {
        prefix: Island(reason=ISLANDS[prefix], nodes=count)
        for prefix, count in counts.items()
        if count
    }


def write_fp16(source: Path, target: Path) -> dict[str, Island]:
    """Write a float32 file's float16 variant; returns what stays float32 in it.

    Args:
        source: complete or raw form, written by `export_onnx`.
        target: .onnx file to write.
    """
    model = onnx.load(source)
    save_variant(to_half(model, in_network), target, "fp16")
    return islands_of(model)


def write_rounding_twin(source: Path, target: Path) -> None:
    """Write the file on which a CPU shows what the float16 variant computes on a GPU."""
    save_variant(round_like_half(onnx.load(source), in_network), target, "fp16")


def save_variant(model: onnx.ModelProto, path: Path, precision: Precision) -> None:
    """Check and write a variant, which says its precision in its metadata."""
    for item in model.metadata_props:
        if item.key == "precision":
            item.value = precision
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
