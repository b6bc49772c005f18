"""Training follows the official training: the loss curve, and weights and EMA after five steps.

How far such a curve is meaningful was measured with an official twin whose weights differ by 1e-6:
assignments flip after about five steps, so later only means over windows are compared. Twins of
ours spread as widely (single windows: oks up to 10 %, cls up to 17 % from the official curve), so
the mean of three of them is compared.
"""

import numpy as np
import pytest
import torch

from rtmo.losses.config import LossConfig
from rtmo.losses.criterion import Criterion
from rtmo.model.mmpose_keys import key_pairs
from rtmo.structures import TargetBatch
from rtmo.training.config import EmaConfig, OptimizerConfig
from rtmo.training.ema import Ema
from rtmo.training.optim import build_optimizer

BEFORE_SWITCH = LossConfig()
AFTER_SWITCH = LossConfig(oks=10.0, mle=5.0, proxy_target="dcc")
OURS = {"loss_bbox": "bbox", "loss_vis": "vis", "loss_mle": "mle", "loss_oks": "oks"}
OURS["loss_cls"] = "cls"


def fixed_batches(arrays, formula):
    """Four batches of two images, of 3 and 5 people."""
    for j in range(4):
        images = torch.from_numpy(formula.image(f"traj_image_416_{j}", 416, 416, 2))
        people = [
            {
                field: torch.from_numpy(arrays[f"batch{j}.gt{i}.{field}"])
                for field in ("bboxes", "keypoints", "keypoints_visible", "areas")
            }
            for i in range(2)
        ]

        def padded(field, people=people):
            return torch.nn.utils.rnn.pad_sequence(
                [person[field] for person in people], batch_first=True
            )

        labelled = padded("keypoints_visible")
        yield (
            images,
            TargetBatch(
                padded("bboxes"),
                padded("keypoints"),
                labelled,
                torch.ones_like(labelled),
                padded("areas"),
                torch.tensor([[True] * 3 + [False] * 2, [True] * 5]),
                None,
            ),
        )


class Training:
    """Our training of the official first steps."""

    def __init__(self, steps, arrays, formula, model):
        model.train()
        criterion = Criterion(model.skeleton)
        optimizer = build_optimizer(model, OptimizerConfig(), fused=False)
        self.ema = Ema(model, EmaConfig())
        self.model = model
        self.losses, self.grad_norms = [], []
        batches = list(fixed_batches(arrays, formula))
        for step in range(steps):
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * min(1.0, ((step + 1) / 100) ** 2)
            images, targets = batches[step % 4]
            config = BEFORE_SWITCH if step < arrays["switch_step"] else AFTER_SWITCH
            losses = criterion(model(images), targets, model.dcc, config)
            optimizer.zero_grad()
            losses.total.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            optimizer.step()
            self.ema.update(step)
            self.losses.append({name: term.item() for name, term in losses.terms.items()})
            self.grad_norms.append(norm.item())

    def curve(self, name):
        return np.array([losses[name] for losses in self.losses])


@pytest.fixture(scope="module")
def arrays(golden):
    return np.load(golden("trajectory_t_coco17.npz"))


@pytest.fixture(scope="module")
def five_steps(arrays, formula, formula_model):
    return Training(5, arrays, formula, formula_model("t", "coco17"))


def golden_curve(arrays, name):
    return arrays["losses"][:, list(arrays["loss_names"]).index(name)]


@pytest.mark.parametrize("name", OURS)
def test_first_losses_are_the_official_ones(name, five_steps, arrays):
    rtol = 1e-2 if name == "loss_mle" else 1e-3
    ours, theirs = five_steps.curve(OURS[name])[:4], golden_curve(arrays, name)[:4]
    np.testing.assert_allclose(ours, theirs, rtol=rtol)


def test_first_gradient_norms_are_the_official_ones(five_steps, arrays):
    np.testing.assert_allclose(five_steps.grad_norms[:4], arrays["grad_norm"][:4], rtol=2e-2)


@pytest.mark.parametrize("kind", ["after5", "after5_ema"])
def test_weights_and_average_after_five_steps_are_the_official_ones(kind, five_steps, arrays):
    model = five_steps.model if kind == "after5" else five_steps.ema.model
    parameters = dict(model.named_parameters())
    names = {pair.official: pair.ours for pair in key_pairs("t")}
    compared = [key for key in arrays if key.startswith(f"{kind}.")]
    assert len(compared) == 25
    for key in compared:
        official = key.removeprefix(f"{kind}.")
        if official == "head.dcc.y_fc.bias":
            continue  # its gradient is rounding noise, which Adam turns into steps of full size
        value = parameters[names[official]].detach().flatten()
        kept = value[:: max(1, len(value) // 32)]
        np.testing.assert_allclose(kept, arrays[key], rtol=0, atol=1e-5, err_msg=official)


def twin(model, seed):
    """The same model with every weight changed by a millionth of itself."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1 + 1e-6 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.slow
@pytest.mark.timeout(3600)  # two minutes on two idle cores, half an hour on busy ones
def test_a_hundred_steps_follow_the_official_loss_curve(arrays, formula, formula_model):
    models = [twin(formula_model("t", "coco17"), seed) for seed in range(3)]
    runs = [Training(100, arrays, formula, model) for model in models]
    for theirs, ours in OURS.items():
        actual = np.mean([run.curve(ours) for run in runs], axis=0).reshape(10, 10).mean(axis=1)
        expected = golden_curve(arrays, theirs).reshape(10, 10).mean(axis=1)
        first, rtol = (2, 0.20) if theirs == "loss_mle" else (0, 0.10)
        if theirs == "loss_cls":
            rtol = 0.16  # the official twin itself is off by as much in single windows
        np.testing.assert_allclose(actual[first:], expected[first:], rtol=rtol, err_msg=theirs)
