"""Assignment, loss terms, gradients and batch-norm statistics agree with the official training.

Tolerances are those of the golden files' README.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from rtmo.losses.assigner import assign, find_candidates, matching_cost
from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model.mmpose_keys import key_pairs
from rtmo.oks import pairwise_oks
from rtmo.structures import TargetBatch

S17 = [f"loss_s_coco17_p{phase}_{bn}bn" for phase in (1, 2, 3) for bn in ("train", "eval")]
T17 = [f"loss_t_coco17_p{phase}_trainbn" for phase in (1, 2, 3)]
L17 = [f"loss_l_coco17_p{phase}_trainbn" for phase in (1, 2)]
CASES = [
    *S17,
    *T17,
    "loss_s_crowdpose14_p1_trainbn",
    *(pytest.param(name, marks=pytest.mark.slow) for name in L17),
]
TERMS = {
    "cls": "log.loss_cls",
    "bbox": "log.loss_bbox",
    "bbox_l1": "log.loss_bbox_aux",
    "vis": "log.loss_vis",
    "mle": "log.loss_mle",
    "oks": "log.loss_oks",
}


def published(size, skeleton, phase):
    """The loss settings of the published configuration (SPEC section 4)."""
    is_small, is_coco = size in "ts", skeleton == "coco17"
    mle = 1e-3 if not is_coco else 1.0 if is_small else 1e-2
    config = LossConfig(mle=mle, assign_centre="keypoints" if is_small and is_coco else "box")
    if phase > 1:
        config = config.model_copy(update={"oks": 10.0, "mle": 5.0, "proxy_target": "dcc"})
        if not (is_small and is_coco):
            config = config.model_copy(update={"cls": 2.0, "overlap_power": 1.0})
    if phase > 2:
        config = config.model_copy(update={"bbox_l1": 1.0})
    return config


def targets_of(arrays, batch, num_keypoints, mask):
    counts = [len(arrays[f"gt{i}.areas"]) for i in range(batch)]
    people = max(counts)
    # padding rows hold values that would do damage if they were used
    boxes = torch.full((batch, people, 4), 1e4)
    keypoints = torch.full((batch, people, num_keypoints, 2), -1e4)
    labelled = torch.ones(batch, people, num_keypoints)
    areas = torch.full((batch, people), 7.0)
    is_person = torch.zeros(batch, people, dtype=torch.bool)
    for i, count in enumerate(counts):
        boxes[i, :count] = torch.from_numpy(arrays[f"gt{i}.bboxes"])
        keypoints[i, :count] = torch.from_numpy(arrays[f"gt{i}.keypoints"])
        labelled[i, :count] = torch.from_numpy(arrays[f"gt{i}.keypoints_visible"])
        areas[i, :count] = torch.from_numpy(arrays[f"gt{i}.areas"])
        is_person[i, :count] = True
    return TargetBatch(
        boxes, keypoints, labelled, torch.ones_like(labelled), areas, is_person, mask
    )


def ignore_mask(side):
    mask = torch.zeros(3, side, side)
    mask[:2, side // 8 : side // 2, side // 4 : side // 4 + side // 3] = 1.0
    return mask


class Step:
    """One forward and backward pass beside its golden arrays."""

    def __init__(self, name, formula, formula_model, path: Path):
        found = re.fullmatch(r"loss_([tsml])_(\w+)_p(\d)_(train|eval)bn", name)
        self.size, self.skeleton, phase, self.bn = found.groups()
        self.arrays = np.load(path)
        self.config = published(self.size, self.skeleton, int(phase))
        self.model = formula_model(self.size, self.skeleton)
        self.model.train(self.bn == "train")
        side = 416 if self.size == "t" else 640
        images = torch.from_numpy(formula.image(f"loss_image_{side}", side, side, 3))
        mask = ignore_mask(side) if phase == "3" else None
        num_keypoints = self.model.skeleton.num_keypoints
        self.targets = targets_of(self.arrays, 3, num_keypoints, mask)
        self.criterion = Criterion(self.model.skeleton)
        self.raw = self.model(images)
        self.losses = self.criterion(self.raw, self.targets, self.model.dcc, self.config)
        self.losses.total.backward()
        self.ours = {pair.official: pair.ours for pair in key_pairs(self.size) if pair.ours}


@pytest.fixture(params=CASES, scope="module")
def step(request, formula, formula_model, golden):
    return Step(request.param, formula, formula_model, golden(f"{request.param}.npz"))


def test_every_term_and_the_total_agree(step):
    for ours, theirs in TERMS.items():
        expected = step.arrays.get(theirs, 0.0)
        actual = step.losses.terms[ours].item()
        np.testing.assert_allclose(actual, expected, rtol=1e-4, err_msg=ours)
    np.testing.assert_allclose(step.losses.total.item(), step.arrays["log.loss"], rtol=1e-4)
    assert step.losses.num_positives == step.arrays["term.num_samples"]


def test_assignment_is_the_official_one(step):
    raw, targets, sigmas = step.raw, step.targets, step.criterion.sigmas
    assignment = assign(raw, targets, sigmas, step.config.assign_centre)
    candidates = find_candidates(raw.priors_xy, raw.strides, targets, step.config.assign_centre)
    oks = pairwise_oks(
        raw.proxy_keypoints_xy,
        targets.keypoints_xy,
        targets.is_labelled,
        targets.areas,
        sigmas,
    )
    cost = matching_cost(raw, targets, candidates, oks)
    oks_error = 5e-4 if step.bn == "train" else 2e-5  # batch statistics amplify rounding
    for image in range(2):
        prefix = f"assign{image}."
        people = int(targets.is_person[image].sum())
        ids = candidates.is_candidate[image].nonzero().squeeze(1)
        np.testing.assert_array_equal(ids, step.arrays[prefix + "cand_idx"])
        head = ids[:64]
        np.testing.assert_allclose(
            oks[image, head, :people].detach(), step.arrays[prefix + "oks_head"], atol=oks_error
        )
        np.testing.assert_allclose(
            cost[image, head, :people].detach(), step.arrays[prefix + "cost_head"], rtol=1e-3
        )
        sums = oks[image, ids, :people].topk(10, dim=0).values.sum(dim=0)
        np.testing.assert_allclose(sums.detach(), step.arrays[prefix + "topk_sum"], rtol=1e-3)

        mine = assignment.image_ids == image
        np.testing.assert_array_equal(
            assignment.prior_ids[mine], step.arrays[prefix + "pos_prior_idx"]
        )
        np.testing.assert_array_equal(assignment.person_ids[mine], step.arrays[prefix + "gt_idx"])
        np.testing.assert_allclose(
            assignment.overlaps[mine].detach(), step.arrays[prefix + "overlap"], atol=oks_error
        )
    assert not (assignment.image_ids == 2).any()  # nobody is in the third image


def test_gradients_agree(step):
    tolerance = 2e-2 if step.bn == "train" else 1e-3
    parameters = dict(step.model.named_parameters())
    names = [name for name in step.arrays if name.startswith("grad_norm.")]
    assert len(names) == 25
    for name in names:
        official = name.removeprefix("grad_norm.")
        if official == "head.dcc.y_fc.bias":
            continue  # mathematically zero: softmax does not see a shift
        gradient = parameters[step.ours[official]].grad
        expected = step.arrays[name]
        np.testing.assert_allclose(gradient.norm(), expected, rtol=tolerance, err_msg=name)
        kept = gradient.flatten()[:: max(1, gradient.numel() // 32)]
        golden_kept = step.arrays[f"grad_sub.{official}"]
        atol = 2 * tolerance * np.abs(golden_kept).max()  # single entries are noisier than norms
        np.testing.assert_allclose(kept, golden_kept, rtol=0, atol=atol, err_msg=name)
    assert all(parameter.grad is not None for parameter in parameters.values())
    total = torch.stack([p.grad.norm() for p in parameters.values()]).norm()
    np.testing.assert_allclose(total, step.arrays["grad_norm_total"], rtol=tolerance)


def test_batch_norm_statistics_after_one_forward_agree(step):
    state = step.model.state_dict()
    names = [name for name in step.arrays if name.startswith("bn_after.")]
    assert len(names) == 8
    for name in names:
        actual = state[step.ours[name.removeprefix("bn_after.")]].flatten()[:16]
        np.testing.assert_allclose(actual, step.arrays[name], rtol=1e-3, atol=1e-5, err_msg=name)
