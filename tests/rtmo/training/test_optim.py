import json

import pytest
import torch
from torch import nn

from rtmo.model import build_rtmo
from rtmo.model.mmpose_keys import key_pairs
from rtmo.training.config import CosineSegment, OptimizerConfig
from rtmo.training.optim import (
    build_optimizer,
    learning_rate,
    parameter_settings,
    set_learning_rate,
)

CURVES = {
    "coco": (
        CosineSegment(first_epoch=5, period_epochs=280, last_epoch=280),
        CosineSegment(first_epoch=281, period_epochs=300, last_epoch=580, restart_factor=2.5),
    ),
    "crowdpose": (
        CosineSegment(first_epoch=5, period_epochs=350, last_epoch=349),
        CosineSegment(first_epoch=350, period_epochs=320, last_epoch=670, restart_factor=2.5),
    ),
}


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize(("curve", "base"), [("lr_main", 4e-3), ("lr_encoder", 2e-4)])
def test_learning_rate_equals_the_official_schedulers_at_every_recorded_step(
    repository, name, curve, base
):
    golden = json.loads((repository / "tests/golden/lr_schedule.json").read_text())
    config = OptimizerConfig(cosines=CURVES[name])
    steps = golden[name]["iter"]
    rates = [learning_rate(base, step, golden["iters_per_epoch"], config) for step in steps]
    # The official schedulers multiply thousands of ratios; what differs is their rounding.
    assert rates == pytest.approx(golden[name][curve], rel=1e-9)


def test_without_warmup_and_cosines_the_rate_is_constant():
    config = OptimizerConfig(lr=1e-3, warmup_epochs=0)
    assert {learning_rate(1e-3, step, 7, config) for step in range(30)} == {1e-3}


def test_every_group_gets_its_own_rate():
    model = nn.ModuleDict(
        {"neck": nn.ModuleDict({"encoder": nn.Linear(2, 2)}), "a": nn.Conv2d(1, 1, 1)}
    )
    config = OptimizerConfig(lr=1.0, encoder_lr_factor=0.1, warmup_epochs=1)
    optimizer = build_optimizer(model, config, fused=True)
    assert set_learning_rate(optimizer, 0, 2, config) == 0.25
    assert sorted({group["lr"] for group in optimizer.param_groups}) == [0.025, 0.25]


def test_norms_and_biases_do_not_decay():
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.LayerNorm(2))
    decays = {
        name: decay for name, (_, decay) in parameter_settings(model, OptimizerConfig()).items()
    }
    assert decays == {
        "0.weight": 0.05,
        "0.bias": 0.0,
        "1.weight": 0.0,
        "1.bias": 0.0,
        "2.weight": 0.0,
        "2.bias": 0.0,
    }


def test_fused_and_plain_adamw_take_the_same_steps():
    def train(fused):
        torch.manual_seed(0)
        model = nn.Linear(4, 3)
        optimizer = build_optimizer(model, OptimizerConfig(), fused=fused)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()
        return model.weight.detach()

    torch.testing.assert_close(train(fused=True), train(fused=False), rtol=1e-6, atol=1e-7)


def test_every_parameter_of_rtmo_s_gets_the_official_rate_and_decay(repository):
    golden = json.loads((repository / "tests/golden/param_groups_s_coco.json").read_text())
    settings = parameter_settings(build_rtmo("s"), OptimizerConfig())
    ours = {pair.official: settings[pair.ours] for pair in key_pairs("s") if pair.ours in settings}
    assert ours == {name: tuple(expected) for name, expected in golden.items()}
