"""The tests see: every planted change of a constant makes a test fail.

Each case changes one place of a copy of the checkout and runs the tests that should notice, in a
process of their own. Only tests that fail count; a copy that cannot be imported does not.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

FORWARD = "tests/parity/test_forward.py -k t-coco17"
PHASE_1 = "tests/parity/test_loss.py -k loss_t_coco17_p1"
PHASE_2 = "tests/parity/test_loss.py -k loss_t_coco17_p2"
PHASE_3 = "tests/parity/test_loss.py -k loss_t_coco17_p3"
STEPS = "tests/parity/test_trajectory.py -k after_five_steps"
KEYS = "tests/parity/test_keys.py -k t-coco17"
ASSIGNER = "tests/rtmo/losses/test_assigner.py"
TERMS = "tests/rtmo/losses/test_terms.py"
IGNORE = "tests/rtmo/losses/test_ignore_region.py"
START = "tests/rtmo/model/test_initialisation.py"
OPTIMISER = "tests/rtmo/training/test_optim.py"
AVERAGE = "tests/rtmo/training/test_ema.py"
PRESETS = "tests/pipelines/test_presets.py"


class Mutation(NamedTuple):
    """One planted change and the tests that should see it."""

    file: str
    old: str
    new: str
    tests: str


MODEL, LOSSES = "rtmo/model", "rtmo/losses"
MUTATIONS = {
    "backbone and head norm eps": Mutation(
        f"{MODEL}/layers.py",
        "YOLOX_NORM = NormSettings(eps=1e-3",
        "YOLOX_NORM = NormSettings(eps=1e-5",
        FORWARD,
    ),
    "neck norm eps": Mutation(
        f"{MODEL}/layers.py",
        "TORCH_NORM = NormSettings(eps=1e-5",
        "TORCH_NORM = NormSettings(eps=1e-3",
        FORWARD,
    ),
    "head norm momentum": Mutation(f"{MODEL}/layers.py", "momentum=0.03", "momentum=0.1", PHASE_1),
    "width of t": Mutation(
        f"{MODEL}/config.py", '"t": Scale(width=0.375', '"t": Scale(width=0.5', KEYS
    ),
    "largest pooling window": Mutation(
        f"{MODEL}/csp_darknet.py", "(5, 9, 13)", "(5, 9, 11)", FORWARD
    ),
    "order of row and column encodings": Mutation(
        f"{MODEL}/hybrid_encoder.py",
        "row_codes[:, None].expand(-1, columns, -1)",
        "column_codes[None].expand(rows, -1, -1)",
        FORWARD,
    ),
    "position temperature": Mutation(f"{MODEL}/hybrid_encoder.py", "10_000.0", "20_000.0", FORWARD),
    "attention heads": Mutation(
        f"{MODEL}/hybrid_encoder.py", "ATTENTION_HEADS = 8", "ATTENTION_HEADS = 4", FORWARD
    ),
    "classification half of the channels": Mutation(
        f"{MODEL}/head.py",
        "cls_features, pose_features = features.chunk",
        "pose_features, cls_features = features.chunk",
        FORWARD,
    ),
    "prior offset": Mutation("rtmo/priors.py", "(stride - 1) / 2", "stride / 2", FORWARD),
    "bins in x": Mutation(
        f"{MODEL}/dcc.py", "NUM_BINS_X, NUM_BINS_Y = 192", "NUM_BINS_X, NUM_BINS_Y = 191", FORWARD
    ),
    "bin temperature": Mutation(f"{MODEL}/dcc.py", "300.0", "310.0", FORWARD),
    "extent of the bins": Mutation(
        f"{MODEL}/dcc.py", "BOX_EXPANSION = 1.25", "BOX_EXPANSION = 1.2", FORWARD
    ),
    "attention power": Mutation(f"{MODEL}/gau.py", ".relu().square()", ".relu()", FORWARD),
    "initial score": Mutation(
        f"{MODEL}/initialisation.py", "CLS_PRIOR = 0.01", "CLS_PRIOR = 0.02", START
    ),
    "sigma factor in the assigner": Mutation(
        "rtmo/oks.py", "(root_area * (2 * sigma))", "(root_area * sigma)", PHASE_1
    ),
    "sigma factor in the loss": Mutation("rtmo/oks.py", "(2 * sigmas)", "sigmas", PHASE_1),
    "a COCO sigma": Mutation(
        "rtmo/skeleton.py", "sigmas=(\n        0.026,", "sigmas=(\n        0.027,", PHASE_1
    ),
    "centre radius": Mutation(
        f"{LOSSES}/assigner.py",
        "CENTRE_RADIUS_STRIDES = 2.5",
        "CENTRE_RADIUS_STRIDES = 2.0",
        PHASE_1,
    ),
    "IoU cost": Mutation(
        f"{LOSSES}/assigner.py", "IOU_COST, OKS_COST = 3.0", "IOU_COST, OKS_COST = 2.0", PHASE_1
    ),
    "outside cost": Mutation(
        f"{LOSSES}/assigner.py", "OUTSIDE_COST = 1e5", "OUTSIDE_COST = 1e4", PHASE_1
    ),
    "overlaps that are summed": Mutation(
        f"{LOSSES}/assigner.py", "MAX_PRIORS_PER_PERSON = 10", "MAX_PRIORS_PER_PERSON = 9", PHASE_1
    ),
    "bound of the class cost": Mutation(
        f"{LOSSES}/assigner.py", "MAX_BCE = 100.0", "MAX_BCE = 50.0", ASSIGNER
    ),
    "varifocal alpha": Mutation(
        f"{LOSSES}/terms.py", "VARIFOCAL_ALPHA = 0.75", "VARIFOCAL_ALPHA = 0.7", PHASE_1
    ),
    "positive threshold": Mutation(
        f"{LOSSES}/terms.py", "POSITIVE_QUALITY = 1e-4", "POSITIVE_QUALITY = 1e-3", TERMS
    ),
    "clip of class logits": Mutation(
        f"{LOSSES}/terms.py", "MAX_LOGIT = 10.0", "MAX_LOGIT = 20.0", TERMS
    ),
    "floor of the area's root": Mutation(
        f"{LOSSES}/terms.py", "AREA_ROOT_FLOOR_PX = 1.0", "AREA_ROOT_FLOOR_PX = 0.1", TERMS
    ),
    "floor of box sizes": Mutation(
        f"{LOSSES}/terms.py", "LOG_SIZE_FLOOR = 1e-8", "LOG_SIZE_FLOOR = 1e-6", TERMS
    ),
    "floor of the likelihood": Mutation(
        f"{LOSSES}/terms.py", "LIKELIHOOD_FLOOR = 1e-4", "LIKELIHOOD_FLOOR = 1e-2", PHASE_1
    ),
    "visibility in ignored regions": Mutation(
        f"{LOSSES}/ignore_region.py", "MIN_VISIBILITY = 0.3", "MIN_VISIBILITY = 0.5", PHASE_3
    ),
    "axes of the ignore mask": Mutation(
        f"{LOSSES}/ignore_region.py", "(width - 1, height - 1)", "(width - 1, width - 1)", IGNORE
    ),
    "box loss weight": Mutation(
        f"{LOSSES}/config.py", "bbox: float = Field(5.0", "bbox: float = Field(4.0", PHASE_1
    ),
    "proxy keypoints that learn": Mutation(
        f"{LOSSES}/criterion.py",
        "(proxy_error > taught_error)",
        "(proxy_error < taught_error)",
        PHASE_2,
    ),
    "encoder learning rate": Mutation(
        "rtmo/training/config.py",
        "encoder_lr_factor: float = Field(0.05",
        "encoder_lr_factor: float = Field(0.1",
        OPTIMISER,
    ),
    "lowest learning rate": Mutation(
        "rtmo/training/config.py",
        "min_lr: float = Field(2e-4",
        "min_lr: float = Field(1e-4",
        OPTIMISER,
    ),
    "weight decay": Mutation(
        "rtmo/training/config.py",
        "weight_decay: float = Field(0.05",
        "weight_decay: float = Field(0.5",
        STEPS,
    ),
    "EMA gamma": Mutation(
        "rtmo/training/config.py", "gamma: float = Field(2000", "gamma: float = Field(1000", AVERAGE
    ),
    "phase epoch": Mutation(
        "presets/rtmo-s-coco.yaml", "first_epoch: 280\n", "first_epoch: 281\n", PRESETS
    ),
}
COPIED = (
    "rtmo",
    "pipelines",
    "presets",
    "tests",
    "sources",
    "params.yaml",
    "dvc.yaml",
    "pyproject.toml",
)


def run_tests(checkout: Path, tests: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests.split()]
    return subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)


@pytest.fixture
def copied(tmp_path, repository):
    """A checkout of its own: code, tests and golden files."""
    for name in COPIED:
        source = repository / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "test_mutations.py")
            shutil.copytree(source, tmp_path / name, ignore=ignore)
        elif source.exists():
            shutil.copy(source, tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("tests", sorted({mutation.tests for mutation in MUTATIONS.values()}))
def test_without_a_planted_change_the_tests_pass(tests, copied):
    result = run_tests(copied, tests)
    assert result.returncode == 0, result.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_change_is_caught(name, copied):
    mutation = MUTATIONS[name]
    file = copied / mutation.file
    text = file.read_text()
    assert text.count(mutation.old) >= 1, f"{mutation.file} no longer holds {mutation.old!r}"
    file.write_text(text.replace(mutation.old, mutation.new, 1))
    result = run_tests(copied, mutation.tests)
    assert result.returncode == 1, result.stdout[-2000:]
    assert " failed" in result.stdout, result.stdout[-2000:]
    assert " error" not in result.stdout.splitlines()[-1], result.stdout[-2000:]
