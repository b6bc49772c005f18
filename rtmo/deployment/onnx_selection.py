"""The part of the complete ONNX form that torch cannot express: NMS and the rows it keeps.

Written in onnxscript, so the functions below are ONNX graphs and not Python that runs. Standard
operators only. (No `from __future__ import annotations`: onnxscript reads the annotations.)
"""

# mypy: ignore-errors
# The annotations below are shapes of ONNX values, which is how onnxscript reads them.

import numpy as np
from onnx import TensorProto, numpy_helper
from onnxscript import FLOAT, INT64, script
from onnxscript import opset18 as op

# Names of the axes: images, priors, keypoints, channels of pose features, kept rows and one dummy,
# people of the fullest image (at least one).
B, N, K, C, ROWS, PEOPLE = "batch", "priors", "keypoints", "channels", "rows", "people"

_DUMMY = numpy_helper.from_array(np.zeros((1, 2), dtype=np.int64))


@script(default_opset=op)
def keep_people(  # noqa: PLR0913 - one argument per input of the ONNX graph
    scores: FLOAT[B, N],
    boxes_xyxy: FLOAT[B, N, 4],
    visibility: FLOAT[B, N, K],
    features: FLOAT[B, N, C],
    priors: FLOAT[N, 3],
    max_people: INT64[1],
    nms_iou: FLOAT[1],
    score_threshold: FLOAT[1],
) -> (
    FLOAT[B, PEOPLE, 5],
    INT64[B, PEOPLE],
    FLOAT[ROWS, 1],
    FLOAT[ROWS, 4],
    FLOAT[ROWS, K],
    FLOAT[ROWS, C],
    FLOAT[ROWS, 3],
):
    """Threshold and NMS per image, then the values of the kept priors of all images in one list.

    One dummy row follows the kept ones, so that nothing downstream sees an empty list; it has
    weight 0 and fills the unused places of images with fewer people than the fullest.
    """
    zero = op.Constant(value_ints=[0])
    one = op.Constant(value_ints=[1])
    two = op.Constant(value_ints=[2])
    three = op.Constant(value_ints=[3])
    start = op.Constant(value_int=0)
    step = op.Constant(value_int=1)

    chosen = op.NonMaxSuppression(
        boxes_xyxy, op.Unsqueeze(scores, one), max_people, nms_iou, score_threshold
    )
    image = op.Slice(chosen, zero, one, one)
    prior = op.Slice(chosen, two, three, one)
    batch = op.Shape(scores, start=0, end=1)
    num_kept = op.Shape(image, start=0, end=1)

    # Place of every kept row within its image: how many rows of the same image came before it.
    images = op.Unsqueeze(op.Range(start, op.Squeeze(batch), step), zero)
    is_of_image = op.Cast(op.Equal(image, images), to=TensorProto.INT64)
    place = op.ReduceSum(op.CumSum(is_of_image, start) * is_of_image, one, keepdims=1) - one
    most = op.Max(op.ReduceMax(op.ReduceSum(is_of_image, zero, keepdims=0), zero), one)

    # Row of every place; places without a person point at the dummy row, the one after the last.
    rows = op.Range(start, op.Squeeze(num_kept), step)
    unused = op.Expand(num_kept, op.Concat(batch, most, axis=0))
    row_of_place = op.ScatterND(unused, op.Concat(image, place, axis=1), rows)

    dummy = op.Constant(value=_DUMMY)
    source = op.Concat(op.Concat(image, prior, axis=1), dummy, axis=0)
    all_rows = op.Range(start, op.Squeeze(num_kept + one), step)
    weight = op.Unsqueeze(op.Cast(all_rows < num_kept, to=TensorProto.FLOAT), one)
    kept_boxes = op.GatherND(boxes_xyxy, source)
    kept_scores = op.Unsqueeze(op.GatherND(scores, source), one)
    kept_visibility = op.GatherND(visibility, source)
    kept_features = op.GatherND(features, source)
    kept_priors = op.Gather(priors, op.Squeeze(op.Slice(source, one, two, one), one), axis=0)
    dets = op.Gather(op.Concat(kept_boxes, kept_scores, axis=1) * weight, row_of_place, axis=0)
    return dets, row_of_place, weight, kept_boxes, kept_visibility, kept_features, kept_priors


@script(default_opset=op)
def arrange_keypoints(
    keypoints_xy: FLOAT[ROWS, K, 2],
    kept_visibility: FLOAT[ROWS, K],
    weight: FLOAT[ROWS, 1],
    row_of_place: INT64[B, PEOPLE],
) -> FLOAT[B, PEOPLE, K, 3]:
    """Keypoints of the kept rows at their places; unused places are zero."""
    last = op.Constant(value_ints=[-1])
    values = op.Concat(keypoints_xy, op.Unsqueeze(kept_visibility, last), axis=2)
    keypoints = op.Gather(values * op.Unsqueeze(weight, last), row_of_place, axis=0)
    return keypoints  # noqa: RET504 - the name becomes the output's
