"""Fresh weights follow the published rule, and the seed."""

import math

import pytest
import torch
from torch import nn

from rtmo.model.build import build_rtmo
from rtmo.model.initialisation import calm_classifier


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    return build_rtmo("s")


def test_the_same_seed_gives_the_same_weights(model):
    torch.manual_seed(3)
    again = build_rtmo("s").state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())


def test_every_prior_starts_with_a_score_of_a_hundredth(model):
    for level in model.head.levels:
        assert level.out_cls.bias.item() == pytest.approx(-math.log(99))


def test_convolution_biases_are_zero_but_for_the_score(model):
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is not None and "cls" not in name:
            assert not module.bias.any(), name


def test_spreads_follow_the_rule_of_each_part(model):
    uniform = model.backbone.stage3[0].conv.weight  # kaiming uniform: bound 1 / sqrt(fan in)
    bound = 1 / math.sqrt(128 * 9)
    assert uniform.abs().max() <= bound
    assert uniform.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    normal = model.neck.downsample[0].conv.weight  # kaiming normal: sqrt(2 / fan out)
    assert normal.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)
    projector = model.neck.projector[0].conv.weight  # xavier uniform
    assert projector.abs().max().item() == pytest.approx(math.sqrt(6 / 512), rel=0.01)
    branch = model.neck.top_down[0].blocks[0].branch_3x3.conv.weight
    assert branch.abs().max() <= 1 / math.sqrt(128 * 9)


def test_a_calm_classifier_begins_with_keypoints_at_the_middle_of_the_box():
    torch.manual_seed(3)
    published, calm = build_rtmo("t").eval(), build_rtmo("t").eval()
    calm_classifier(calm)
    vectors = torch.randn(64, 192)
    boxes = torch.tensor([20.0, 40.0, 120.0, 180.0]).expand(64, 4)
    priors = torch.full((64, 2), 80.0)
    middle = torch.tensor([70.0, 110.0])

    def spread(model):
        return (model.dcc.keypoints(vectors, boxes, priors) - middle).norm(dim=-1).mean().item()

    with torch.no_grad():
        assert spread(calm) < 0.3 * spread(published)
