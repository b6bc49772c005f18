"""The network in fewer operations, held against the folded network."""

import pytest
import torch

from rtmo.deployment.lean_network import LeanRTMO
from rtmo.model import build_rtmo
from rtmo.model.inference import fold
from rtmo.model.rtmo import RTMO
from rtmo.skeleton import COCO17, CROWDPOSE14

INPUT_HW = (64, 96)  # oblong: a kernel of the stem that is turned over shows


def with_lively_norms(model: RTMO) -> RTMO:
    """Norms that shift and scale, so that every folded bias is there."""
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
            norm.weight.data.uniform_(0.5, 1.5)
            norm.bias.data.normal_(0, 0.1)
    return model.eval()


@pytest.mark.parametrize(("size", "skeleton"), [("t", CROWDPOSE14), ("s", COCO17), ("m", COCO17)])
def test_it_says_what_the_folded_network_says(size, skeleton):
    torch.manual_seed(0)
    model = with_lively_norms(build_rtmo(size, skeleton=skeleton))
    folded, lean = fold(model), LeanRTMO(fold(model)).eval()
    images = 255 * torch.rand(2, 3, *INPUT_HW)
    with torch.inference_mode():
        *expected, pose_vectors = folded(images)
        *said, features = lean(images)
        for wanted, value in zip(expected, said, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-5, atol=1e-4)
        rows = torch.tensor([0, 5, 22, 23, 24, 29])  # 24 priors of stride 16, then 6 of stride 32
        boxes, priors = expected[1][0, rows], lean.priors(*INPUT_HW)[rows]
        assert priors[:, 2].tolist() == [16, 16, 16, 16, 32, 32]
        wanted = folded.keypoints(pose_vectors[0, rows], boxes, folded.priors_xy(*INPUT_HW)[rows])
        keypoints = lean.keypoints(features[0, rows], boxes, priors)
    torch.testing.assert_close(keypoints, wanted, rtol=0, atol=2e-3)  # pixels


def test_it_computes_less():
    """Multiplications of the convolutions at 640 px, RTMO-s: 11.5 billion become 10.5 billion."""
    model = build_rtmo("s")
    images = torch.zeros(1, 3, 640, 640)
    counts = [multiplications(network, images) for network in (fold(model), LeanRTMO(fold(model)))]
    assert counts[1] < 0.92 * counts[0]


def multiplications(network: torch.nn.Module, images: torch.Tensor) -> int:
    """Of all convolutions in a forward pass."""
    total = 0

    def count(module: torch.nn.Conv2d, _inputs: object, output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    hooks = [
        module.register_forward_hook(count)
        for module in network.modules()
        if isinstance(module, torch.nn.Conv2d)
    ]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return total
