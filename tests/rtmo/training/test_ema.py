import json

import pytest
import torch
from torch import nn

from rtmo.training.config import EmaConfig
from rtmo.training.ema import Ema, ema_momentum


def test_momentum_equals_the_published_averaging(repository):
    golden = json.loads((repository / "tests/golden/lr_schedule.json").read_text())["ema_momentum"]
    for step, momentum in golden.items():
        assert ema_momentum(int(step), EmaConfig()) == pytest.approx(momentum, rel=1e-12)


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def test_the_first_step_copies_and_later_steps_average_parameters_and_float_buffers():
    source = net()
    ema = Ema(source, EmaConfig(momentum=0.1, gamma=2.0))
    source(torch.randn(8, 3))
    ema.update(0)
    for ours, theirs in zip(
        ema.model.state_dict().values(), source.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs)

    before = {name: value.clone() for name, value in ema.model.state_dict().items()}
    with torch.no_grad():
        source[0].weight.add_(1.0)
    source(torch.randn(8, 3))
    ema.update(1)
    momentum = ema_momentum(1, EmaConfig(momentum=0.1, gamma=2.0))
    for name in ("0.weight", "1.running_mean", "1.running_var"):
        expected = (1 - momentum) * before[name] + momentum * source.state_dict()[name]
        torch.testing.assert_close(ema.model.state_dict()[name], expected)


def test_counters_keep_their_value_of_the_first_step():
    source = net()
    ema = Ema(source, EmaConfig())
    for step in range(3):
        source(torch.randn(8, 3))
        ema.update(step)
    assert source[1].num_batches_tracked == 3
    assert ema.model[1].num_batches_tracked == 1


def test_the_average_is_a_model_in_evaluation_mode_that_learns_nothing():
    ema = Ema(net().train(), EmaConfig())
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
