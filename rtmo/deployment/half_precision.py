"""float32 graph -> the same graph typed float16, with float32 islands.

Every cast is a node of the graph, so a strongly typed TensorRT builds exactly this, and no flag or
runtime decides anything. Values between two nodes of an island never pass through half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

FLOAT: int = TensorProto.FLOAT
HALF: int = TensorProto.FLOAT16
SUFFIX = {FLOAT: "/float", HALF: "/half"}
"""Of the name of a value's copy in the other type."""

FLOAT_ONLY_INPUTS = {("Resize", 1), ("Resize", 2)}
"""Inputs that are float32 by the operator's definition, whatever its data is: region, scales."""

OWN_TYPE = {"Cast", "Constant"}
"""Operators whose attributes say what type they give."""


def to_half(model: onnx.ModelProto, in_half: Callable[[onnx.NodeProto], bool]) -> onnx.ModelProto:
    """A copy of the model whose chosen nodes compute in float16.

    Inputs and outputs of the graph stay float32. Nodes and values keep their names, so that both
    graphs can be compared value by value.

    Args:
        model: float32 model without subgraphs.
        in_half: whether a node computes in float16. It has no say over nodes that produce integers
            or an output of the graph.
    """
    types = _Types(model)
    halved = _chosen(model, in_half)
    nodes = [
        part
        for node in model.graph.node
        for part in types.placed(node, HALF if node.name in halved else FLOAT)
    ]
    return _with_graph(model, nodes, types.half_weights)


def round_like_half(
    model: onnx.ModelProto, in_half: Callable[[onnx.NodeProto], bool]
) -> onnx.ModelProto:
    """A float32 copy that rounds every value where `to_half` has a float16 one.

    ONNX Runtime's CPU has few float16 kernels: it computes `to_half`'s graph in float32 and drops
    the casts in between, so it hides the rounding and the overflow that a GPU meets. This graph
    shows both, with sums in float32 as GPUs keep them.

    Args:
        model: float32 model without subgraphs.
        in_half: as for `to_half`.
    """
    types = _Types(model)
    halved = _chosen(model, in_half)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        rounded = onnx.NodeProto()
        rounded.CopyFrom(node)
        nodes.append(rounded)
        if node.name not in halved:
            continue
        for index, name in enumerate(node.input):
            if types.is_weight(name) and (node.op_type, index) not in FLOAT_ONLY_INPUTS:
                rounded.input[index] = types.rounded_weight(name)
        for index, name in enumerate(node.output):
            if types.is_floating(name):
                exact, half = name + "/exact", name + SUFFIX[HALF]
                rounded.output[index] = exact
                nodes.append(helper.make_node("Cast", [exact], [half], name=half, to=HALF))
                nodes.append(helper.make_node("Cast", [half], [name], name=exact, to=FLOAT))
    return _with_graph(model, nodes, types.rounded_weights)


def _chosen(model: onnx.ModelProto, in_half: Callable[[onnx.NodeProto], bool]) -> set[str]:
    """Names of the nodes that compute in float16."""
    fixed = {item.name for item in model.graph.output}
    return {
        node.name
        for node in model.graph.node
        if node.op_type not in OWN_TYPE and fixed.isdisjoint(node.output) and in_half(node)
    }


def _with_graph(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: list[TensorProto]
) -> onnx.ModelProto:
    """The model with other nodes and further weights, without the weights that no node uses."""
    used = {name for node in nodes for name in node.input}
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:], changed.graph.initializer[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(
        item for item in (*model.graph.initializer, *weights) if item.name in used
    )
    return changed


class _Types:
    """The type that every floating value has so far, and its copies in the other type."""

    def __init__(self, model: onnx.ModelProto) -> None:
        graph = shape_inference.infer_shapes(model).graph
        overridable = {item.name for item in graph.input}
        self._weights = {
            item.name: item
            for item in graph.initializer
            if item.data_type == FLOAT and item.name not in overridable
        }
        values = (*graph.input, *graph.value_info, *graph.output)
        floating = {item.name for item in values if item.type.tensor_type.elem_type == FLOAT}
        self._types = dict.fromkeys(floating | set(self._weights), FLOAT)
        self._copied: set[str] = set()
        self.half_weights: list[TensorProto] = []
        self.rounded_weights: list[TensorProto] = []

    def is_floating(self, name: str) -> bool:
        """Whether the value is floating at all."""
        return name in self._types

    def is_weight(self, name: str) -> bool:
        """Whether the value is a floating constant of the file."""
        return name in self._weights

    def rounded_weight(self, name: str) -> str:
        """Name of a weight's float32 copy that went through float16."""
        copy = name + "/rounded"
        if copy not in self._copied:
            self._copied.add(copy)
            values = numpy_helper.to_array(_half(self._weights[name], copy))
            self.rounded_weights.append(numpy_helper.from_array(values.astype(np.float32), copy))
        return copy

    def placed(self, node: onnx.NodeProto, wanted: int) -> Iterator[onnx.NodeProto]:
        """The node in the wanted type, after the casts that its inputs need."""
        typed = onnx.NodeProto()
        typed.CopyFrom(node)
        for index, name in enumerate(node.input):
            here = FLOAT if (node.op_type, index) in FLOAT_ONLY_INPUTS else wanted
            if self._types.get(name, here) == here:
                continue
            copy = name + SUFFIX[here]
            typed.input[index] = copy
            if copy in self._copied:
                continue
            self._copied.add(copy)
            if name in self._weights:
                self.half_weights.append(_half(self._weights[name], copy))
            else:
                yield helper.make_node("Cast", [name], [copy], name=copy, to=here)
        yield typed
        self._types.update((name, wanted) for name in node.output if name in self._types)


def _half(weight: TensorProto, name: str) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float16), name)
