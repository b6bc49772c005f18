"""Batches with few positives, precision, and what each branch learns from."""

import dataclasses

import pytest
import torch

from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model.build import build_rtmo
from rtmo.skeleton import CROWDPOSE14
from rtmo.structures import TargetBatch

PHASES = (LossConfig(), LossConfig(proxy_target="dcc", bbox_l1=1.0, mle=5.0, oks=10.0))


def people(boxes, skeleton=CROWDPOSE14):
    """A batch of two images; `boxes` are of the first one."""
    boxes = torch.tensor(boxes).reshape(1, -1, 4)
    count, keypoints = boxes.shape[1], skeleton.num_keypoints
    low, high = boxes[:, :, None, :2], boxes[:, :, None, 2:]
    positions = low + (high - low) * torch.rand(1, count, keypoints, 2)
    labelled = torch.ones(1, count, keypoints)
    areas = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1)
    batch = TargetBatch(
        boxes,
        positions,
        labelled,
        torch.ones_like(labelled),
        areas,
        torch.ones(1, count, dtype=torch.bool),
        None,
    )
    doubled = {
        field.name: torch.cat((value, torch.zeros_like(value)))
        for field in dataclasses.fields(batch)
        if (value := getattr(batch, field.name)) is not None
    }
    return TargetBatch(**doubled, ignore_mask=None)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return build_rtmo("t", CROWDPOSE14).train()


@pytest.fixture
def images():
    return torch.rand(2, 3, 96, 128, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("config", PHASES, ids=["ground_truth", "dcc"])
def test_without_positives_the_loss_is_finite_and_every_parameter_has_a_gradient(
    model, images, config
):
    before = model.dcc.pose_norm.running_mean.clone()
    losses = Criterion(CROWDPOSE14)(model(images), people([]), model.dcc, config)
    losses.total.backward()
    assert losses.num_positives == 0
    assert losses.total.item() == pytest.approx(losses.terms["cls"].item())
    assert losses.total > 0
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(g is not None and g.isfinite().all() for g in gradients.values())
    assert all(not gradients[name].any() for name in gradients if name.startswith("dcc."))
    assert torch.equal(model.dcc.pose_norm.running_mean, before)


@pytest.mark.parametrize("config", PHASES, ids=["ground_truth", "dcc"])
def test_a_single_positive_trains_and_leaves_the_running_statistics_alone(model, images, config):
    before = model.dcc.pose_norm.running_mean.clone()
    # a keypoint is labelled nowhere near its prediction, so OKS sums to less than one
    targets = people([[40.0, 30.0, 46.0, 36.0]])
    losses = Criterion(CROWDPOSE14)(model(images), targets, model.dcc, config)
    losses.total.backward()
    assert losses.num_positives == 1
    assert all(p.grad.isfinite().all() for p in model.parameters())
    assert model.dcc.pose_fc.weight.grad.any()
    assert torch.equal(model.dcc.pose_norm.running_mean, before)


def test_several_positives_move_the_running_statistics(model, images):
    before = model.dcc.pose_norm.running_mean.clone()
    targets = people([[10.0, 10.0, 60.0, 80.0], [60.0, 20.0, 120.0, 90.0]])
    losses = Criterion(CROWDPOSE14)(model(images), targets, model.dcc, LossConfig())
    assert losses.num_positives > 1
    assert not torch.equal(model.dcc.pose_norm.running_mean, before)


def test_the_total_is_the_sum_of_the_terms(model, images):
    targets = people([[10.0, 10.0, 60.0, 80.0]])
    losses = Criterion(CROWDPOSE14)(model(images), targets, model.dcc, PHASES[1])
    assert set(losses.terms) == {"cls", "bbox", "bbox_l1", "vis", "mle", "oks"}
    torch.testing.assert_close(losses.total, sum(losses.terms.values()))


def test_mixed_precision_rounds_the_network_but_not_the_loss(model, images):
    model.eval()
    targets = people([[10.0, 10.0, 60.0, 80.0]])
    criterion = Criterion(CROWDPOSE14)
    exact = criterion(model(images), targets, model.dcc, LossConfig())
    with torch.autocast("cpu", torch.bfloat16):
        raw = model(images)
        rounded = criterion(raw, targets, model.dcc, LossConfig())
    assert all(getattr(raw, field.name).dtype == torch.float32 for field in dataclasses.fields(raw))
    assert rounded.total.dtype == torch.float32
    torch.testing.assert_close(rounded.total, exact.total, rtol=0.05, atol=0)


def test_unlabelled_keypoints_do_not_move_any_loss(model, images):
    model.eval()
    targets = people([[10.0, 10.0, 60.0, 80.0]])
    targets.is_labelled[0, 0, 3:] = 0.0
    moved = dataclasses.replace(targets, keypoints_xy=targets.keypoints_xy.clone())
    moved.keypoints_xy[0, 0, 3:] += 1000.0
    criterion = Criterion(CROWDPOSE14)
    with torch.no_grad():
        raw = model(images)
        a, b = (criterion(raw, t, model.dcc, LossConfig()) for t in (targets, moved))
    torch.testing.assert_close(a.total, b.total)


def test_an_ignored_region_takes_negatives_out_of_the_class_loss(model, images):
    targets = people([])
    whole = dataclasses.replace(targets, ignore_mask=torch.ones(2, 96, 128))
    model.eval()
    raw = dataclasses.replace(model(images))
    centred = dataclasses.replace(
        raw, proxy_keypoints_xy=torch.full_like(raw.proxy_keypoints_xy, 48.0)
    )
    losses = Criterion(CROWDPOSE14)(centred, whole, model.dcc, LossConfig())
    assert losses.terms["cls"].item() == pytest.approx(0.0, abs=1e-6)


def test_wider_sigmas_forgive_distant_keypoints(model, images):
    criterion, targets = Criterion(CROWDPOSE14), people([[20.0, 10.0, 90.0, 80.0]])
    raw = model(images)
    narrow, wide = (
        criterion(raw, targets, model.dcc, LossConfig(sigma_scale=scale)).terms["oks"].item()
        for scale in (1.0, 3.0)
    )
    assert wide < narrow
