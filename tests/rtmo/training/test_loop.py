import math
import os

import pytest
import torch

from rtmo.data.config import AugmentConfig
from rtmo.data.dataset import TrainingSet
from rtmo.data.loader import LoaderStalledError
from rtmo.data.mixture import MergedStore
from rtmo.losses.config import LossConfig
from rtmo.model import build_rtmo
from rtmo.store import Store
from rtmo.training.checkpoint import open_checkpoints
from rtmo.training.config import CosineSegment, OptimizerConfig, Phase, TrainConfig
from rtmo.training.loop import Callbacks, DivergenceError, TrainingInterrupted, fit
from rtmo.training.optim import learning_rate

CONFIG = TrainConfig(
    epochs=2,
    micro_batch=2,
    global_batch=4,
    cpu_threads=1,
    device="cpu",
    optimizer=OptimizerConfig(lr=1e-3, warmup_epochs=1, clip_norm=1.0),
    phases=(
        Phase(first_epoch=0, pipeline="mosaic"),
        Phase(
            first_epoch=1,
            pipeline="letterbox",
            loss=LossConfig(oks=10, mle=5, bbox_l1=1, proxy_target="dcc"),
        ),
    ),
    validate_every_epochs=1,
    checkpoint_every_steps=2,
)


class Recorder:
    def __init__(self):
        self.rows = []

    def log_metrics(self, step, metrics):
        self.rows.append((step, dict(metrics)))

    def log_image(self, _name, _path):
        raise AssertionError("the loop draws nothing")


def callbacks(*reporters, validate=None, should_stop=lambda: False):
    return Callbacks(
        validate=validate or (lambda _model: {"AP": 0.0}),
        reporters=reporters,
        show_step=lambda _figures: None,
        should_stop=should_stop,
    )


def run(store, folder, config=CONFIG, given=None, multiscale=None, edit=None, merged=()):
    dataset = TrainingSet(Store.open(store), 64, AugmentConfig(), config.seed, merged)
    torch.manual_seed(config.seed)
    model = build_rtmo("t")
    if edit is not None:
        edit(model)
    with open_checkpoints(folder) as checkpoints:
        return fit(model, dataset, config, given or callbacks(), checkpoints, multiscale)


def assert_same_weights(first, second):
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


def test_history_begins_untrained_and_has_one_row_per_epoch(tiny_store, tmp_path):
    recorder = Recorder()
    result = run(tiny_store, tmp_path, given=callbacks(recorder))
    assert [(row["epoch"], row["step"]) for row in result.history] == [(0, 0), (1, 2), (2, 4)]
    assert set(result.history[0]) == {"epoch", "step", "AP"}
    for row in result.history[1:]:
        assert math.isfinite(row["loss"])
        assert row["grad_norm"] > 0
    assert result.history[1]["bbox_l1"] == 0 < result.history[2]["bbox_l1"]
    assert [step for step, _ in recorder.rows] == [0, 2, 4]
    assert recorder.rows[1][1]["images_per_s"] > 0
    assert (result.steps, result.images_seen, result.skipped_steps) == (4, 16, 0)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(tiny_store, tmp_path):
    first = run(tiny_store, tmp_path / "1")
    again = run(tiny_store, tmp_path / "2")
    other = run(tiny_store, tmp_path / "3", CONFIG.model_copy(update={"seed": 1}))
    assert_same_weights(first.last_weights, again.last_weights)
    assert first.history == again.history
    assert first.history != other.history


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_stopped_in_the_middle_of_an_epoch_ends_with_the_same_bits(
    tiny_store, tmp_path, precision
):
    config = CONFIG.model_copy(update={"precision": precision})
    sides = (64, 96)
    undisturbed = run(tiny_store, tmp_path / "undisturbed", config, multiscale=sides)

    questions = iter(range(100))
    stopping = callbacks(should_stop=lambda: next(questions) == 2)
    with pytest.raises(TrainingInterrupted, match="stopped at step 3"):
        run(tiny_store, tmp_path / "stopped", config, stopping, sides)
    continued = run(tiny_store, tmp_path / "stopped", config, multiscale=sides)

    assert_same_weights(undisturbed.last_weights, continued.last_weights)
    assert_same_weights(undisturbed.best_weights, continued.best_weights)
    assert undisturbed.history == continued.history


@pytest.mark.slow
def test_a_run_stopped_beside_merged_sets_ends_with_the_same_bits(tiny_store, tmp_path):
    # 11 + 6 pictures make 4 steps in the first epoch, 11 make 2 in the second.
    merged = [MergedStore(Store.open(tiny_store), 0.5, until_epoch=1)]
    undisturbed = run(tiny_store, tmp_path / "undisturbed", merged=merged)
    assert [row["step"] for row in undisturbed.history] == [0, 4, 6]

    for stop_after in (2, 5):  # within either epoch
        folder = tmp_path / f"stopped {stop_after}"
        questions = iter(range(1, 100))
        stopping = callbacks(should_stop=lambda q=questions, last=stop_after: next(q) == last)
        with pytest.raises(TrainingInterrupted, match=f"stopped at step {stop_after}"):
            run(tiny_store, folder, given=stopping, merged=merged)
        continued = run(tiny_store, folder, merged=merged)
        assert_same_weights(undisturbed.last_weights, continued.last_weights)
        assert undisturbed.history == continued.history


def test_the_learning_rate_follows_the_epochs_where_they_become_shorter(tiny_store, tmp_path):
    cosine = CosineSegment(first_epoch=1, period_epochs=2, last_epoch=3)
    optimizer = CONFIG.optimizer.model_copy(update={"cosines": (cosine,), "min_lr": 0.0})
    config = CONFIG.model_copy(update={"epochs": 3, "optimizer": optimizer})
    merged = [MergedStore(Store.open(tiny_store), 0.5, until_epoch=2)]
    rows = run(tiny_store, tmp_path, config, merged=merged).history[1:]
    assert [row["step"] for row in rows] == [4, 8, 10]
    # 4 steps make an epoch of the curve: the last step of an epoch of 2 is its third.
    expected = [learning_rate(1e-3, step, 4, optimizer) for step in (3, 7, 10)]
    assert [row["lr"] for row in rows] == expected


def test_the_best_epoch_keeps_its_own_weights(tiny_store, tmp_path):
    scores = iter([0.0, 0.5, 0.25])
    seen = []

    def validate(model):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return {"AP": next(scores)}

    result = run(tiny_store, tmp_path, given=callbacks(validate=validate))
    assert (result.best_epoch, result.best_ap) == (1, 0.5)
    assert_same_weights(result.best_weights, seen[1])
    assert_same_weights(result.last_weights, seen[2])


def test_a_finished_run_is_taken_from_its_checkpoint_without_training_again(tiny_store, tmp_path):
    first = run(tiny_store, tmp_path)
    again = run(tiny_store, tmp_path, given=callbacks(validate=lambda _model: pytest.fail("again")))
    assert_same_weights(first.last_weights, again.last_weights)
    assert again.history == first.history


def spoil(model):
    with torch.no_grad():
        model.backbone.stem.conv.conv.weight.fill_(float("nan"))


def test_non_finite_steps_are_skipped_counted_and_finally_stop_with_a_dump(
    tiny_store, tmp_path, caplog
):
    config = CONFIG.model_copy(update={"max_skipped_steps": 2})
    with pytest.raises(DivergenceError, match="3 steps in a row"):
        run(tiny_store, tmp_path, config, edit=spoil)
    assert caplog.text.count("skipped, not finite") == 3
    assert (tmp_path / "diverged-000000002.pt").is_file()


def test_too_few_pictures_for_one_batch_are_an_error_that_says_so(tiny_store, tmp_path):
    config = CONFIG.model_copy(update={"global_batch": 16})
    with pytest.raises(ValueError, match=r"11 images in epoch 0, fewer than train.global_batch 16"):
        run(tiny_store, tmp_path, config)


def test_fp16_on_a_cpu_is_refused_instead_of_silently_becoming_bf16(tiny_store, tmp_path):
    with pytest.raises(ValueError, match="16-mixed needs a GPU"):
        run(tiny_store, tmp_path, CONFIG.model_copy(update={"precision": "16-mixed"}))


def test_a_phase_trains_at_its_own_input_size(tiny_store, tmp_path):
    sides = []

    def watch(model):
        model.register_forward_pre_hook(lambda _model, inputs: sides.append(inputs[0].shape[2:]))

    first, second = CONFIG.phases
    phases = (first.model_copy(update={"input_size": 96}), second)
    result = run(tiny_store, tmp_path, CONFIG.model_copy(update={"phases": phases}), edit=watch)
    half = len(sides) // 2
    assert len(sides) == result.steps * 2  # two micro-batches a step
    assert set(sides[:half]) == {(96, 96)}
    assert set(sides[half:]) == {(64, 64)}


def test_a_run_whose_loader_hangs_ends_and_goes_on_from_its_last_checkpoint(tiny_store, tmp_path):
    pipe = tmp_path / "picture.jpg"
    os.mkfifo(pipe)  # reading it waits for a writer, for ever

    class DyingDisk(TrainingSet):
        def samples(self, epoch, indices, pipeline):
            if epoch == 1:
                pipe.read_bytes()
            return super().samples(epoch, indices, pipeline)

    config = CONFIG.model_copy(update={"loader_stall_s": 3.0})
    dataset = DyingDisk(Store.open(tiny_store), 64, AugmentConfig(), config.seed)
    torch.manual_seed(config.seed)
    with open_checkpoints(tmp_path / "cut") as checkpoints:
        with pytest.raises(LoaderStalledError, match=r"no batch for 3 s, .* of epoch 1"):
            fit(build_rtmo("t"), dataset, config, callbacks(), checkpoints)
        assert checkpoints.load_latest().position.step == 2
    os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))  # lets the hanging thread go
    continued = run(tiny_store, tmp_path / "cut")
    assert_same_weights(run(tiny_store, tmp_path / "whole").last_weights, continued.last_weights)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the compiler's time, for two sizes
def test_a_compiled_run_that_is_stopped_ends_with_the_same_bits_under_plain_names(
    tiny_store, tmp_path
):
    config = CONFIG.model_copy(update={"compile": "per_size", "phases": CONFIG.phases[:1]})
    sides = (64, 96)
    undisturbed = run(tiny_store, tmp_path / "undisturbed", config, multiscale=sides)
    plain = config.model_copy(update={"compile": "off", "epochs": 1})
    eager = run(tiny_store, tmp_path / "eager", plain, multiscale=sides)
    assert undisturbed.last_weights.keys() == eager.last_weights.keys()
    assert undisturbed.history[1]["loss"] == pytest.approx(eager.history[1]["loss"], rel=1e-3)

    questions = iter(range(100))
    stopping = callbacks(should_stop=lambda: next(questions) == 2)
    with pytest.raises(TrainingInterrupted, match="stopped at step 3"):
        run(tiny_store, tmp_path / "stopped", config, stopping, sides)
    torch.compiler.reset()  # as in a new process
    continued = run(tiny_store, tmp_path / "stopped", config, multiscale=sides)
    assert_same_weights(undisturbed.last_weights, continued.last_weights)
    assert undisturbed.history == continued.history
