"""A real RTMO-t with weights by formula, exported once for all tests of this folder.

The weights are computed from the official parameter names (tests/golden/formula.py, made for the
golden files): boxes overlap, scores spread and heatmaps have peaks, so NMS and the coordinate
classifier have real work without any training.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from rtmo.deployment.config import ExportConfig
from rtmo.deployment.export_onnx import export_both_forms
from rtmo.model.mmpose_keys import key_pairs
from rtmo.model.rtmo import RTMO
from rtmo.model.weights import save_weights
from rtmo.skeleton import COCO17

INPUT_SIZE = 224
GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture(scope="session")
def formula() -> ModuleType:
    """Weights and images from names."""
    spec = importlib.util.spec_from_file_location("golden_formula", GOLDEN / "formula.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def model(formula: ModuleType) -> RTMO:
    """RTMO-t with COCO's keypoints, weights by formula."""
    model = RTMO("t", COCO17)
    state = model.state_dict()
    for official, ours in key_pairs("t"):
        if ours is None:
            continue
        value = formula.fill(official, tuple(state[ours].shape))
        if value is not None:
            state[ours] = torch.from_numpy(value)
    model.load_state_dict(state)
    return model.eval()


@pytest.fixture(scope="session")
def weights(model: RTMO, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as the training stage writes it."""
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    facts = {"input_size": str(INPUT_SIZE), "stage_hash": "a" * 64, "dataset": "formula"}
    save_weights(model, path, facts)
    return path


@pytest.fixture(scope="session")
def exported(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both ONNX forms of the weights, 200 people at most."""
    folder = tmp_path_factory.mktemp("exported")
    files = export_both_forms(weights, folder, ExportConfig(), score_threshold=0.1, nms_iou=0.65)
    return {str(form): path for form, path in files.items()}


@pytest.fixture(scope="session")
def pixels(formula: ModuleType) -> np.ndarray:
    """Three different network inputs, (3, 3, S, S) float32."""
    images: np.ndarray = formula.image("deployment", INPUT_SIZE, INPUT_SIZE, 3)
    return images


@pytest.fixture(scope="session")
def pictures(formula: ModuleType) -> list[np.ndarray]:
    """BGR pictures of different shapes."""
    sizes = ((160, 224), (224, 96), (320, 320))
    images = [formula.image(f"picture_{h}x{w}", h, w)[0] for h, w in sizes]
    return [np.ascontiguousarray(image.transpose(1, 2, 0)).astype(np.uint8) for image in images]
