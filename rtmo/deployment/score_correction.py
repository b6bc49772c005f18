"""What rounding adds to scores of doubtful people, taken out of the score convolutions again.

Means over whole maps (`bias_correction`) are means over background, which nobody asks about. Where
a person is as likely as the score threshold says, rounding moves the logit by another amount, and a
hundredth too much there makes 1.5 % more people (`docs/decisions/precision.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from rtmo.deployment.inner_values import InnerValues
from rtmo.deployment.metadata import metadata_from_properties
from rtmo.deployment.postprocess import Floats

SCORES = "head.levels.*.out_cls*"
"""Pattern of the names of the convolutions whose results are logits of scores, one per level."""
NEAR = 1.0
"""Positions with a logit no further than this from the threshold's are doubtful."""


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
    doubtful = math.log(threshold / (1 - threshold))
    logits, shifted = (_logits(model, batches) for model in (exact, quantised))
    biases = {item.name: item for item in quantised.graph.initializer}
    for node in _score_convolutions(quantised):
        is_near = np.abs(logits[node.name] - doubtful) <= NEAR
        if not is_near.any():
            continue
        shift = np.mean((shifted[node.name] - logits[node.name])[is_near], dtype=np.float64)
        bias = biases[node.input[2]]
        corrected = numpy_helper.to_array(bias) - np.float32(shift)
        bias.CopyFrom(numpy_helper.from_array(corrected, bias.name))


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
