"""Our weights files: round trip, the same bytes, and refusals that say what to do."""

import json

import pytest
import torch
from safetensors.torch import save_file

from rtmo.model.build import build_rtmo
from rtmo.model.mmpose_checkpoint import save_official
from rtmo.model.weights import (
    PER_KEYPOINT,
    WeightsError,
    load_for_training,
    load_model,
    load_weights,
    read_metadata,
    save_weights,
)
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

METADATA = {"input_size": "416", "dataset": "embedded", "stage_hash": "abc", "licence": "{}"}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_rtmo("t", COCO17)


@pytest.fixture
def file(model, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_weights(model, path, METADATA)
    return path


def test_a_model_comes_back_as_it_was_saved(model, file):
    again = load_model(file)
    assert (again.size, again.skeleton) == ("t", COCO17)
    assert not again.training
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())
    facts = read_metadata(file)
    assert facts["format"] == "rtmo"
    assert {key: facts[key] for key in METADATA} == METADATA


def test_a_custom_skeleton_comes_back_too(tmp_path):
    dog = Skeleton(
        name="dog",
        keypoints=("nose", "tail"),
        flip_pairs=(),
        limbs=((0, 1),),
        sigmas=(0.05, 0.1),
    )
    path = tmp_path / "dog.safetensors"
    save_weights(build_rtmo("t", dog), path, {})
    assert load_model(path).skeleton == dog


def test_the_same_weights_give_the_same_bytes(tmp_path):
    files = [tmp_path / name for name in "abcdef"]
    state = {"b": torch.ones(3), "a": torch.zeros(2)}
    for file in files:
        save_weights(state, file, {"size": "t", "skeleton": "{}", **METADATA})
    assert len({file.read_bytes() for file in files}) == 1
    header = file.read_bytes()[8:]
    keys = list(json.JSONDecoder().raw_decode(header.decode("utf-8", "ignore"))[0]["__metadata__"])
    assert keys == sorted(keys)


def test_a_report_names_what_was_loaded(model, file):
    report = load_weights(build_rtmo("t", COCO17), file)
    assert set(report.loaded) == set(model.state_dict())
    assert report.kept == report.unused == ()
    assert str(report) == f"{file}: {len(report.loaded)} tensors taken"


def test_a_report_in_words_names_what_is_missing_and_what_is_too_much(tmp_path):
    tensors = build_rtmo("t").state_dict()
    lacking = {name: tensor for name, tensor in tensors.items() if "sigma_fc" not in name}
    spoilt = {**lacking, **{f"extra.{letter}": torch.zeros(1) for letter in "abcde"}}
    path = tmp_path / "t.safetensors"
    metadata = {"size": "t", "skeleton": COCO17.model_dump_json(), **METADATA}
    save_weights(spoilt, path, metadata)
    report = load_weights(build_rtmo("t", COCO17), path)
    assert str(report) == (
        f"{path}: {len(lacking)} tensors taken; {len(tensors) - len(lacking)} it lacks stay as "
        f"drawn: {', '.join(report.kept)}; 5 of its own are not used: extra.a, extra.b, extra.c "
        "and 2 more"
    )


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("t", CROWDPOSE14), "holds RTMO-t for 17 keypoints, the model is RTMO-t for 14"),
        (("s", COCO17), "holds RTMO-t for 17 keypoints, the model is RTMO-s for 17"),
    ],
)
def test_another_skeleton_or_size_is_refused_and_the_model_unchanged(other, message, file):
    model = build_rtmo(*other)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=message):
        load_weights(model, file)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_as_many_keypoints_in_another_order_are_refused(file):
    order = COCO17.keypoints[::-1]
    turned = COCO17.model_copy(update={"name": "turned", "keypoints": order})
    with pytest.raises(WeightsError, match=r"skeleton 'coco17' .* the model for 'turned'"):
        load_weights(build_rtmo("t", turned), file)


def test_a_wrong_shape_is_refused_by_name_and_shapes(model, tmp_path):
    state = dict(model.state_dict())
    state["head.levels.0.out_box.weight"] = torch.zeros(5, 104, 1, 1)
    path = tmp_path / "wrong.safetensors"
    save_file(state, path)
    with pytest.raises(
        WeightsError, match=r"out_box.weight has shape \(5, 104, 1, 1\), expected \(4, 104, 1, 1\)"
    ):
        load_weights(model, path)


def test_nan_weights_are_refused_by_name(model, tmp_path):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["dcc.pose_fc.bias"][3] = torch.nan
    path = tmp_path / "nan.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"dcc.pose_fc.bias holds NaN .* earlier checkpoint"):
        load_weights(model, path)


def test_a_file_cut_short_is_refused(file, model):
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match="fetch it again"):
        load_weights(model, file)
    with pytest.raises(WeightsError):
        load_model(file)


def test_a_file_that_is_not_there_is_refused(model, tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        load_weights(model, tmp_path / "nowhere.safetensors")


def test_a_file_of_another_program_needs_a_model_that_was_built(model, tmp_path):
    path = tmp_path / "foreign.safetensors"
    save_file(dict(model.state_dict()), path)
    with pytest.raises(WeightsError, match="metadata format None, expected 'rtmo'"):
        load_model(path)
    assert len(load_weights(build_rtmo("t"), path).loaded) == len(model.state_dict())


def test_weights_without_size_or_skeleton_are_not_written(model, tmp_path):
    with pytest.raises(WeightsError, match="has no 'size'"):
        save_weights(model.state_dict(), tmp_path / "x.safetensors", {"skeleton": "{}"})
    assert not list(tmp_path.iterdir())


SIX = Skeleton(
    name="six",
    keypoints=("tail", "right_ankle", "nose", "left_wrist", "paw", "left_ankle"),
    flip_pairs=((5, 1),),
    limbs=(),
    sigmas=(0.05,) * 6,
)


def test_every_tensor_that_depends_on_the_skeleton_is_known():
    of_coco, of_six = (build_rtmo("t", skeleton).state_dict() for skeleton in (COCO17, SIX))
    dependent = {name for name in of_coco if of_coco[name].shape != of_six[name].shape}
    assert {name for name in of_coco if any(part in name for part in PER_KEYPOINT)} == dependent


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_training_may_begin_with_weights_of_other_keypoints(tmp_path, suffix):
    torch.manual_seed(0)
    theirs, ours = build_rtmo("t"), build_rtmo("t", SIX)
    path = tmp_path / f"coco{suffix}"
    if suffix == ".pth":
        save_official(theirs, path)
    else:
        save_weights(theirs, path, {"input_size": "416"})
    drawn = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    load_for_training(ours, path)
    loaded, source = ours.state_dict(), theirs.state_dict()
    for name, tensor in loaded.items():
        if tensor.shape == source[name].shape:
            assert torch.equal(tensor, source[name]), name
            continue
        rows, before = (t.unflatten(0, (6, -1)) for t in (tensor, drawn[name]))
        given = source[name].unflatten(0, (17, -1))
        assert torch.equal(rows[2], given[COCO17.keypoints.index("nose")]), name
        assert torch.equal(rows[1], given[COCO17.keypoints.index("right_ankle")]), name
        assert torch.equal(rows[0], before[0]), name


def test_the_same_keypoints_in_another_order_find_their_values(tmp_path):
    turned = SIX.model_copy(update={"keypoints": SIX.keypoints[::-1], "flip_pairs": ((0, 4),)})
    theirs, ours = build_rtmo("t", turned), build_rtmo("t", SIX)
    save_weights(theirs, tmp_path / "six.safetensors", {"input_size": "416"})
    load_for_training(ours, tmp_path / "six.safetensors")
    loaded, source = (model.state_dict()["dcc.sigma_fc.weight"] for model in (ours, theirs))
    assert torch.equal(loaded, source.flip(0))


def test_training_refuses_weights_of_another_size(tmp_path):
    save_weights(build_rtmo("t"), tmp_path / "t.safetensors", {"input_size": "416"})
    with pytest.raises(WeightsError, match=r"holds RTMO-t, the model is RTMO-s; set model\.size"):
        load_for_training(build_rtmo("s", SIX), tmp_path / "t.safetensors")
