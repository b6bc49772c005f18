"""Folding changes the module, not the numbers."""

import pytest
import torch
from torch import nn

from rtmo.model.build import build_rtmo
from rtmo.model.inference import fold
from rtmo.skeleton import COCO17, CROWDPOSE14


@pytest.fixture(params=[("t", COCO17), ("s", CROWDPOSE14)], ids=["t-17", "s-14"])
def model(request):
    torch.manual_seed(0)
    model = build_rtmo(*request.param)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.1)
    return model.eval()


def test_folded_model_says_the_same_and_leaves_the_original_alone(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    images = torch.rand(2, 3, 96, 160) * 255
    folded = fold(model)
    with torch.no_grad():
        raw = model(images)
        scores, boxes, visibility, poses = folded(images)
    torch.testing.assert_close(scores, raw.cls_logits.sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(boxes, raw.boxes_xyxy, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(visibility, raw.visibility_logits.sigmoid(), rtol=0, atol=1e-5)
    torch.testing.assert_close(poses, raw.pose_vectors, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(folded.priors_xy(96, 160), raw.priors_xy)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_folded_classifier_gives_the_same_keypoints(model):
    folded = fold(model)
    vectors = torch.randn(5, model.dcc.pose_fc.in_features)
    boxes = torch.tensor([[10.0, 20.0, 90.0, 150.0]]).repeat(5, 1)
    priors = torch.tensor([[55.5, 71.5]]).repeat(5, 1)
    with torch.no_grad():
        expected = model.dcc(vectors, boxes, priors).keypoints_xy
        actual = folded.keypoints(vectors, boxes, priors)
    # Rounding, where a heatmap has two peaks: 0.004 px at most over 30 random models.
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-2)


def test_nothing_of_training_is_left(model):
    folded = fold(model)
    kinds = {type(module) for module in folded.modules()}
    assert nn.BatchNorm2d not in kinds
    assert nn.BatchNorm1d not in kinds
    names = " ".join(name for name, _ in folded.named_parameters())
    assert "proxy" not in names
    assert "sigma" not in names
    assert "branch" not in names.replace("out_pose_branch", "")
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_images_of_a_wrong_shape_are_refused(model):
    with pytest.raises(ValueError, match=r"\(1, 3, 100, 96\), expected .* multiples of 32"):
        fold(model)(torch.zeros(1, 3, 100, 96))
