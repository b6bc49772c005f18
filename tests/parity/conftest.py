"""Weights and images by formula, and the golden arrays of the official implementation."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rtmo.model.mmpose_keys import key_pairs
from rtmo.model.rtmo import RTMO
from rtmo.skeleton import COCO17, CROWDPOSE14

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SKELETONS = {"coco17": COCO17, "crowdpose14": CROWDPOSE14}


@pytest.fixture(scope="session")
def formula() -> ModuleType:
    """The module that computes weights and images from names."""
    spec = importlib.util.spec_from_file_location("golden_formula", GOLDEN / "formula.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def golden(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Path of a golden file: from the repository, else from the shared reference material."""

    def find(name: str) -> Path:
        if (GOLDEN / name).exists():
            return GOLDEN / name
        path = request.getfixturevalue("shared") / "rtmo" / "golden" / name
        if not path.exists():
            pytest.skip(f"needs golden file {name}")
        return path

    return find


@pytest.fixture(scope="session")
def formula_model(formula: ModuleType) -> Callable[[str, str], RTMO]:
    """A new model of (size, skeleton name) whose weights follow the golden formula."""

    @cache
    def state(size: str, skeleton: str) -> dict[str, torch.Tensor]:
        model = RTMO(size, SKELETONS[skeleton])
        filled = model.state_dict()
        for official, ours in key_pairs(size):
            if ours is None:
                continue
            value = formula.fill(official, tuple(filled[ours].shape))
            if value is not None:
                filled[ours] = torch.from_numpy(value)
        return filled

    def build(size: str, skeleton: str) -> RTMO:
        model = RTMO(size, SKELETONS[skeleton])
        model.load_state_dict(state(size, skeleton))
        return model.eval()

    return build
