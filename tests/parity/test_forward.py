"""The forward pass agrees with the official implementation, block by block and to the pixel.

Tolerances are those of the golden files' README; ours is the same arithmetic in float32, so the
differences are rounding (seen: logits 1e-5, boxes 4e-4 px, keypoints 0.02 px).
"""

import numpy as np
import pytest
import torch

from rtmo.boxes import xyxy_to_centre_size
from rtmo.model.decode import decode

CASES = [
    ("t", "coco17", 416, 416, 1, ""),
    ("s", "coco17", 640, 640, 1, ""),
    ("s", "coco17", 384, 576, 2, "_384x576_b2"),
    ("s", "crowdpose14", 640, 640, 1, ""),
    pytest.param(("l", "coco17", 640, 640, 1, ""), marks=pytest.mark.slow),
]

LAYER = "neck.encoder.0.layers.0"
MODULES = {
    **{f"backbone.{part}": f"backbone.{part}" for part in ("stem", "stage1", "stage2", "stage3")},
    "backbone.stage4": "backbone.stage4",
    **{f"neck.input_proj.{i}": f"neck.input_proj.{i}" for i in range(3)},
    f"{LAYER}.norms.0": "neck.encoder.attention_norm",
    "neck.encoder.0": "neck.encoder",
    "neck.pos_enc": "neck.positions",
    "neck.lateral_convs.0": "neck.lateral.0",
    "neck.fpn_blocks.0": "neck.top_down.0",
    "neck.fpn_blocks.1": "neck.top_down.1",
    "neck.downsample_convs.0": "neck.downsample.0",
    "neck.pan_blocks.0": "neck.bottom_up.0",
    "neck.pan_blocks.1": "neck.bottom_up.1",
    "neck.out0": "neck.projector.0",
    "neck.out1": "neck.projector.1",
    **{
        f"head.{theirs}.{level}": f"head.levels.{level}.{ours}"
        for level in range(2)
        for theirs, ours in (
            ("cls", "out_cls"),
            ("bbox", "out_box"),
            ("kpt_offset", "out_proxy"),
            ("kpt_vis", "out_visibility"),
            ("pose_vec", "out_pose"),
        )
    },
}


def subsample(x):
    flat = x.detach().contiguous().flatten().numpy()
    return flat[:: max(1, len(flat) // 2048)]


def assert_agrees(actual, golden, name, per_std=1e-3):
    """Shape, statistics and every kept entry, within a part of the tensor's own spread."""
    std = golden[f"{name}__stat"][1]
    shape = tuple(golden[f"{name}__shape"])
    assert actual.numel() == np.prod(shape), name
    np.testing.assert_allclose(
        subsample(actual), golden[f"{name}__sub"], rtol=0, atol=per_std * std, err_msg=name
    )
    ours = (actual.mean(), actual.std(), actual.min(), actual.max())
    np.testing.assert_allclose(
        ours, golden[f"{name}__stat"], rtol=0, atol=5 * per_std * std, err_msg=name
    )


@pytest.fixture(
    params=CASES, ids=lambda case: f"{case[0]}-{case[1]}-{case[2]}x{case[3]}", scope="module"
)
def run(request, formula, formula_model, golden):
    """A model, its outputs with every block's output on the way, and the golden arrays."""
    size, skeleton, height, width, batch, suffix = request.param
    arrays = np.load(golden(f"forward_{size}_{skeleton}{suffix}.npz"))
    model = formula_model(size, skeleton)
    seen = {}
    handles = [
        model.get_submodule(ours).register_forward_hook(
            lambda _module, _args, output, name=theirs: seen.__setitem__(name, output)
        )
        for theirs, ours in MODULES.items()
    ]
    handles.append(
        model.get_submodule("neck.encoder.attention_norm").register_forward_pre_hook(
            lambda _module, args: seen.__setitem__(f"{LAYER}.self_attn", args[0])
        )
    )
    images = formula.image(f"image_{height}x{width}", height, width, batch)
    with torch.no_grad():
        raw = model(torch.from_numpy(images))
    for handle in handles:
        handle.remove()
    return model, raw, seen, arrays


def test_every_block_gives_what_the_official_block_gives(run):
    _, _, seen, arrays = run
    for name, output in seen.items():
        assert_agrees(output, arrays, name)


def test_flattened_outputs_priors_and_boxes_agree(run):
    _, raw, _, arrays = run
    np.testing.assert_allclose(raw.cls_logits[..., None], arrays["flat_cls_logits"], atol=1e-4)
    np.testing.assert_allclose(raw.boxes_raw, arrays["flat_bbox_raw"], atol=1e-4)
    np.testing.assert_allclose(raw.boxes_xyxy, arrays["flat_bbox_xyxy"], rtol=0, atol=5e-3)
    priors = torch.cat((raw.priors_xy, raw.strides[:, None], raw.strides[:, None]), dim=1)
    np.testing.assert_array_equal(priors, arrays["priors"])
    assert_agrees(raw.proxy_keypoints_xy, arrays, "flat_kpt_proxy")
    assert_agrees(raw.visibility_logits, arrays, "flat_kpt_vis_logit")
    assert_agrees(raw.pose_vectors, arrays, "flat_pose_vec")


def test_coordinate_classifier_internals_agree(run):
    model, raw, _, arrays = run
    dcc, classifier = model.dcc, model.dcc.classifier
    ids = torch.from_numpy(arrays["dcc.idx"])
    vectors, boxes, priors = raw.pose_vectors[0, ids], raw.boxes_xyxy[0, ids], raw.priors_xy[ids]
    centre, size = xyxy_to_centre_size(boxes)
    size = size * 1.25
    np.testing.assert_allclose(torch.cat((centre, size), 1), arrays["dcc.bbox_cs"], atol=5e-3)
    with torch.no_grad():
        for axis, name, column in ((classifier.x_axis, "x", 0), (classifier.y_axis, "y", 1)):
            offset = (centre - priors)[:, column, None]
            encoding = axis.fc(axis.encoding(axis.bins * size[:, column, None] + offset))
            assert_agrees(encoding, arrays, f"dcc.{name}_bin_enc")
        features = dcc.pose_features(vectors)
        assert_agrees(features, arrays, "dcc.pose_to_kpts")
        assert_agrees(classifier.gau(features, classifier.keypoint_positions), arrays, "dcc.gau")
        result = dcc(vectors, boxes, priors)
    # heat maps amplify the boxes' rounding: 1e-2 of their spread, as the README says
    assert_agrees(result.x_probabilities, arrays, "dcc.hm_x", per_std=1e-2)
    assert_agrees(result.y_probabilities, arrays, "dcc.hm_y", per_std=1e-2)
    np.testing.assert_allclose(result.sigmas, arrays["dcc.sigmas"], atol=1e-5)
    assert_keypoints_agree(result.keypoints_xy.numpy(), arrays["dcc.kpts"])


@pytest.mark.parametrize("threshold", [0.10, 0.05])
def test_kept_people_scores_boxes_and_keypoints_agree(run, threshold):
    model, raw, _, arrays = run
    with torch.no_grad():
        people = decode(raw, model.dcc, score_threshold=threshold, nms_iou=0.65)
    for image, poses in enumerate(people):
        prefix = f"pred{image}.thr{threshold:.2f}."
        expected_ids = arrays[prefix + "kept_prior_idx"]
        expected_scores = arrays[prefix + "scores"]
        ids = poses.prior_ids.numpy()
        assert set(ids) == set(expected_ids)
        np.testing.assert_allclose(poses.scores, expected_scores, atol=1e-4)
        moved = ids != expected_ids
        order = np.argsort(ids)[np.searchsorted(np.sort(ids), expected_ids)]
        # neighbours may change places only where their scores are equal to 1e-6
        assert np.abs(expected_scores - poses.scores.numpy()[order])[moved].max(initial=0) < 1e-6
        boxes = to_original(poses.boxes_xyxy[order].reshape(-1, 2, 2), arrays).reshape(-1, 4)
        np.testing.assert_allclose(boxes, arrays[prefix + "bboxes"], rtol=0, atol=5e-3)
        keypoints = to_original(poses.keypoints_xy[order], arrays)
        assert_keypoints_agree(keypoints, arrays[prefix + "keypoints"])
        np.testing.assert_allclose(
            poses.keypoint_scores[order], arrays[prefix + "keypoint_scores"], atol=1e-4
        )


def to_original(points_xy, arrays):
    """Input pixels -> pixels of the imaginary original picture."""
    scale, centre = arrays["input_scale"], arrays["input_center"]
    return points_xy.numpy() / arrays["input_size"] * scale + centre - scale / 2


def assert_keypoints_agree(actual, expected):
    """Expectations of near-bimodal heat maps are sensitive, so the bounds are on quantiles.

    The tail is asked for where it has members: 32 people of size l are too few.
    """
    distance = np.linalg.norm(actual - expected, axis=-1)
    assert np.median(distance) < 1e-3
    if distance.size > 1000:
        assert np.quantile(distance, 0.999) < 0.1
    assert distance.max() < 1.5
