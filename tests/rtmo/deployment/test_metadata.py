"""What a model file says about itself."""

from pathlib import Path

import pytest

from rtmo.deployment.metadata import (
    MetadataError,
    ModelMetadata,
    input_size,
    metadata_from_properties,
)
from rtmo.skeleton import CROWDPOSE14, Skeleton

HAND = Skeleton(
    name="hand",
    keypoints=("wrist", "thumb"),
    flip_pairs=(),
    limbs=((0, 1),),
    sigmas=(0.05, 0.04),
)


@pytest.mark.parametrize("skeleton", [CROWDPOSE14, HAND])
def test_metadata_survive_the_way_through_string_properties(skeleton):
    metadata = ModelMetadata(
        skeleton=skeleton,
        input_size=416,
        letterbox="top_left",
        form="raw",
        score_threshold=0.3,
        max_people=77,
        training_hash="abc",
        licence='{"name": "CC BY 4.0"}',
    )
    properties = metadata.to_properties()
    assert all(isinstance(value, str) for value in properties.values())
    assert metadata_from_properties(properties, "file") == metadata


def test_properties_of_other_tools_are_ignored():
    metadata = ModelMetadata(skeleton=HAND, input_size=64, form="raw")
    properties = metadata.to_properties() | {"author": "somebody"}
    assert metadata_from_properties(properties, "file") == metadata


def test_a_file_without_metadata_is_refused_with_what_to_do():
    with pytest.raises(MetadataError, match=r"model\.onnx carries no RTMO metadata.*skeleton="):
        metadata_from_properties({}, "model.onnx")


@pytest.mark.parametrize(
    "damage", [{"skeleton": "{"}, {"input_size": "-1"}, {"form": "half"}, {"sigmas": "1"}]
)
def test_damaged_metadata_are_refused(damage):
    properties = ModelMetadata(skeleton=HAND, input_size=64, form="raw").to_properties()
    if damage.keys() <= properties.keys():
        with pytest.raises(MetadataError, match="damaged"):
            metadata_from_properties(properties | damage, "file")
    else:
        metadata_from_properties(properties | damage, "file")


def test_a_missing_field_is_refused():
    properties = ModelMetadata(skeleton=HAND, input_size=64, form="raw").to_properties()
    del properties["form"]
    with pytest.raises(MetadataError, match="form"):
        metadata_from_properties(properties, "file")


def test_weights_that_do_not_say_their_input_size_are_refused():
    assert input_size({"input_size": "640"}, Path("w")) == 640
    with pytest.raises(MetadataError, match="input_size"):
        input_size({}, Path("w"))
