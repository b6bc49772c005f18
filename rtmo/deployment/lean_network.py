"""The folded network in fewer operations, as it is exported: the same function but for rounding.

Four products of convolutions or layers with nothing between them are multiplied out, in float64:

- the stem's 2x2 blocks and its 3x3 convolution are one 6x6 convolution of stride 2;
- the neck's projections of the two finer maps disappear in the 1x1 convolutions that read them;
- those convolutions read two maps side by side, the coarser one doubled: they are applied to each
  map, to the coarser one before it is doubled, and added, so a quarter of that half is computed;
- the pose vector and the classifier's first layer are one layer of the head's features, computed
  for the people that are kept instead of for every prior.

Shapes: B images, C channels, H W map size, N priors, P people, K keypoints.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtmo.model.csp_darknet import CSPDarknet
from rtmo.model.dcc import CHANNELS
from rtmo.model.head import flatten_levels
from rtmo.model.hybrid_encoder import HIDDEN, CSPRep, HybridEncoder
from rtmo.model.inference import InferenceClassifier, InferenceLevelHead, InferenceRTMO
from rtmo.model.rtmo import check_images
from rtmo.priors import decode_boxes, grid_priors

STRIDES = (16, 32)
"""Of the two levels, pixels."""


class LeanRTMO(nn.Module):
    """A folded network for export."""

    def __init__(self, network: InferenceRTMO) -> None:
        """The modules of `network` are taken over, not copied."""
        super().__init__()
        assert isinstance(network.backbone, CSPDarknet)
        assert isinstance(network.neck, HybridEncoder)
        levels = [level for level in network.head.levels if isinstance(level, InferenceLevelHead)]
        self.backbone = network.backbone
        self.backbone.stem = nn.Sequential(_stem(network.backbone), nn.SiLU())  # type: ignore[assignment]  # another module of the same shapes
        self.neck = LeanNeck(network.neck)
        self.head = LeanHead(levels)
        self.dcc = LeanClassifier(network.dcc, levels)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What every prior says.

        Args:
            images: (B, 3, H, W) floating, BGR, 0..255; H and W multiples of 32.

        Returns:
            scores (B, N), boxes_xyxy (B, N, 4) in input pixels and not clipped, visibility
            (B, N, K) as probabilities, pose features (B, N, C).

        Raises:
            ValueError: if the images have another shape.
        """
        check_images(images)
        cls_logits, boxes_raw, visibility, features = self.head(self.neck(self.backbone(images)))
        priors = self.priors(images.shape[2], images.shape[3])
        boxes = decode_boxes(boxes_raw, priors[:, :2], priors[:, 2])
        return cls_logits.sigmoid(), boxes, visibility.sigmoid(), features

    def priors(self, height: int, width: int) -> Tensor:
        """Position and stride (N, 3) of the priors of an input, in the order of the outputs."""
        priors_xy, strides = grid_priors(
            [(height // stride, width // stride) for stride in STRIDES], torch.device("cpu")
        )
        return torch.cat((priors_xy, strides[:, None]), dim=1)

    def keypoints(self, features: Tensor, boxes_xyxy: Tensor, priors: Tensor) -> Tensor:
        """Keypoints (P, K, 2) in input pixels of chosen people.

        Args:
            features: (P, C), pose features.
            boxes_xyxy: (P, 4), not clipped.
            priors: (P, 3), position and stride of the prior of each.
        """
        keypoints: Tensor = self.dcc(features, boxes_xyxy, priors)
        return keypoints


class LeanNeck(nn.Module):
    """`HybridEncoder` without its projections of the finer maps."""

    def __init__(self, neck: HybridEncoder) -> None:
        super().__init__()
        to_fine, to_middle, self.input_proj = neck.input_proj
        self.positions = neck.positions
        self.encoder = neck.encoder
        self.lateral = neck.lateral
        self.top_down = nn.ModuleList(
            TopDownMerge(merge, _first_conv(projection))
            for merge, projection in zip(neck.top_down, (to_middle, to_fine), strict=True)
            if isinstance(merge, CSPRep)
        )
        self.downsample = neck.downsample
        self.bottom_up = neck.bottom_up
        self.projector = neck.projector

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Backbone maps of strides 8, 16, 32 -> head maps of strides 16, 32."""
        c3, c4, c5 = maps
        lateral_5 = self.lateral[0](self._attend(self.input_proj(c5)))
        lateral_4 = self.lateral[1](self.top_down[0](lateral_5, c4))
        o3 = self.top_down[1](lateral_4, c3)
        o4 = self.bottom_up[0](self.downsample[0](o3), lateral_4)
        o5 = self.bottom_up[1](self.downsample[1](o4), lateral_5)
        return self.projector[0](o4), self.projector[1](o5)

    def _attend(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[-2:]
        tokens = self.encoder(x.flatten(2).transpose(1, 2), self.positions(rows, columns))
        return torch.unflatten(tokens.transpose(1, 2), 2, (rows, columns))


class TopDownMerge(nn.Module):
    """`CSPRep` of a map that is doubled and of a map that is projected first."""

    def __init__(self, merge: CSPRep, projection: nn.Conv2d) -> None:
        super().__init__()
        self.conv1 = PairConv(_first_conv(merge.conv1), projection)
        self.conv2 = PairConv(_first_conv(merge.conv2), projection)
        self.blocks = merge.blocks
        self.conv3 = merge.conv3

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, H / 2, W / 2) and (B, C', H, W) -> (B, C, H, W)."""
        merged: Tensor = self.conv3(
            self.blocks(self.conv1(coarse, fine)) + self.conv2(coarse, fine)
        )
        return merged


class PairConv(nn.Module):
    """SiLU of a 1x1 convolution of a doubled map and a projected map side by side."""

    def __init__(self, conv: nn.Conv2d, projection: nn.Conv2d) -> None:
        super().__init__()
        of_coarse, of_fine = conv.weight[:, :HIDDEN], conv.weight[:, HIDDEN:].double().flatten(1)
        weight = of_fine @ projection.weight.double().flatten(1)
        bias = _bias(conv).double() + of_fine @ _bias(projection).double()
        self.coarse = nn.Conv2d(HIDDEN, conv.out_channels, 1, bias=False)
        self.coarse.weight = nn.Parameter(of_coarse.clone())
        self.fine = nn.Conv2d(projection.in_channels, conv.out_channels, 1)
        self.fine.weight = nn.Parameter(weight.to(conv.weight.dtype)[..., None, None])
        self.fine.bias = nn.Parameter(bias.to(conv.weight.dtype))
        self.activation = nn.SiLU()

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(B, C, H / 2, W / 2) and (B, C', H, W) -> (B, C'', H, W)."""
        doubled = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        activated: Tensor = self.activation(doubled + self.fine(fine))
        return activated


class LeanLevelHead(nn.Module):
    """Head of one level that gives its pose features instead of pose vectors."""

    def __init__(self, level: InferenceLevelHead) -> None:
        super().__init__()
        self.cls_convs = level.cls_convs
        self.pose_convs = level.pose_convs
        self.out_cls = level.out_cls
        outputs = level.out_pose_branch
        channels = sum(level.channels[:2])
        self.out_box_visibility = nn.Conv2d(outputs.in_channels, channels, 1)
        self.out_box_visibility.weight = nn.Parameter(outputs.weight[:channels].clone())
        self.out_box_visibility.bias = nn.Parameter(_bias(outputs)[:channels].clone())

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps (B, channels, H, W): class logit; box and visibility; pose features."""
        cls_features, pose_features = features.chunk(2, dim=1)
        pose_features = self.pose_convs(pose_features)
        return (
            self.out_cls(self.cls_convs(cls_features)),
            self.out_box_visibility(pose_features),
            pose_features,
        )


class LeanHead(nn.Module):
    """Both levels, flattened over priors."""

    def __init__(self, levels: list[InferenceLevelHead]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(LeanLevelHead(level) for level in levels)
        self.channels = levels[0].channels[:2]

    def forward(self, features: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Class logits (B, N), boxes (B, N, 4), visibility logits (B, N, K), features (B, N, C)."""
        maps = [level(x) for level, x in zip(self.levels, features, strict=True)]
        cls_logits, box_visibility, pose_features = (
            flatten_levels(levels) for levels in zip(*maps, strict=True)
        )
        boxes, visibility = torch.split(box_visibility, self.channels, dim=-1)
        return cls_logits.squeeze(-1), boxes, visibility, pose_features


class LeanClassifier(nn.Module):
    """The coordinate classifier on pose features; its first layer is another one for each level."""

    def __init__(self, dcc: InferenceClassifier, levels: list[InferenceLevelHead]) -> None:
        super().__init__()
        self.num_keypoints = dcc.num_keypoints
        self.fine_fc, self.coarse_fc = (_pose_layer(level, dcc.pose_fc) for level in levels)
        self.classifier = dcc.classifier

    def forward(self, features: Tensor, boxes_xyxy: Tensor, priors: Tensor) -> Tensor:
        """Keypoints (P, K, 2) in input pixels; arguments as in `LeanRTMO.keypoints`."""
        is_fine = priors[:, 2:] == STRIDES[0]  # (P, 1)
        features = torch.where(is_fine, self.fine_fc(features), self.coarse_fc(features))
        features = torch.unflatten(features, -1, (self.num_keypoints, CHANNELS))
        return self.classifier.keypoints(features, boxes_xyxy, priors[:, :2])


def _stem(backbone: CSPDarknet) -> nn.Conv2d:
    """The stem's convolution of 2x2 blocks as one of pixels.

    Channels of a block are, all colours each, its pixels (0, 0), (1, 0), (0, 1), (1, 1) as (row,
    column), as `space_to_channels` lays them; a block's place in the kernel is two pixels wide.
    """
    conv = _first_conv(backbone.stem.conv)
    kernel = conv.kernel_size[0]
    blocks = conv.weight.reshape(conv.out_channels, 2, 2, 3, kernel, kernel)  # column, row, colour
    pixels = nn.Conv2d(3, conv.out_channels, 2 * kernel, stride=2, padding=2 * (kernel // 2))
    pixels.weight = nn.Parameter(blocks.permute(0, 3, 4, 2, 5, 1).reshape(pixels.weight.shape))
    pixels.bias = nn.Parameter(_bias(conv).clone())
    return pixels


def _pose_layer(level: InferenceLevelHead, pose_fc: nn.Linear) -> nn.Linear:
    """A level's pose vector and the classifier's first layer as one layer."""
    outputs, first = level.out_pose_branch, sum(level.channels[:2])
    to_vector = outputs.weight[first:].double().flatten(1)
    weight = pose_fc.weight.double() @ to_vector
    bias = pose_fc.bias.double() + pose_fc.weight.double() @ _bias(outputs)[first:].double()
    layer = nn.Linear(outputs.in_channels, pose_fc.out_features)
    layer.weight = nn.Parameter(weight.to(pose_fc.weight.dtype))
    layer.bias = nn.Parameter(bias.to(pose_fc.weight.dtype))
    return layer


def _first_conv(block: nn.Module) -> nn.Conv2d:
    """The convolution of a folded block, which an activation follows."""
    assert isinstance(block, nn.Sequential)
    conv = block[0]
    assert isinstance(conv, nn.Conv2d)
    return conv


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias
