"""Random initialisation of a whole model, as the official training starts (SPEC section 2.6)."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import init

from rtmo.model.head import LevelHead
from rtmo.model.hybrid_encoder import HybridEncoder, SelfAttention
from rtmo.model.layers import ConvNormAct
from rtmo.model.rtmo import RTMO

CLS_PRIOR = 0.01
"""Score of every prior at the start: the bias of the classification output is its logit."""


def initialise(model: RTMO) -> None:
    """Draw every weight of `model` in place from torch's global generator.

    What is not named here keeps the rule its constructor has: Linear layers torch's default,
    gamma and beta U(0, 1), keypoint positions N(0, 1), norms 1 and 0, scales 1.
    """
    for module in model.modules():
        match module:
            case nn.Conv2d():
                init.kaiming_uniform_(module.weight, a=math.sqrt(5))
                if module.bias is not None:
                    init.zeros_(module.bias)
            case SelfAttention():
                init.xavier_uniform_(module.in_proj_weight)
                init.zeros_(module.in_proj_bias)
                init.zeros_(module.out_proj.bias)
            case _:
                pass
    _initialise_neck(model.neck)
    init.xavier_uniform_(model.dcc.classifier.gau.uv.weight)
    for module in model.head.modules():
        if isinstance(module, LevelHead) and module.out_cls.bias is not None:
            init.constant_(module.out_cls.bias, -math.log(1 / CLS_PRIOR - 1))


CALM_ENCODING_FACTOR = 0.1


def calm_classifier(model: RTMO) -> None:
    """Let the coordinate classifier start from even heatmaps; call after `initialise`.

    With the published rule the first heatmaps are noise of pixel frequency. Without a pre-trained
    backbone the likelihood then stays at the mean pose for thousands of steps
    (docs/experiments.md). Here the gated unit starts as the identity and the bins' encodings are
    scaled down. Only where training starts is changed, not what is trained.
    """
    classifier = model.dcc.classifier
    init.zeros_(classifier.gau.out.weight)
    for axis in (classifier.x_axis, classifier.y_axis):
        axis.fc.weight.data.mul_(CALM_ENCODING_FACTOR)


def _initialise_neck(neck: HybridEncoder) -> None:
    """The pyramid's plain convolutions: kaiming normal; the projector's: xavier uniform.

    RepVGG blocks keep the rule of every convolution.
    """
    plain = [*neck.input_proj, *neck.lateral, *neck.downsample]
    for block in (*neck.top_down, *neck.bottom_up):
        plain.extend(child for child in block.children() if isinstance(child, ConvNormAct))
    for conv in plain:
        init.kaiming_normal_(_kernel(conv), mode="fan_out", nonlinearity="relu")
    for conv in neck.projector:
        init.xavier_uniform_(_kernel(conv))


def _kernel(block: nn.Module) -> Tensor:
    assert isinstance(block, ConvNormAct)
    return block.conv.weight
