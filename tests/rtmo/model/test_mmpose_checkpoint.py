"""Official checkpoints: read as published, refused where unsafe or damaged, written back."""

import json
import os
import pickle
import sys
from collections import OrderedDict
from types import ModuleType

import numpy as np
import pytest
import torch

from rtmo.model.build import build_rtmo
from rtmo.model.mmpose_checkpoint import read_state, save_official
from rtmo.model.mmpose_keys import key_pairs
from rtmo.model.weights import WeightsError, load_backbone, load_model, load_weights, read_metadata
from rtmo.skeleton import COCO17, CROWDPOSE14

META = {
    "epoch": 600,
    "dataset_meta": {
        "dataset_name": "coco",
        "keypoint_colors": np.full((17, 3), 7, dtype=np.uint8),
        "dataset_keypoint_weights": np.ones(17, dtype=np.float32),
        "sigmas": np.array(COCO17.sigmas, dtype=np.float32),
        "num_links": np.int64(19),
    },
}


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_rtmo("t", COCO17)


@pytest.fixture(scope="module")
def official(model, tmp_path_factory):
    """State dict of `model` by official names."""
    path = tmp_path_factory.mktemp("official") / "t.pth"
    save_official(model, path)
    return read_state(path)


def publish(path, state, *, legacy=True):
    """As mmpose's publish_model writes it: meta with numpy arrays, old serialisation."""
    content = {"meta": META, "state_dict": OrderedDict(state)}
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


@pytest.mark.parametrize("legacy", [True, False])
def test_a_published_file_is_read_without_running_code(model, official, tmp_path, legacy):
    path = publish(tmp_path / "t.pth", official, legacy=legacy)
    other = build_rtmo("t", COCO17)
    report = load_weights(other, path)
    assert report.kept == report.unused == ()
    state = model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in other.state_dict().items())


def test_numpy_arrays_pickled_by_numpy_1_are_read(official, tmp_path):
    path = publish(tmp_path / "t.pth", official)
    old = path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != path.read_bytes()
    path.write_bytes(old)
    assert len(read_state(path)) == len(official)


def test_size_and_skeleton_follow_from_the_tensors(official, tmp_path):
    path = publish(tmp_path / "t.pth", official)
    loaded = load_model(path)
    assert (loaded.size, loaded.skeleton) == ("t", COCO17)
    assert read_metadata(path)["input_size"] == "416"


def test_a_checkpoint_of_another_model_or_skeleton_is_refused(official, tmp_path):
    face = {**official, "head.dcc.pos_enc": torch.zeros(68, 128)}
    with pytest.raises(WeightsError, match="68 keypoints, which no built-in skeleton has"):
        load_model(publish(tmp_path / "face.pth", face))
    with pytest.raises(WeightsError, match="holds no RTMO"):
        load_model(publish(tmp_path / "other.pth", {"fc.weight": torch.zeros(2)}))


def test_parameters_of_training_may_be_missing_and_are_named(model, official, tmp_path):
    lacking = {
        name: value
        for name, value in official.items()
        if "out_kpt_reg" not in name and "sigma_fc" not in name
    }
    other = build_rtmo("t", COCO17)
    drawn = other.head.levels[0].out_proxy.weight.clone()
    report = load_weights(other, publish(tmp_path / "t.pth", lacking))
    assert len(report.kept) == 4 + 3
    assert "head.levels.0.out_proxy.weight" in report.kept
    assert torch.equal(other.head.levels[0].out_proxy.weight, drawn)
    assert torch.equal(other.dcc.pose_fc.weight, model.dcc.pose_fc.weight)


def test_parameters_of_inference_may_not_be_missing(model, official, tmp_path):
    del (lacking := dict(official))["head.dcc.gau.o.weight"]
    with pytest.raises(WeightsError, match=r"lacks 1 of the .* first is dcc.classifier.gau.out"):
        load_weights(model, publish(tmp_path / "t.pth", lacking))


def test_tensors_without_a_place_are_reported(model, official, tmp_path):
    path = publish(tmp_path / "t.pth", {**official, "head.extra.weight": torch.zeros(1)})
    assert load_weights(model, path).unused == ("head.extra.weight",)


def test_a_training_checkpoint_has_averaged_and_raw_weights(official, tmp_path):
    raw = {f"module.{name}": value * 2 for name, value in official.items()}
    path = tmp_path / "epoch_600.pth"
    content = {
        "meta": META,
        "state_dict": official,
        "ema_state_dict": OrderedDict(steps=torch.tensor(9), **raw),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "message_hub": {"log_scalars": OrderedDict(loss=history_buffer())},
    }
    torch.save(content, path)
    name = "head.dcc.pos_enc"
    assert torch.equal(read_state(path)[name], official[name])
    assert torch.equal(read_state(path, "raw")[name], official[name] * 2)
    other = build_rtmo("t", COCO17)
    load_weights(other, path, "raw")
    assert torch.equal(other.dcc.classifier.keypoint_positions, official[name] * 2)


def history_buffer():
    """An object that pickles like mmengine's HistoryBuffer: arrays, and a table of its methods."""
    module = ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        def mean(self):
            return 0.0

    HistoryBuffer.__module__ = module.__name__
    HistoryBuffer.__qualname__ = "HistoryBuffer"
    HistoryBuffer.mean.__module__ = module.__name__
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    module.HistoryBuffer = HistoryBuffer
    for name in ("mmengine", "mmengine.logging"):
        sys.modules.setdefault(name, ModuleType(name))
    sys.modules[module.__name__] = module
    buffer = HistoryBuffer()
    buffer.__dict__.update(
        _log_history=np.zeros(3), statistics_methods={"mean": HistoryBuffer.mean}
    )
    return buffer


def test_a_published_file_has_no_raw_weights(official, tmp_path):
    with pytest.raises(WeightsError, match="no raw weights"):
        read_state(publish(tmp_path / "t.pth", official), "raw")


class Command:
    """Runs a command when it is unpickled by an ordinary reader."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["meta", "state_dict", "whole"])
def test_a_pickle_with_code_is_refused_and_nothing_runs(place, model, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "evil.pth"
    evil = Command(f"touch {trace}")
    if place == "whole":
        path.write_bytes(pickle.dumps(evil))
    else:
        torch.save({"meta": {}, "state_dict": {}, place: {"x": evil}}, path)
    with pytest.raises(WeightsError, match=r"asks for posix.system .* refused|damaged"):
        load_weights(model, path)
    assert not trace.exists()


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_refused(model, official, tmp_path, legacy, share):
    path = publish(tmp_path / "t.pth", official, legacy=legacy)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(WeightsError, match="damaged, cut short or no torch file"):
        load_weights(model, path)


def test_something_else_than_a_checkpoint_is_refused(model, tmp_path):
    page, numbers = tmp_path / "page.pth", tmp_path / "numbers.pth"
    page.write_text("<html>404 Not Found</html>")
    torch.save([1, 2, 3], numbers)
    with pytest.raises(WeightsError, match="no torch file"):
        load_weights(model, page)
    with pytest.raises(WeightsError, match="holds a list, expected a dict"):
        load_weights(model, numbers)
    with pytest.raises(WeightsError, match=r"nowhere.pth cannot be read"):
        load_weights(model, tmp_path / "nowhere.pth")


def test_another_size_skeleton_or_nan_is_refused(official, tmp_path):
    path = publish(tmp_path / "t.pth", official)
    with pytest.raises(WeightsError, match="holds RTMO-t for 17 keypoints, the model is RTMO-s"):
        load_weights(build_rtmo("s"), path)
    with pytest.raises(WeightsError, match=r"for 14 \(crowdpose14\)"):
        load_weights(build_rtmo("t", CROWDPOSE14), path)
    broken = {**official, "head.dcc.x_fc.weight": torch.full((128, 128), torch.inf)}
    with pytest.raises(WeightsError, match=r"head.dcc.x_fc.weight holds NaN or infinite"):
        load_weights(build_rtmo("t"), publish(path, broken))


def test_what_is_written_for_mmpose_has_its_names_order_shapes_and_constants(model, tmp_path):
    path = tmp_path / "t.pth"
    save_official(model, path)
    state = torch.load(path, weights_only=True)["state_dict"]
    assert list(state) == [pair.official for pair in key_pairs("t")]
    torch.testing.assert_close(state["head.loss_oks.sigmas"], torch.tensor(COCO17.sigmas))
    assert state["head.dcc.x_bins"][[0, -1]].tolist() == [-0.5, 0.5]
    assert state["head.dcc.y_bins"].shape == (256,)
    assert state["head.dcc.spe.dim_t"][32].item() == pytest.approx(300**0.5)
    assert state["neck.sincos_pos_enc.dim_t"][32].item() == pytest.approx(100.0)
    assert state["backbone.stem.conv.bn.num_batches_tracked"].dtype == torch.int64


def test_shapes_written_for_mmpose_are_the_official_ones(official, repository):
    golden = json.loads((repository / "tests/golden/keys_t_coco17.json").read_text())
    assert [[name, list(value.shape)] for name, value in official.items()] == [
        [name, shape] for name, shape, _ in golden
    ]


def test_a_yolox_backbone_starts_a_model(official, tmp_path):
    yolox = {name: value for name, value in official.items() if name.startswith("backbone.")}
    yolox["bbox_head.multi_level_conv_cls.0.weight"] = torch.zeros(80, 96, 1, 1)
    path = publish(tmp_path / "yolox.pth", yolox)
    other = build_rtmo("t", CROWDPOSE14)
    neck = other.neck.projector[0].conv.weight.clone()
    report = load_backbone(other, path)
    stem = "backbone.stem.conv.conv.weight"
    assert torch.equal(other.state_dict()[stem], official[stem])
    assert torch.equal(other.neck.projector[0].conv.weight, neck)
    assert all(name.startswith("backbone.") for name in report.loaded)
    assert report.unused == ("bbox_head.multi_level_conv_cls.0.weight",)
    with pytest.raises(WeightsError, match="YOLOX of another depth"):
        load_backbone(build_rtmo("l"), path)
    with pytest.raises(WeightsError, match=r"stem.* has shape \(24, 12, 3, 3\), expected \(32"):
        load_backbone(build_rtmo("s"), path)
