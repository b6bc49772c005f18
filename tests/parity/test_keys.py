"""The official state dict: its names, their order, every shape, and the parameter counts."""

import json

import pytest

from rtmo.model.mmpose_keys import key_pairs
from rtmo.model.rtmo import RTMO
from rtmo.skeleton import COCO17, CROWDPOSE14

PARAMETERS = {
    ("t", "coco17"): 6_829_875,
    ("s", "coco17"): 9_868_899,
    ("m", "coco17"): 22_526_307,
    ("l", "coco17"): 44_693_315,
    ("s", "crowdpose14"): 9_765_678,
    ("m", "crowdpose14"): 22_372_254,
    ("l", "crowdpose14"): 44_488_430,
}
SKELETONS = {"coco17": COCO17, "crowdpose14": CROWDPOSE14}


@pytest.mark.parametrize(("size", "skeleton"), PARAMETERS)
def test_keys_shapes_and_counts_are_the_official_ones(size, skeleton, golden):
    official = json.loads(golden(f"keys_{size}_{skeleton}.json").read_text())
    model = RTMO(size, SKELETONS[skeleton])
    state = model.state_dict()
    pairs = key_pairs(size)
    assert [pair.official for pair in pairs] == [key for key, _, _ in official]
    assert {pair.ours for pair in pairs if pair.ours} == set(state)
    for pair, (key, shape, dtype) in zip(pairs, official, strict=True):
        if pair.ours is not None:
            assert list(state[pair.ours].shape) == shape, key
            assert str(state[pair.ours].dtype) == f"torch.{dtype}", key
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == PARAMETERS[size, skeleton]
