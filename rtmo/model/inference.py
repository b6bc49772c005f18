"""The same network for inference: norms folded into convolutions, training-only branches gone.

`fold` returns a new module and leaves the model as it was. The result exports to ONNX: what it
returns is what the raw form of the exported file holds.

Shapes: B images, N priors, P people, K keypoints, C channels of a pose vector.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtmo.model.config import Size
from rtmo.model.dcc import CHANNELS, DynamicCoordinateClassifier
from rtmo.model.head import Head, LevelHead, flatten_levels
from rtmo.model.layers import ConvNormAct, RepVGG
from rtmo.model.rtmo import RTMO, check_images
from rtmo.priors import decode_boxes, grid_priors
from rtmo.skeleton import Skeleton


class InferenceRTMO(nn.Module):
    """RTMO without anything that only training needs; made by `fold`."""

    def __init__(
        self,
        size: Size,
        skeleton: Skeleton,
        backbone: nn.Module,
        neck: nn.Module,
        head: InferenceHead,
        dcc: InferenceClassifier,
    ) -> None:
        super().__init__()
        self.size = size
        self.skeleton = skeleton
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.dcc = dcc

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What every prior says.

        Args:
            images: (B, 3, H, W) floating, BGR, 0..255; H and W multiples of 32.

        Returns:
            scores (B, N), boxes_xyxy (B, N, 4) in input pixels and not clipped, visibility
            (B, N, K) as probabilities, pose vectors (B, N, C).

        Raises:
            ValueError: if the images have another shape.
        """
        check_images(images)
        cls_logits, boxes_raw, visibility, pose_vectors = self.head(
            self.neck(self.backbone(images))
        )
        priors_xy, strides = _priors(images.shape[-2], images.shape[-1], images.device)
        boxes = decode_boxes(boxes_raw, priors_xy, strides)
        return cls_logits.sigmoid(), boxes, visibility.sigmoid(), pose_vectors

    def priors_xy(self, height: int, width: int) -> Tensor:
        """Positions (N, 2) of the priors of an input of this size, in the order of the outputs."""
        return _priors(height, width, self.dcc.pose_fc.weight.device)[0]

    def keypoints(self, pose_vectors: Tensor, boxes_xyxy: Tensor, priors_xy: Tensor) -> Tensor:
        """Keypoints (P, K, 2) in input pixels of chosen people.

        Args:
            pose_vectors: (P, C).
            boxes_xyxy: (P, 4), not clipped.
            priors_xy: (P, 2), the prior of each.
        """
        keypoints: Tensor = self.dcc(pose_vectors, boxes_xyxy, priors_xy)
        return keypoints


class InferenceLevelHead(nn.Module):
    """Head of one level with the three outputs of the pose branch in one convolution."""

    def __init__(self, level: LevelHead) -> None:
        """`level` has its norms folded already; its modules are taken over, not copied."""
        super().__init__()
        self.cls_convs = level.cls_convs
        self.pose_convs = level.pose_convs
        self.out_cls = level.out_cls
        outputs = (level.out_box, level.out_visibility, level.out_pose)
        self.channels = [output.out_channels for output in outputs]
        self.out_pose_branch = nn.Conv2d(level.out_box.in_channels, sum(self.channels), 1)
        self.out_pose_branch.weight = nn.Parameter(torch.cat([o.weight for o in outputs]))
        self.out_pose_branch.bias = nn.Parameter(torch.cat([_bias(o) for o in outputs]))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (B, channels, H, W) of the class logit and of box, visibility and pose vector."""
        cls_features, pose_features = features.chunk(2, dim=1)
        return (
            self.out_cls(self.cls_convs(cls_features)),
            self.out_pose_branch(self.pose_convs(pose_features)),
        )


class InferenceHead(nn.Module):
    """Both levels, flattened over priors."""

    def __init__(self, head: Head) -> None:
        super().__init__()
        levels = [
            InferenceLevelHead(level) for level in head.levels if isinstance(level, LevelHead)
        ]
        self.levels = nn.ModuleList(levels)
        self.channels = levels[0].channels

    def forward(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Class logits (B, N), boxes (B, N, 4), visibility logits (B, N, K), poses (B, N, C)."""
        maps = [level(x) for level, x in zip(self.levels, features, strict=True)]
        cls_logits = flatten_levels(tuple(cls for cls, _ in maps)).squeeze(-1)
        pose_branch = flatten_levels(tuple(pose for _, pose in maps))
        boxes, visibility, poses = torch.split(pose_branch, self.channels, dim=-1)
        return cls_logits, boxes, visibility, poses


class InferenceClassifier(nn.Module):
    """The coordinate classifier with its norm in its first layer and without the sigma branch.

    float32 like the training form; whoever lowers the precision elsewhere leaves
    `classifier.*.encoding` and the products with `bins` alone.
    """

    def __init__(self, dcc: DynamicCoordinateClassifier) -> None:
        """The modules of `dcc` are taken over, not copied."""
        super().__init__()
        self.num_keypoints = dcc.num_keypoints
        self.pose_fc = _folded_linear(dcc.pose_fc, dcc.pose_norm)
        self.classifier = dcc.classifier

    def forward(self, pose_vectors: Tensor, boxes_xyxy: Tensor, priors_xy: Tensor) -> Tensor:
        """Keypoints (P, K, 2) in input pixels; arguments as in `InferenceRTMO.keypoints`."""
        with torch.autocast(pose_vectors.device.type, enabled=False):
            features = self.pose_fc(pose_vectors.float())
            features = torch.unflatten(features, -1, (self.num_keypoints, CHANNELS))
            return self.classifier.keypoints(features, boxes_xyxy, priors_xy)


def fold(model: RTMO) -> InferenceRTMO:
    """A new inference module with the weights of `model`, on the same device.

    Batch norms and RepVGG branches become biased convolutions, the norm after the pose vector's
    projection becomes part of it, and the proxy and sigma branches are left out. Outputs differ by
    rounding only.
    """
    copied = copy.deepcopy(model)
    _fold_children(copied)
    folded = InferenceRTMO(
        model.size,
        model.skeleton,
        copied.backbone,
        copied.neck,
        InferenceHead(copied.head),
        InferenceClassifier(copied.dcc),
    )
    return folded.eval().requires_grad_(requires_grad=False)


def _fold_children(module: nn.Module) -> None:
    """Replace every block below `module` by its folded form."""
    for name, child in module.named_children():
        match child:
            case ConvNormAct():
                module.add_module(name, nn.Sequential(_folded_conv(child), child.activation))
            case RepVGG():
                module.add_module(name, nn.Sequential(_fused_branches(child), child.activation))
            case _:
                _fold_children(child)


def _folded_conv(block: ConvNormAct) -> nn.Conv2d:
    """One biased convolution equal to convolution and norm. Computed in float64."""
    conv, norm = block.conv, block.norm
    scale, shift = _affine(norm)
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]  # torch types it as a tuple of any length
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        groups=conv.groups,
    )
    weight = conv.weight.double() * scale[:, None, None, None]
    folded.weight = nn.Parameter(weight.to(conv.weight.dtype))
    folded.bias = nn.Parameter(shift.to(conv.weight.dtype))
    return folded


def _fused_branches(block: RepVGG) -> nn.Conv2d:
    """One 3x3 convolution equal to the sum of the 3x3 and the 1x1 branch."""
    fused, point = _folded_conv(block.branch_3x3), _folded_conv(block.branch_1x1)
    with torch.no_grad():
        fused.weight += F.pad(point.weight, (1, 1, 1, 1))
        _bias(fused).add_(_bias(point))
    return fused


def _folded_linear(fc: nn.Linear, norm: nn.BatchNorm1d) -> nn.Linear:
    """One linear layer equal to layer and norm. Computed in float64."""
    scale, shift = _affine(norm)
    folded = nn.Linear(fc.in_features, fc.out_features)
    weight = fc.weight.double() * scale[:, None]
    bias = fc.bias.double() * scale + shift
    folded.weight = nn.Parameter(weight.to(fc.weight.dtype))
    folded.bias = nn.Parameter(bias.to(fc.weight.dtype))
    return folded


def _affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Scale and shift (float64) that the norm applies in evaluation."""
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return scale, norm.bias.double() - norm.running_mean.double() * scale


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def _priors(height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return grid_priors([(height // 16, width // 16), (height // 32, width // 32)], device)
