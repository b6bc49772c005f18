"""The graph that the official deployment leaves of a model, to measure beside ours.

No published file can be fetched where these benchmarks run, so the layout is written anew from SPEC
section 7 (mmdeploy 1.3.1): one picture of a fixed size, norms and RepVGG branches folded,
thresholds baked in, NMS inside, at most 50 people and one padding row, and the coordinate
classifier on those rows only. Our own complete form differs by `lean_network`, free sizes and
overridable thresholds.
"""

# No `from __future__ import annotations`: onnxscript reads the annotations as shapes.

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import compose, numpy_helper
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op
from torch import Tensor, nn

from rtmo.model.inference import InferenceRTMO, fold
from rtmo.model.rtmo import RTMO

OPSET = 18
BEFORE_NMS, AFTER_NMS = 200, 50
"""Most people that NMS keeps, and most rows of the outputs."""

# Axes: priors, keypoints, channels of pose vectors, rows of the outputs.
N, K, C, ROWS = "priors", "keypoints", "channels", "rows"


class Coordinates(nn.Module):
    """The coordinate classifier alone."""

    def __init__(self, network: InferenceRTMO) -> None:
        super().__init__()
        self.network = network

    def forward(self, pose_vectors: Tensor, boxes_xyxy: Tensor, priors_xy: Tensor) -> Tensor:
        """(P, C), (P, 4), (P, 2) -> keypoints (P, K, 2)."""
        return self.network.keypoints(pose_vectors, boxes_xyxy, priors_xy)


@script(default_opset=op)
def keep_rows(  # noqa: PLR0913 - one argument per input of the ONNX graph
    scores: FLOAT[1, N],
    boxes_xyxy: FLOAT[1, N, 4],
    visibility: FLOAT[1, N, K],
    pose_vectors: FLOAT[1, N, C],
    priors_xy: FLOAT[N, 2],
    before_nms: INT64[1],
    after_nms: INT64[1],
    nms_iou: FLOAT[1],
    score_threshold: FLOAT[1],
) -> (FLOAT[1, ROWS, 5], FLOAT[ROWS, 4], FLOAT[ROWS, K], FLOAT[ROWS, C], FLOAT[ROWS, 2]):
    """NMS, a padding row of index -1, the best 50; index -1 takes what the last prior says."""
    one = op.Constant(value_ints=[1])
    chosen = op.NonMaxSuppression(
        boxes_xyxy, op.Unsqueeze(scores, one), before_nms, nms_iou, score_threshold
    )
    prior = op.Gather(chosen, op.Constant(value_int=2), axis=1)
    padded_scores = op.Concat(
        op.Gather(op.Squeeze(scores), prior), op.Constant(value_floats=[0.0]), axis=0
    )
    padded_priors = op.Concat(prior, op.Constant(value_ints=[-1]), axis=0)
    count = op.Min(op.Shape(padded_priors), after_nms)
    _, order = op.TopK(padded_scores, count)
    rows = op.Gather(padded_priors, order)
    all_dets = op.Concat(boxes_xyxy, op.Unsqueeze(scores, op.Constant(value_ints=[2])), axis=2)
    dets = op.Gather(all_dets, rows, axis=1)
    first = op.Constant(value_ints=[0])
    kept_boxes = op.Gather(op.Squeeze(boxes_xyxy, first), rows)
    kept_visibility = op.Gather(op.Squeeze(visibility, first), rows)
    kept_vectors = op.Gather(op.Squeeze(pose_vectors, first), rows)
    kept_priors = op.Gather(priors_xy, rows)
    return dets, kept_boxes, kept_visibility, kept_vectors, kept_priors


@script(default_opset=op)
def join_keypoints(
    keypoints_xy: FLOAT[ROWS, K, 2], kept_visibility: FLOAT[ROWS, K]
) -> FLOAT[1, ROWS, K, 3]:
    """Coordinates and visibility side by side."""
    last = op.Constant(value_ints=[-1])
    values = op.Concat(keypoints_xy, op.Unsqueeze(kept_visibility, last), axis=2)
    keypoints = op.Unsqueeze(values, op.Constant(value_ints=[0]))
    return keypoints  # noqa: RET504 - the name becomes the output's


def write_official_layout(
    model: RTMO, path: Path, size: int, *, score_threshold: float, nms_iou: float
) -> None:
    """Write `input` (1, 3, S, S) -> `dets` (1, n, 5), `keypoints` (1, n, K, 3); n is 1 to 50.

    Args:
        model: RTMO in any mode; it is left as it is.
        path: the .onnx file to write.
        size: side S of the input, pixels.
        score_threshold: of NMS, baked in.
        nms_iou: of NMS, baked in.
    """
    network = fold(model).cpu()
    images = torch.zeros(1, 3, size, size)
    priors = network.priors_xy(size, size)
    with torch.no_grad():
        _, boxes, _, vectors = network(images)
    detector = _trace(
        network, (images,), ["input"], ["scores", "boxes_xyxy", "visibility", "pose_vectors"]
    )
    coordinates = _trace(
        Coordinates(network),
        (vectors[0, :2], boxes[0, :2], priors[:2]),
        ["pose_vectors", "boxes_xyxy", "priors_xy"],
        ["keypoints_xy"],
        {0: torch.export.Dim("rows")},
    )
    keep, join = (_like(detector, part.to_model_proto()) for part in (keep_rows, join_keypoints))
    names = [output.name for output in detector.graph.output]
    proto = compose.merge_models(
        compose.add_prefix(detector, "detector/", rename_inputs=False, rename_outputs=False),
        compose.add_prefix(keep, "keep/", rename_inputs=False, rename_outputs=False),
        [(name, name) for name in names],
    )
    proto = compose.merge_models(
        proto,
        compose.add_prefix(coordinates, "dcc/"),
        [
            ("kept_vectors", "dcc/pose_vectors"),
            ("kept_boxes", "dcc/boxes_xyxy"),
            ("kept_priors", "dcc/priors_xy"),
        ],
        outputs=["dets", "kept_visibility", "dcc/keypoints_xy"],
    )
    proto = compose.merge_models(
        proto,
        compose.add_prefix(join, "join/", rename_outputs=False),
        [
            ("dcc/keypoints_xy", "join/keypoints_xy"),
            ("kept_visibility", "join/kept_visibility"),
        ],
    )
    del proto.opset_import[1:]  # one entry came with every part, all of them equal
    constants = {
        "before_nms": np.int64([BEFORE_NMS]),
        "after_nms": np.int64([AFTER_NMS]),
        "nms_iou": np.float32([nms_iou]),
        "priors_xy": priors.numpy(),
        "score_threshold": np.float32([score_threshold]),
    }
    while len(proto.graph.input) > 1:  # the constants: nobody may override them
        proto.graph.input.pop()
    for name, value in constants.items():
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def _trace(
    module: nn.Module,
    example: tuple[Tensor, ...],
    inputs: list[str],
    outputs: list[str],
    axes: dict[int, Any] | None = None,
) -> onnx.ModelProto:
    """ONNX graph of a module; the same axes of every input are dynamic."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about its own workings
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=inputs,
            output_names=outputs,
            dynamic_shapes=tuple(axes for _ in example),
            verbose=False,
        )
    return program.model_proto


def _like(model: onnx.ModelProto, part: onnx.ModelProto) -> onnx.ModelProto:
    """The part in the versions of the model."""
    part.ir_version = model.ir_version
    del part.opset_import[:]
    part.opset_import.extend(model.opset_import)
    return part
