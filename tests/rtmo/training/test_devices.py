"""Which kernels and whose norms a training takes, and what cannot be had here."""

import copy

import pytest
import torch
from torch import nn

from rtmo.model import build_rtmo
from rtmo.training.config import TrainConfig
from rtmo.training.devices import build_fabric, synchronise_norms


def config(**changes):
    required = {"epochs": 1, "micro_batch": 2, "global_batch": 2, "device": "cpu"}
    return TrainConfig(**required, validate_every_epochs=1, checkpoint_every_steps=1, **changes)


@pytest.mark.parametrize("algorithms", ["deterministic", "fastest"])
def test_torch_is_held_to_the_chosen_algorithms(algorithms, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        build_fabric(config(algorithms=algorithms))
        assert torch.are_deterministic_algorithms_enabled() == (algorithms == "deterministic")
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("processes", [1, 2])
def test_norms_cannot_be_synchronised_on_cpus(processes):
    with pytest.raises(ValueError, match=f"here are {processes} on cpu; use local"):
        build_fabric(config(batch_norm="synchronised", processes=processes))


def test_synchronised_norms_keep_weights_and_what_the_model_computes():
    torch.manual_seed(0)
    model = build_rtmo("t").eval()
    changed = copy.deepcopy(model)
    synchronise_norms(changed)
    kinds = {type(part) for name, part in changed.named_modules() if not name.startswith("dcc")}
    assert nn.SyncBatchNorm in kinds
    assert nn.BatchNorm2d not in kinds
    assert type(changed.dcc.pose_norm) is nn.BatchNorm1d
    assert model.state_dict().keys() == changed.state_dict().keys()
    images = torch.rand(1, 3, 64, 64) * 255
    with torch.no_grad():
        assert torch.equal(model(images).boxes_xyxy, changed(images).boxes_xyxy)
