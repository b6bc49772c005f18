"""What rounding adds to the mean of every channel, taken out of the biases again.

A quantised convolution computes W' * x' of rounded weights and values. The part of W' * x' - W * x
that is the same for every picture shifts the channel, shifts add up from layer to layer, and scores
rise or fall together. (Nagel et al., Data-Free Quantization Through Weight Equalization and Bias
Correction, ICCV 2019, section 4.2, gives the idea for weights; here means are measured, and
rounded values count too.)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from rtmo.deployment.inner_values import InnerValues
from rtmo.deployment.postprocess import Floats

Doubles = NDArray[np.float64]


@dataclass(slots=True)
class _Convolution:
    """One that is quantised, beside the same one in float32."""

    node: onnx.NodeProto
    """Of the quantised graph."""
    reads: str
    """Float32 value that it reads."""
    exact: Floats
    """Weights (out, in / groups), summed over the kernel."""
    rounded: Floats
    """The same of the int8 weights."""
    scale: Floats
    """Of the values that it reads."""
    zero: NDArray[np.int8] | NDArray[np.uint8]
    """Their zero point; its type is theirs."""

    def round(self, values: Floats) -> Floats:
        """Values as the quantised convolution reads them."""
        limits = np.iinfo(self.zero.dtype)
        whole = np.rint(values / self.scale) + self.zero.astype(np.float32)
        rounded: Floats = (whole.clip(limits.min, limits.max) - self.zero) * self.scale
        return rounded

    def shift(self, mean: Doubles, rounded_mean: Doubles) -> Doubles:
        """What is too much in every output channel, for the means (in,) of its input channels."""
        groups = len(mean) // self.exact.shape[1]
        parts = zip(
            np.split(self.exact, groups),
            np.split(self.rounded, groups),
            np.split(mean, groups),
            np.split(rounded_mean, groups),
            strict=True,
        )
        return np.concatenate([after @ less - before @ full for before, after, full, less in parts])


def correct_biases(quantised: onnx.ModelProto, source: Path, batches: Iterable[Floats]) -> None:
    """Change the biases of all quantised convolutions of a model; those without one get one.

    Args:
        quantised: Q/DQ model with float32 biases; nodes and values have the names of the source's.
        source: the float32 file that it was made of.
        batches: network inputs of training pictures, over which channels are averaged.
    """
    convolutions = list(_convolutions(quantised.graph, onnx.load(source).graph))
    shifts = _mean_shifts(convolutions, source, batches)
    for convolution, shift in zip(convolutions, shifts, strict=True):
        lower(quantised.graph, convolution.node, shift)


def lower(graph: onnx.GraphProto, node: onnx.NodeProto, shift: Doubles) -> None:
    """Take `shift` (out,) from the output channels of a convolution of the graph.

    One without a bias gets one: a half of a split convolution, or one whose bias is zero.
    """
    if len(node.input) == 2:
        node.input.append(f"{node.name}/bias")
        bias = graph.initializer.add(name=node.input[2])
        former = np.zeros_like(shift)
    else:
        bias = next(item for item in graph.initializer if item.name == node.input[2])
        former = numpy_helper.to_array(bias)
    bias.CopyFrom(numpy_helper.from_array((former - shift).astype(np.float32), bias.name))


def _convolutions(quantised: onnx.GraphProto, exact: onnx.GraphProto) -> Iterator[_Convolution]:
    """The quantised convolutions of a graph."""
    constants = {item.name: item for item in quantised.initializer}
    exact_constants = {item.name: item for item in exact.initializer}
    originals = {node.name: node for node in exact.node if node.op_type == "Conv"}
    dequantised = {
        node.output[0]: node for node in quantised.node if node.op_type == "DequantizeLinear"
    }
    for node in quantised.node:
        if node.op_type != "Conv" or node.input[1] not in dequantised:
            continue
        original = originals[node.name]
        weight, per_channel, _symmetric = (
            numpy_helper.to_array(constants[name]) for name in dequantised[node.input[1]].input
        )
        scale, zero = (
            numpy_helper.to_array(constants[name]) for name in dequantised[node.input[0]].input[1:]
        )
        yield _Convolution(
            node=node,
            reads=original.input[0],
            exact=numpy_helper.to_array(exact_constants[original.input[1]]).sum(axis=(2, 3)),
            rounded=weight.astype(np.float32).sum(axis=(2, 3)) * per_channel[:, None],
            scale=scale,
            zero=zero,
        )


def _mean_shifts(
    convolutions: list[_Convolution], source: Path, batches: Iterable[Floats]
) -> Iterator[Doubles]:
    """What is too much in the output channels of every convolution, on average.

    Picture by picture, because the inputs of all convolutions are in memory together.
    """
    values_of = InnerValues(
        onnx.load(source), sorted({convolution.reads for convolution in convolutions})
    )
    pictures = [picture for batch in batches for picture in batch]
    totals = [(np.zeros(1), np.zeros(1)) for _ in convolutions]
    for picture in pictures:
        values = values_of(picture[None])
        for place, convolution in enumerate(convolutions):
            read = values[convolution.reads]
            full, less = totals[place]
            totals[place] = (
                full + _channel_means(read),
                less + _channel_means(convolution.round(read)),
            )
    for convolution, (full, less) in zip(convolutions, totals, strict=True):
        yield convolution.shift(full / len(pictures), less / len(pictures))


def _channel_means(values: Floats) -> Doubles:
    """Mean of every channel of (1, C, H, W)."""
    means: Doubles = values.mean(axis=(0, 2, 3), dtype=np.float64)
    return means
