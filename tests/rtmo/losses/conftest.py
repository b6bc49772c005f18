"""Small network outputs and targets to assign and score."""

import pytest
import torch

from rtmo.priors import grid_priors
from rtmo.structures import RawOutputs, TargetBatch


@pytest.fixture
def make_raw():
    """Outputs for a 96 x 96 input (36 + 9 priors) whose boxes are 40 px squares on the priors."""

    def make(batch=1, num_keypoints=2, channels=8):
        priors_xy, strides = grid_priors([(6, 6), (3, 3)])
        half = torch.full((2,), 20.0)
        boxes = torch.cat((priors_xy - half, priors_xy + half), dim=1).repeat(batch, 1, 1)
        count = len(strides)
        return RawOutputs(
            cls_logits=torch.zeros(batch, count),
            boxes_raw=torch.zeros(batch, count, 4),
            boxes_xyxy=boxes,
            proxy_keypoints_xy=priors_xy[None, :, None].repeat(batch, 1, num_keypoints, 1),
            visibility_logits=torch.zeros(batch, count, num_keypoints),
            pose_vectors=torch.zeros(batch, count, channels),
            priors_xy=priors_xy,
            strides=strides,
        )

    return make


@pytest.fixture
def make_targets():
    """One image with people given as boxes; all keypoints at the box centre and labelled."""

    def make(boxes, num_keypoints=2, keypoints=None, labelled=None):
        boxes = torch.tensor(boxes, dtype=torch.float32).reshape(1, -1, 4)
        centres = (boxes[..., :2] + boxes[..., 2:]) / 2
        if keypoints is None:
            keypoints = centres[:, :, None].repeat(1, 1, num_keypoints, 1)
        if labelled is None:
            labelled = torch.ones(keypoints.shape[:-1])
        sizes = boxes[..., 2:] - boxes[..., :2]
        return TargetBatch(
            boxes_xyxy=boxes,
            keypoints_xy=keypoints,
            is_labelled=labelled,
            is_annotated=torch.ones_like(labelled),
            areas=sizes.prod(dim=-1),
            is_person=torch.ones(boxes.shape[:2], dtype=torch.bool),
            ignore_mask=None,
        )

    return make
