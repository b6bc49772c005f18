"""From priors to people."""

import dataclasses

import pytest
import torch

from rtmo.model.build import build_rtmo
from rtmo.model.decode import decode, select_people
from rtmo.skeleton import COCO17


@pytest.fixture(scope="module")
def outputs():
    torch.manual_seed(0)
    model = build_rtmo("t", COCO17).eval()
    with torch.no_grad():
        raw = model(torch.rand(2, 3, 96, 160) * 255)
    return model, dataclasses.replace(raw, cls_logits=torch.randn_like(raw.cls_logits))


def test_the_threshold_itself_is_left_out_and_the_best_comes_first():
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]])
    scores = torch.tensor([0.5, 0.1, 0.9])
    kept = select_people(scores, boxes, score_threshold=0.1, nms_iou=0.65)
    assert kept.tolist() == [2, 0]


def test_the_limit_counts_people_after_suppression():
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 9, 9], [40, 0, 49, 9], [60, 0, 69, 9]])
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6])
    kept = select_people(scores, boxes, score_threshold=0.1, nms_iou=0.65, max_people=2)
    assert kept.tolist() == [0, 2]


def test_nobody_gives_empty_poses_of_the_right_shape(outputs):
    model, raw = outputs
    nobody = dataclasses.replace(raw, cls_logits=torch.full_like(raw.cls_logits, -20))
    for poses in decode(nobody, model.dcc, score_threshold=0.1, nms_iou=0.65):
        assert poses.boxes_xyxy.shape == (0, 4)
        assert poses.keypoints_xy.shape == (0, 17, 2)
        assert poses.keypoint_scores.shape == (0, 17)


def test_images_are_decoded_as_if_alone(outputs):
    model, raw = outputs
    thresholds = {"score_threshold": 0.5, "nms_iou": 0.3, "max_people": 5}
    with torch.no_grad():
        together = decode(raw, model.dcc, **thresholds)
        for image, poses in enumerate(together):
            alone = dataclasses.replace(
                raw,
                **{
                    field.name: getattr(raw, field.name)[image : image + 1]
                    for field in dataclasses.fields(raw)
                    if field.name not in ("priors_xy", "strides")
                },
            )
            single = decode(alone, model.dcc, **thresholds)[0]
            assert torch.equal(poses.prior_ids, single.prior_ids)
            torch.testing.assert_close(poses.keypoints_xy, single.keypoints_xy, atol=1e-3, rtol=0)


def test_boxes_are_clipped_to_an_input_that_is_not_square(outputs):
    model, raw = outputs
    wide = dataclasses.replace(
        raw, boxes_xyxy=torch.tensor([-50.0, -50, 999, 999]).expand(2, 75, 4)
    )
    poses = decode(wide, model.dcc, score_threshold=0.0, nms_iou=0.65, max_people=1)[0]
    assert poses.boxes_xyxy.tolist() == [[0, 0, 160, 96]]
