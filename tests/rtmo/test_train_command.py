"""`rtmo train`, run as a person runs it: COCO files in, weights out, no service in between."""

import json
import signal
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from rtmo import cli
from rtmo.formats.coco import write_coco
from rtmo.model.weights import load_model, read_metadata
from rtmo.skeleton import COCO17, CROWDPOSE14

TRAIN = (sys.executable, "-c", "from rtmo.cli import main; main()", "train")
RECIPE = {
    "data": {"dataset": "not looked at"},
    "model": {"size": "t", "input_size": 64},
    "train": {
        "epochs": 2,
        "micro_batch": 2,
        "global_batch": 4,
        "cpu_threads": 1,
        "device": "cpu",
        "optimizer": {"lr": 1e-3, "warmup_epochs": 1, "clip_norm": 1.0},
        "validate_every_epochs": 2,
        "checkpoint_every_steps": 100,
    },
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("labels")


@pytest.fixture
def write_labels(folder, random_records, picture_file):
    """Writes an annotation file and its pictures; gives the options that name them."""

    def write(split, count, skeleton=COCO17):
        records = random_records(count, skeleton)
        annotations = folder / f"{split}-{skeleton.name}.json"
        annotations.write_text(json.dumps(write_coco(records, skeleton)))
        images = folder / split
        images.mkdir(exist_ok=True)
        for record in records:
            picture = picture_file(record.height, record.width, record.id)
            (images / record.file_name).write_bytes(picture)
        prefix = "" if split == "train" else "val-"
        return [f"--{prefix}annotations", str(annotations), f"--{prefix}images", str(images)]

    return write


@pytest.fixture
def labels(write_labels):
    return [*write_labels("train", 8), *write_labels("val", 4)]


@pytest.fixture
def recipe(tmp_path):
    """Writes the recipe, with changes in its section `train`."""

    def write(**changes):
        path = tmp_path / "recipe.yaml"
        YAML().dump({**RECIPE, "train": {**RECIPE["train"], **changes}}, path)
        return ["--recipe", str(path)]

    return write


@pytest.fixture
def train(monkeypatch, capsys):
    """Run `rtmo train ARGUMENTS`; gives (exit status, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["rtmo", "train", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        output = capsys.readouterr()
        return status, output.out, output.err

    return run


def test_labels_become_weights_that_a_second_training_starts_from(train, labels, recipe, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    status, output, errors = train(*recipe(), *labels, "--out", first, "--auto-batch")
    assert status == 0, errors
    assert f"{first / 'weights.safetensors'}: AP " in output
    assert "micro-batch 4 of a global batch of 4" in errors
    written = {path.name for path in first.iterdir()}
    assert written == {
        "curves.csv",
        "metrics.json",
        "model_card.json",
        "sample_batch.png",
        "weights.safetensors",
    }
    assert read_metadata(first / "weights.safetensors")["dataset"] == "train-coco17"
    assert load_model(first / "weights.safetensors").skeleton == COCO17

    start = first / "weights.safetensors"
    status, _, errors = train(*recipe(), *labels, "--out", second, "--weights", start)
    assert status == 0, errors
    card = json.loads((second / "model_card.json").read_text())
    assert card["initial"]["file"] == str(start)


@pytest.mark.slow
def test_a_stopped_training_ends_with_the_bits_of_an_undisturbed_one(
    train, labels, recipe, tmp_path
):
    recipe = recipe(epochs=3)
    status, _, errors = train(*recipe, *labels, "--out", tmp_path / "whole")
    assert status == 0, errors
    command = [*TRAIN, *recipe, *labels, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for line in process.stderr:
        if line.startswith("step 0:"):
            process.send_signal(signal.SIGINT)
            break
    errors = process.stderr.read()
    assert process.wait() == 85, errors
    assert "give the same command again" in errors
    status, _, errors = train(*command[len(TRAIN) :])
    assert status == 0, errors
    assert not (tmp_path / "cut" / ".training").exists()
    whole, cut = (tmp_path / name / "weights.safetensors" for name in ("whole", "cut"))
    assert whole.read_bytes() == cut.read_bytes()


def test_what_cannot_be_used_is_named(train, labels, recipe, write_labels, tmp_path):
    out = ["--out", tmp_path / "out"]

    def refused(*arguments):
        status, _, errors = train(*arguments, *out)
        assert status == 2, errors
        assert not (tmp_path / "out" / "weights.safetensors").exists()
        return errors

    assert "did you mean epochs?" in refused(*recipe(epoch=3), *labels)
    assert "train.epochs is 0" in refused(*recipe(epochs=0), *labels)
    assert "train.processes" in refused(*recipe(processes=2), *labels)
    assert "lower it" in refused(*recipe(global_batch=64, micro_batch=64), *labels)
    assert "no file nothing.safetensors" in refused(
        *recipe(), *labels, "--weights", "nothing.safetensors"
    )
    missing = [*labels[:2], "--images", str(tmp_path / "nowhere"), *labels[4:]]
    assert "no folder of pictures" in refused(*recipe(), *missing)
    empty = tmp_path / "empty"
    empty.mkdir()
    errors = refused(*recipe(), *labels[:2], "--images", str(empty), *labels[4:])
    assert "'image_file_missing': 8" in errors
    others = [*labels[:4], *write_labels("val", 4, CROWDPOSE14)]
    assert "both need the same" in refused(*recipe(), *others)


def test_a_finished_training_is_not_overwritten(train, labels, recipe, tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"precious")
    status, _, errors = train(*recipe(), *labels, "--out", tmp_path)
    assert (status, "finished training" in errors) == (2, True)
    assert (tmp_path / "weights.safetensors").read_bytes() == b"precious"
