"""Every published row can be merged into params.yaml, and is what SPEC section 5 says."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipelines.params import Params, ParamsError, load_params, read_yaml
from pipelines.presets import apply_preset, differences, preset_names
from rtmo.training.optim import learning_rate

ROWS = {
    "rtmo-s-coco",
    "rtmo-m-coco",
    "rtmo-l-coco",
    "rtmo-t-body7",
    "rtmo-s-body7",
    "rtmo-m-body7",
    "rtmo-l-body7",
    "rtmo-s-crowdpose",
    "rtmo-m-crowdpose",
    "rtmo-l-crowdpose",
    "rtmo-l-body7-crowdpose",
}
SCALED_DOWN = "rtmo-s-coco-one-gpu"


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    shutil.copy(repository / "params.yaml", tmp_path)
    shutil.copytree(repository / "presets", tmp_path / "presets")
    return tmp_path


def with_preset(checkout: Path, name: str) -> Params:
    apply_preset(checkout, name)
    return load_params(checkout)


@pytest.mark.parametrize("name", sorted(ROWS | {SCALED_DOWN}))
def test_a_preset_names_every_setting_of_the_model_the_augmentation_and_the_losses(
    name: str, repository: Path
) -> None:
    overlay = read_yaml(repository / "presets" / f"{name}.yaml")
    params = read_yaml(repository / "params.yaml")
    assert isinstance(overlay, dict)
    assert isinstance(params, dict)
    for section in ("data", "model", "augment"):
        assert keys(overlay[section]) == keys(params[section])
    of_this_machine = {"seed", "processes", "cpu_threads", "max_skipped_steps", "resume_from"}
    of_this_machine |= {"algorithms", "batch_norm", "checkpoint_store", "compile", "loader_stall_s"}
    assert keys(overlay["train"]) == keys(params["train"]) - of_this_machine
    for phase in overlay["train"]["phases"]:
        assert keys(phase) == keys(params["train"]["phases"][0])


def keys(section: dict[str, Any], prefix: str = "") -> set[str]:
    """Paths of all keys below a section; lists are not looked into."""
    found: set[str] = set()
    for key, value in section.items():
        found |= keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}"}
    return found


def test_there_is_a_preset_for_every_published_row(repository: Path) -> None:
    assert set(preset_names(repository)) == ROWS | {SCALED_DOWN}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_preset_leaves_nothing_of_another_behind(name: str, checkout: Path) -> None:
    for other in ("rtmo-t-body7", "rtmo-l-body7-crowdpose", name):
        apply_preset(checkout, other)
    after_others = load_params(checkout)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", checkout)
    assert with_preset(checkout, name) == after_others


@pytest.mark.parametrize("name", sorted(ROWS))
def test_what_all_published_runs_share(name: str, checkout: Path) -> None:
    params = with_preset(checkout, name)
    _, size, data = name.split("-", 2)
    on_crowdpose = data.endswith("crowdpose")
    train, optimizer = params.train, params.train.optimizer
    assert params.data.dataset == ("crowdpose" if on_crowdpose else "coco")
    assert params.model.size == size
    assert params.model.input_size == (416 if size == "t" else 640)
    assert train.global_batch == 256
    assert train.micro_batch == (32 if size in "ts" else 16)
    assert train.epochs == (700 if on_crowdpose else 600)
    assert [p.first_epoch for p in train.phases] == (
        [0, 350, 669] if on_crowdpose else [0, 280, 579]
    )
    assert [p.pipeline for p in train.phases] == ["mosaic", "mosaic", "letterbox"]
    assert [p.loss.bbox_l1 for p in train.phases] == [0, 0, 1]
    assert [p.loss.oks for p in train.phases] == [30, 10, 10]
    assert [p.loss.proxy_target for p in train.phases] == ["ground_truth", "dcc", "dcc"]
    assert (optimizer.lr, optimizer.min_lr, optimizer.clip_norm) == (4e-3, 2e-4, 0.1)
    assert optimizer.cosines[1].restart_factor == 2.5
    assert (train.ema.momentum, train.ema.gamma) == (2e-4, 2000)
    assert params.augment.multiscale == ((320, 640) if size == "t" else (480, 800))
    assert params.augment.mosaic.mixup_prob == (0 if size == "t" else 1)
    assert bool(params.data.merge) == data.startswith("body7")


@pytest.mark.parametrize(
    ("name", "mle", "cls", "power", "centre"),
    [
        ("rtmo-t-body7", (1.0, 5.0, 5.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), "keypoints"),
        ("rtmo-s-coco", (1.0, 5.0, 5.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5), "keypoints"),
        ("rtmo-m-coco", (1e-2, 5.0, 5.0), (1.0, 2.0, 2.0), (0.5, 1.0, 1.0), "box"),
        ("rtmo-l-body7", (1e-2, 5.0, 5.0), (1.0, 2.0, 2.0), (0.5, 1.0, 1.0), "box"),
        ("rtmo-s-crowdpose", (1e-3, 5.0, 5.0), (1.0, 2.0, 2.0), (0.5, 1.0, 1.0), "box"),
        ("rtmo-l-body7-crowdpose", (1e-3, 5.0, 5.0), (1.0, 2.0, 2.0), (0.5, 1.0, 1.0), "box"),
    ],
)
def test_losses_by_row(
    name: str,
    mle: tuple[float, ...],
    cls: tuple[float, ...],
    power: tuple[float, ...],
    centre: str,
    checkout: Path,
) -> None:
    losses = [phase.loss for phase in with_preset(checkout, name).train.phases]
    assert tuple(loss.mle for loss in losses) == mle
    assert tuple(loss.cls for loss in losses) == cls
    assert tuple(loss.overlap_power for loss in losses) == power
    assert {loss.assign_centre for loss in losses} == {centre}


@pytest.mark.parametrize("name", sorted(ROWS))
def test_only_t_and_s_on_coco_assign_around_the_keypoints(name: str, checkout: Path) -> None:
    _, size, data = name.split("-", 2)
    expected = "keypoints" if size in "ts" and not data.endswith("crowdpose") else "box"
    phases = with_preset(checkout, name).train.phases
    assert [phase.loss.assign_centre for phase in phases] == [expected] * 3


@pytest.mark.parametrize(
    ("name", "random_affine"),
    [
        ("rtmo-s-coco", False),
        ("rtmo-m-coco", True),
        ("rtmo-l-body7", True),
        ("rtmo-m-crowdpose", False),
        ("rtmo-l-body7-crowdpose", False),
    ],
)
def test_only_m_and_l_on_coco_keep_the_random_affine_of_stage_2(
    name: str, random_affine: bool, checkout: Path
) -> None:
    letterbox = with_preset(checkout, name).augment.letterbox
    assert (letterbox.shift, letterbox.scale, letterbox.rotation_deg) == (
        (0.2, (0.75, 1.5), 30.0) if random_affine else (0.0, (1.0, 1.0), 0.0)
    )


@pytest.mark.parametrize(
    ("name", "wide"),
    [("rtmo-s-coco", False), ("rtmo-s-crowdpose", True), ("rtmo-l-body7-crowdpose", False)],
)
def test_only_crowdpose_alone_is_trained_with_the_wide_warp(
    name: str, wide: bool, checkout: Path
) -> None:
    mosaic = with_preset(checkout, name).augment.mosaic
    assert (mosaic.shift, mosaic.rotation_deg, mosaic.scale, mosaic.mixup_scale) == (
        (0.2, 30.0, (0.5, 1.5), (0.6, 1.6)) if wide else (0.1, 10.0, (0.75, 1.0), (0.8, 1.6))
    )


def test_the_merged_sets_and_their_factors(checkout: Path) -> None:
    merged = with_preset(checkout, "rtmo-l-body7-crowdpose").data.merge
    assert {m.dataset: m.sampling_factor for m in merged} == {
        "coco": 1.0,
        "aic": 0.3,
        "mpii": 0.3,
        "jhmdb": 0.3,
        "halpe": 0.4,
        "posetrack18": 0.3,
    }
    assert {m.until_epoch for m in merged} == {669}


def test_the_one_gpu_recipe_takes_the_published_steps_at_a_quarter_of_the_rate(
    checkout: Path,
) -> None:
    published = with_preset(checkout, "rtmo-s-coco").train
    small = with_preset(checkout, SCALED_DOWN).train
    assert small.epochs / small.global_batch == published.epochs / published.global_batch
    assert small.micro_batch == published.micro_batch
    per_epoch = 221  # batches of 256 in train2017's pictures with people
    for step in range(0, published.epochs * per_epoch, 500):
        rate = learning_rate(published.optimizer.lr, step, per_epoch, published.optimizer)
        other = learning_rate(small.optimizer.lr, step, 4 * per_epoch, small.optimizer)
        assert other == pytest.approx(rate / 4, rel=0.04)  # one flat epoch is longer here


def test_comments_and_keys_that_a_preset_does_not_name_are_kept(checkout: Path) -> None:
    before = (checkout / "params.yaml").read_text()
    changed = apply_preset(checkout, "rtmo-l-body7")
    after = (checkout / "params.yaml").read_text()
    assert any(re.fullmatch(r"train.epochs: \d+ -> 600", line) for line in changed)
    assert [line for line in after.splitlines() if line.startswith("#")] == [
        line for line in before.splitlines() if line.startswith("#")
    ]
    assert "# a file in sources/" in after
    for first, end in (("\ninspect:", "\nregister:"), ("\nserve:", None)):
        kept = [text[text.index(first) : end and text.index(end)] for text in (before, after)]
        assert kept[0] == kept[1]


def test_a_preset_does_not_take_over_what_was_measured_of_another_recipe(checkout: Path) -> None:
    apply_preset(checkout, "rtmo-l-body7")
    assert load_params(checkout).registration.seed_std is None


def test_an_unknown_preset_is_named_with_the_likely_one(checkout: Path) -> None:
    with pytest.raises(ParamsError, match="no preset 'rtmo-s-coc'; did you mean rtmo-s-coco"):
        apply_preset(checkout, "rtmo-s-coc")


def test_a_preset_that_does_not_fit_changes_nothing(checkout: Path) -> None:
    (checkout / "presets/broken.yaml").write_text("train: {epochs: none}")
    before = (checkout / "params.yaml").read_bytes()
    with pytest.raises(ParamsError, match=r"with broken.yaml: train.epochs is 'none'"):
        apply_preset(checkout, "broken")
    assert (checkout / "params.yaml").read_bytes() == before


def test_nothing_differs_from_itself() -> None:
    assert differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 2}]}) == ()


@pytest.mark.parametrize("data", ["coco", "crowdpose"])
def test_the_learning_rate_is_that_of_the_official_schedulers(
    data: str, checkout: Path, repository: Path
) -> None:
    golden = json.loads((repository / "tests/golden/lr_schedule.json").read_text())
    train = with_preset(checkout, f"rtmo-s-{data}").train
    curve = golden[data]
    assert train.epochs == curve["max_epochs"]
    for group, factor in (
        ("lr_main", 1.0),
        ("lr_encoder", train.optimizer.encoder_lr_factor),
    ):
        rates = [
            learning_rate(
                train.optimizer.lr * factor, step, golden["iters_per_epoch"], train.optimizer
            )
            for step in curve["iter"]
        ]
        assert rates == pytest.approx(curve[group], rel=1e-9)
