"""Layer by layer: where a variant in lower precision leaves the float32 graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rtmo.deployment.inner_values import InnerValues
from rtmo.deployment.postprocess import Floats
from rtmo.deployment.variant_facts import LayerDeviation

LAYERS = ("Conv", "MatMul", "Gemm", "LayerNormalization", "Softmax", "Exp", "Concat")
"""Operators whose results are compared: what computes, and where branches meet."""


def layer_deviations(reference: Path, variant: Path, pixels: Floats) -> list[LayerDeviation]:
    """Differences of the values that both graphs have under one name, in the order they run.

    Args:
        reference: float32 file.
        variant: file made from it, whose nodes and values kept their names, computing in float32.
        pixels: network input, (B, 3, S, S).
    """
    model = onnx.load(reference)
    known = {name for node in onnx.load(variant).graph.node for name in node.output}
    inferred = onnx.shape_inference.infer_shapes(model).graph.value_info
    floating = {
        item.name for item in inferred if item.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    }
    layers = [
        node
        for node in model.graph.node
        if node.op_type in LAYERS and node.output[0] in known & floating
    ]
    names = [node.output[0] for node in layers]
    pairs = zip(_finite(reference, names, pixels), _finite(variant, names, pixels), strict=True)
    return [
        LayerDeviation(
            node=node.name,
            operator=node.op_type,
            relative=_rms(theirs - ours) / max(_rms(ours), float(np.finfo(np.float32).tiny)),
            largest=float(np.abs(theirs - ours).max(initial=0)),
        )
        for node, (ours, theirs) in zip(layers, pairs, strict=True)
        if ours.shape == theirs.shape  # after NMS the two may speak of different people
    ]


def steepest(deviations: list[LayerDeviation], count: int = 5) -> tuple[LayerDeviation, ...]:
    """The layers whose relative difference grew most over the layer before, worst first."""
    before = [0.0, *(layer.relative for layer in deviations[:-1])]
    growth = [layer.relative - last for layer, last in zip(deviations, before, strict=True)]
    order = np.argsort(growth)[::-1][:count]
    return tuple(deviations[index] for index in order)


def _finite(path: Path, names: list[str], pixels: Floats) -> Iterator[NDArray[np.float64]]:
    """The named values; an overflow counts as float32's largest number, for a report can hold it.

    A network of little training in lower precision reaches it in the exponential of box sizes.
    """
    most = float(np.finfo(np.float32).max)
    for values in InnerValues(onnx.load(path), names)(pixels).values():
        yield np.nan_to_num(values.astype(np.float64), nan=most, posinf=most, neginf=-most)


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0
