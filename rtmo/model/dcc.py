"""Dynamic coordinate classifier: a pose vector and a box -> keypoints.

It runs on chosen people only: positives while training, survivors of suppression afterwards.
Everything here is float32, whatever the precision around it: phases of the bin encodings and
expectations over bins do not survive half precision.

Shapes: P people, K keypoints, X = 192 and Y = 256 bins, C = 128 channels.
Source: SPEC section 2.5; mmpose/models/heads/hybrid_heads/rtmo_head.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rtmo.boxes import xyxy_to_centre_size
from rtmo.model.gau import GatedAttentionUnit
from rtmo.model.layers import TORCH_NORM, SineEncoding

NUM_BINS_X, NUM_BINS_Y = 192, 256
CHANNELS = 128
"""Channels of a keypoint's features and of a bin's encoding."""
GAU_EXPANDED = 256
BIN_TEMPERATURE = 300.0
BOX_EXPANSION = 1.25
"""The bins span the box enlarged by this, about its centre."""
SIGMA_START = 0.1
"""Initial factor of the predicted sigmas."""


@dataclass(frozen=True, slots=True)
class CoordinateDistributions:
    """Where the classifier believes each keypoint to be, input pixels."""

    x_probabilities: Tensor
    """(P, K, X)."""
    y_probabilities: Tensor
    """(P, K, Y)."""
    x_bins: Tensor
    """(P, X): absolute position of every bin."""
    y_bins: Tensor
    """(P, Y)."""
    keypoints_xy: Tensor
    """(P, K, 2): expectations over the bins."""
    sigmas: Tensor
    """(P, K): predicted spread, relative to the square root of the person's area."""


class CoordinateAxis(nn.Module):
    """One coordinate: its bins, their encoding and the classification over them."""

    bins: Tensor

    def __init__(self, num_bins: int) -> None:
        super().__init__()
        # Even in number and symmetric about 0: `forward` encodes the right half only.
        self.register_buffer("bins", torch.linspace(-0.5, 0.5, num_bins), persistent=False)
        self.encoding = SineEncoding(CHANNELS, BIN_TEMPERATURE)
        self.fc = nn.Linear(CHANNELS, CHANNELS)

    def forward(self, features: Tensor, offset: Tensor, length: Tensor) -> Tensor:
        """Probability of every bin.

        The logits are features . (W encoding + b), and the encoding of a bin at offset + t is made
        of cos(offset + t) and sin(offset + t) at 64 waves. With f = features W, angle addition
        gives f_cos cos(offset + t) + f_sin sin(offset + t) = even(t) + odd(t), with

            even(t) = (f_cos cos(offset) + f_sin sin(offset)) cos(t),
            odd(t)  = (f_sin cos(offset) - f_cos sin(offset)) sin(t),

        so bins at -t and t share their waves: half the sines, half the products, the same number.
        features . b is equal for all bins, and kept so that b takes part.

        Args:
            features: (P, K, C).
            offset: (P,), box centre minus prior, pixels.
            length: (P,), extent of the bins, pixels.

        Returns:
            (P, K, bins).
        """
        wavelengths = self.encoding.wavelengths
        f_cos, f_sin = (features @ self.fc.weight).chunk(2, dim=-1)  # (P, K, C / 2)
        phase = (offset[:, None] / wavelengths)[:, None]  # (P, 1, C / 2)
        cos, sin = phase.cos(), phase.sin()
        half = self.bins[len(self.bins) // 2 :]
        angle = (length[:, None] / wavelengths)[..., None] * half  # (P, C / 2, bins / 2)
        even = (f_cos * cos + f_sin * sin) @ angle.cos()
        odd = (f_sin * cos - f_cos * sin) @ angle.sin()
        logits = torch.cat(((even - odd).flip(-1), even + odd), dim=-1)
        return _softmax(logits + (features @ self.fc.bias)[..., None])

    def expectation(self, probabilities: Tensor, centre: Tensor, length: Tensor) -> Tensor:
        """Mean position (P, K) under `probabilities` (P, K, bins), in the frame of `centre`."""
        position: Tensor = (probabilities @ self.bins) * length[:, None] + centre[:, None]
        return position


class KeypointClassifier(nn.Module):
    """Keypoint features and a box -> distributions over both axes' bins, and their means."""

    def __init__(self, num_keypoints: int) -> None:
        super().__init__()
        self.keypoint_positions = nn.Parameter(torch.randn(num_keypoints, CHANNELS))
        self.gau = GatedAttentionUnit(CHANNELS, GAU_EXPANDED, CHANNELS)
        self.x_axis = CoordinateAxis(NUM_BINS_X)
        self.y_axis = CoordinateAxis(NUM_BINS_Y)

    def forward(self, features: Tensor, offset: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (P, K, X) and (P, K, Y).

        Args:
            features: (P, K, C).
            offset: (P, 2), box centre minus prior, pixels.
            size: (P, 2), extent of the bins, pixels.
        """
        features = self.gau(features, self.keypoint_positions)
        return (
            self.x_axis(features, offset[:, 0], size[:, 0]),
            self.y_axis(features, offset[:, 1], size[:, 1]),
        )

    def expectations(self, x: Tensor, y: Tensor, centre: Tensor, size: Tensor) -> Tensor:
        """Mean positions (P, K, 2) in the frame in which `centre` is the bins' centre."""
        return torch.stack(
            (
                self.x_axis.expectation(x, centre[:, 0], size[:, 0]),
                self.y_axis.expectation(y, centre[:, 1], size[:, 1]),
            ),
            dim=-1,
        )

    def keypoints(self, features: Tensor, boxes_xyxy: Tensor, priors_xy: Tensor) -> Tensor:
        """Keypoints (P, K, 2) only, for inference.

        Expectations are taken relative to the prior and shifted once at the end.
        """
        centre, size = bin_frame(boxes_xyxy.float())
        offset = centre - priors_xy
        x, y = self(features, offset, size)
        return self.expectations(x, y, offset, size) + priors_xy[:, None]


class DynamicCoordinateClassifier(nn.Module):
    """Keypoints as expectations over bins laid on each person's box."""

    def __init__(self, in_channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.num_keypoints = num_keypoints
        features = num_keypoints * CHANNELS
        self.pose_fc = nn.Linear(in_channels, features)
        self.pose_norm = nn.BatchNorm1d(features, eps=TORCH_NORM.eps, momentum=TORCH_NORM.momentum)
        self.classifier = KeypointClassifier(num_keypoints)
        self.sigma_fc = nn.Linear(in_channels, num_keypoints)
        self.sigma_scale = nn.Parameter(torch.tensor(SIGMA_START))

    def forward(
        self, pose_vectors: Tensor, boxes_xyxy: Tensor, priors_xy: Tensor
    ) -> CoordinateDistributions:
        """Distributions over bins, expectations and sigmas, for training.

        Args:
            pose_vectors: (P, in_channels), any floating type.
            boxes_xyxy: (P, 4); gradients reach the boxes through the bins.
            priors_xy: (P, 2), the prior each person comes from.
        """
        with torch.autocast(pose_vectors.device.type, enabled=False):
            pose_vectors = pose_vectors.float()
            centre, size = bin_frame(boxes_xyxy.float())
            x, y = self.classifier(self.pose_features(pose_vectors), centre - priors_xy, size)
            return CoordinateDistributions(
                x_probabilities=x,
                y_probabilities=y,
                x_bins=self.classifier.x_axis.bins * size[:, :1] + centre[:, :1],
                y_bins=self.classifier.y_axis.bins * size[:, 1:] + centre[:, 1:],
                keypoints_xy=self.classifier.expectations(x, y, centre, size),
                sigmas=self.sigma_fc(pose_vectors).sigmoid() * self.sigma_scale,
            )

    def keypoints(self, pose_vectors: Tensor, boxes_xyxy: Tensor, priors_xy: Tensor) -> Tensor:
        """Keypoints (P, K, 2) only, for inference; arguments as in `forward`."""
        with torch.autocast(pose_vectors.device.type, enabled=False):
            features = self.pose_features(pose_vectors.float())
            return self.classifier.keypoints(features, boxes_xyxy, priors_xy)

    def pose_features(self, pose_vectors: Tensor) -> Tensor:
        """Normalised features of every keypoint, (P, in_channels) -> (P, K, C).

        One person has no batch statistics: such a batch is normalised by the running ones and
        leaves them alone (docs/decisions/batches-with-few-positives.md).
        """
        norm = self.pose_norm
        x = self.pose_fc(pose_vectors)
        if self.training and len(pose_vectors) == 1:
            x = F.batch_norm(
                x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
            )
        else:
            x = norm(x)
        return torch.unflatten(x, -1, (self.num_keypoints, CHANNELS))


def bin_frame(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    """Centre (P, 2) and extent (P, 2) of the bins of each box."""
    centre, size = xyxy_to_centre_size(boxes_xyxy)
    return centre, size * BOX_EXPANSION


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over the last axis with RTMO's guards: logits within 5e4, 1e-8 in the divisor."""
    logits = logits.clamp(-5e4, 5e4)
    exponentials = (logits - logits.amax(dim=-1, keepdim=True).detach()).exp()
    return exponentials / (exponentials.sum(dim=-1, keepdim=True) + 1e-8)
