"""The names of mmpose's RTMO state dict, in its order, beside ours.

Source: SPEC section 8; checked against the official key lists in tests/golden.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rtmo.model.config import SCALES, Size
from rtmo.model.csp_darknet import BASE_BLOCKS
from rtmo.model.head import NUM_CLS_CONVS, NUM_POSE_CONVS
from rtmo.model.hybrid_encoder import HIDDEN


class KeyPair(NamedTuple):
    """One entry of mmpose's state dict."""

    official: str
    """mmpose's name."""
    ours: str | None
    """Our parameter or buffer; None for a constant that mmpose stores and we compute."""


def key_pairs(size: Size) -> tuple[KeyPair, ...]:
    """Every entry of mmpose's state dict of this size, in its order.

    Example:
        >>> pairs = key_pairs("s")
        >>> len(pairs), pairs[1].official, pairs[1].ours
        (514, 'backbone.stem.conv.bn.weight', 'backbone.stem.conv.norm.weight')
    """
    scale = SCALES[size]
    blocks = tuple(max(round(base * scale.depth), 1) for base in BASE_BLOCKS)
    return (
        *_backbone(blocks),
        *_neck(rep_blocks=round(3 * scale.depth), has_conv3=scale.width * HIDDEN != HIDDEN),
        KeyPair("head.loss_oks.sigmas", None),
        *_head(),
        *_dcc(),
    )


def _same(official: str, ours: str, *names: str) -> Iterator[KeyPair]:
    """Entries that have the same last name under both prefixes."""
    for name in names:
        yield KeyPair(f"{official}.{name}", f"{ours}.{name}")


def _norm(official: str, ours: str) -> Iterator[KeyPair]:
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    yield from _same(official, ours, "weight", "bias", *statistics)


def _conv_norm(official: str, ours: str) -> Iterator[KeyPair]:
    yield from _same(f"{official}.conv", f"{ours}.conv", "weight")
    yield from _norm(f"{official}.bn", f"{ours}.norm")


def _backbone(blocks: tuple[int, ...]) -> Iterator[KeyPair]:
    yield from _conv_norm("backbone.stem.conv", "backbone.stem.conv")
    for stage, num_blocks in enumerate(blocks, start=1):
        prefix = f"backbone.stage{stage}"
        yield from _conv_norm(f"{prefix}.0", f"{prefix}.0")
        csp = f"{prefix}.1"
        if stage == len(blocks):
            csp = f"{prefix}.2"
            yield from _conv_norm(f"{prefix}.1.conv1", f"{prefix}.1.reduce")
            yield from _conv_norm(f"{prefix}.1.conv2", f"{prefix}.1.merge")
        for part in ("main", "short", "final"):
            yield from _conv_norm(f"{csp}.{part}_conv", f"{csp}.{part}")
        for block in range(num_blocks):
            for conv in ("conv1", "conv2"):
                yield from _conv_norm(
                    f"{csp}.blocks.{block}.{conv}", f"{csp}.blocks.{block}.{conv}"
                )


def _neck(*, rep_blocks: int, has_conv3: bool) -> Iterator[KeyPair]:
    for level in range(3):
        yield from _conv_norm(f"neck.input_proj.{level}", f"neck.input_proj.{level}")
    yield from _encoder("neck.encoder.0.layers.0", "neck.encoder")
    yield KeyPair("neck.sincos_pos_enc.dim_t", None)
    for level in range(2):
        yield from _conv_norm(f"neck.lateral_convs.{level}", f"neck.lateral.{level}")
    for level in range(2):
        official, ours = f"neck.fpn_blocks.{level}", f"neck.top_down.{level}"
        yield from _csp_rep(official, ours, rep_blocks, has_conv3=has_conv3)
    for level in range(2):
        yield from _conv_norm(f"neck.downsample_convs.{level}", f"neck.downsample.{level}")
    for level in range(2):
        official, ours = f"neck.pan_blocks.{level}", f"neck.bottom_up.{level}"
        yield from _csp_rep(official, ours, rep_blocks, has_conv3=has_conv3)
    for level in range(2):
        yield from _conv_norm(f"neck.projector.convs.{level}", f"neck.projector.{level}")


def _encoder(official: str, ours: str) -> Iterator[KeyPair]:
    attention = (f"{official}.self_attn.attn", f"{ours}.attention")
    yield from _same(*attention, "in_proj_weight", "in_proj_bias")
    yield from _same(*attention, "out_proj.weight", "out_proj.bias")
    yield from _same(f"{official}.ffn.layers.0.0", f"{ours}.expand", "weight", "bias")
    yield from _same(f"{official}.ffn.layers.1", f"{ours}.contract", "weight", "bias")
    yield from _same(f"{official}.norms.0", f"{ours}.attention_norm", "weight", "bias")
    yield from _same(f"{official}.norms.1", f"{ours}.feedforward_norm", "weight", "bias")


def _csp_rep(official: str, ours: str, num_blocks: int, *, has_conv3: bool) -> Iterator[KeyPair]:
    for conv in ("conv1", "conv2"):
        yield from _conv_norm(f"{official}.{conv}", f"{ours}.{conv}")
    for block in range(num_blocks):
        for branch in ("branch_3x3", "branch_1x1"):
            yield from _conv_norm(
                f"{official}.bottlenecks.{block}.{branch}", f"{ours}.blocks.{block}.{branch}"
            )
    if has_conv3:
        yield from _conv_norm(f"{official}.conv3", f"{ours}.conv3")


def _head() -> Iterator[KeyPair]:
    module = "head.head_module"
    outputs = {"out_bbox": "out_box", "out_kpt_reg": "out_proxy"}
    outputs |= {"out_kpt_vis": "out_visibility", "out_pose": "out_pose"}
    yield from _head_convs("conv_cls", "cls_convs", NUM_CLS_CONVS)
    for level in range(2):
        ours = f"head.levels.{level}.out_cls"
        yield from _same(f"{module}.out_cls.{level}", ours, "weight", "bias")
    yield from _head_convs("conv_pose", "pose_convs", NUM_POSE_CONVS)
    for official, name in outputs.items():
        for level in range(2):
            ours = f"head.levels.{level}.{name}"
            yield from _same(f"{module}.{official}.{level}", ours, "weight", "bias")


def _head_convs(official: str, ours: str, count: int) -> Iterator[KeyPair]:
    for level in range(2):
        for conv in range(count):
            yield from _conv_norm(
                f"head.head_module.{official}.{level}.{conv}", f"head.levels.{level}.{ours}.{conv}"
            )


def _dcc() -> Iterator[KeyPair]:
    yield KeyPair("head.dcc.pos_enc", "dcc.classifier.keypoint_positions")
    for constant in ("y_bins", "x_bins", "spe.dim_t"):
        yield KeyPair(f"head.dcc.{constant}", None)
    yield from _same("head.dcc.gau", "dcc.classifier.gau", "gamma", "beta")
    yield KeyPair("head.dcc.gau.o.weight", "dcc.classifier.gau.out.weight")
    yield KeyPair("head.dcc.gau.uv.weight", "dcc.classifier.gau.uv.weight")
    yield KeyPair("head.dcc.gau.ln.g", "dcc.classifier.gau.norm.g")
    yield KeyPair("head.dcc.gau.res_scale.scale", "dcc.classifier.gau.residual_scale")
    yield from _same("head.dcc.pose_to_kpts.0", "dcc.pose_fc", "weight", "bias")
    yield from _norm("head.dcc.pose_to_kpts.1", "dcc.pose_norm")
    yield from _same("head.dcc.x_fc", "dcc.classifier.x_axis.fc", "weight", "bias")
    yield from _same("head.dcc.y_fc", "dcc.classifier.y_axis.fc", "weight", "bias")
    yield from _same("head.dcc.sigma_fc.0", "dcc.sigma_fc", "weight", "bias")
    yield KeyPair("head.dcc.sigma_fc.2.scale", "dcc.sigma_scale")
