"""What rounding does to the number of people, taken out of the score convolutions again.

Means over whole maps (`bias_correction`) are means over background, which nobody asks about. Where
a person is as likely as the score threshold says, rounding moves the logit by another amount, and
it blurs: below the threshold are more candidates than above it, so more come up than go down. A
hundredth of a logit makes 1.5 % more people (`docs/decisions/precision.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from rtmo.deployment.bias_correction import lower
from rtmo.deployment.inner_values import InnerValues
from rtmo.deployment.metadata import metadata_from_properties
from rtmo.deployment.postprocess import Floats

SCORES = "head.levels.*.out_cls*"
"""Pattern of the names of the convolutions whose results are logits of scores, one per level."""
WIDTH = 0.25
"""Of the threshold, in logits: a sharp one would count too few people to be sure of."""
LARGEST = 4.0
"""Largest shift that is looked for, in logits."""


def correct_scores(quantised: onnx.ModelProto, source: Path, batches: Sequence[Floats]) -> None:
    """Change the biases of the score convolutions of a model, which are float32.

    Args:
        quantised: Q/DQ model whose score convolutions have the names of the source's.
        source: the float32 file that it was made of; its score threshold counts.
        batches: network inputs of training pictures.
    """
    exact = onnx.load(source)
    properties = {item.key: item.value for item in exact.metadata_props}
    threshold = metadata_from_properties(properties, str(source)).score_threshold
    if threshold == 0:  # everybody is found
        return
    limit = math.log(threshold / (1 - threshold))
    logits, lowered = (_logits(model, batches) for model in (exact, quantised))
    for node in _score_convolutions(quantised):
        shift = shift_of(lowered[node.name] - limit, logits[node.name] - limit)
        lower(quantised.graph, node, np.full(1, shift))  # one class, one channel


def shift_of(lowered: Floats, exact: Floats) -> float:
    """What to take from logits so that as many are above 0 as of the exact ones.

    0 where that says nothing: less than one logit in all lies near.

    Example:
        >>> exact = np.linspace(-3, 3, 601)
        >>> round(shift_of(exact + 0.125, exact), 3)
        0.125
    """
    wanted = _above(exact).sum()
    low, high = -LARGEST, LARGEST
    if _above(exact - high).sum() + 1 > wanted or _above(exact - low).sum() < wanted + 1:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        is_too_many = _above(lowered - middle).sum() > wanted
        low, high = (middle, high) if is_too_many else (low, middle)
    return (low + high) / 2


def _above(logits: Floats) -> NDArray[np.float64]:
    """How far each one is above 0, from 0 to 1."""
    above: NDArray[np.float64] = (1 + np.tanh(logits.astype(np.float64) / (2 * WIDTH))) / 2
    return above


def _score_convolutions(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [
        node for node in model.graph.node if node.op_type == "Conv" and fnmatch(node.name, SCORES)
    ]


def _logits(model: onnx.ModelProto, batches: Sequence[Floats]) -> Mapping[str, Floats]:
    """What the score convolutions of a model give for all pictures, by their names."""
    nodes = _score_convolutions(model)
    values_of = InnerValues(model, [node.output[0] for node in nodes])
    runs = [values_of(pixels) for pixels in batches]
    return {node.name: np.concatenate([run[node.output[0]] for run in runs]) for node in nodes}
