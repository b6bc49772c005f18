"""The model repository for NVIDIA Triton."""

import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from onnx import TensorProto, helper

from rtmo.deployment.metadata import MetadataError, ModelMetadata
from rtmo.deployment.triton import write_triton_repository
from rtmo.skeleton import COCO17


def model_config():
    """An empty message with the fields of Triton's ModelConfig that are used.

    Numbers and types: triton-inference-server/common, protobuf/model_config.proto.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="config.proto", package="triton", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    types = file.enum_type.add(name="DataType")
    types.value.add(name="TYPE_INVALID", number=0)
    types.value.add(name="TYPE_FP32", number=11)

    def message(name, *fields):
        added = file.message_type.add(name=name)
        for number, field, kind, label, type_name in fields:
            added.field.add(
                name=field, number=number, type=kind, label=label, type_name=type_name or None
            )

    one, many = kinds.LABEL_OPTIONAL, kinds.LABEL_REPEATED
    tensor = (
        (1, "name", kinds.TYPE_STRING, one, ""),
        (2, "data_type", kinds.TYPE_ENUM, one, ".triton.DataType"),
    )
    message("ModelInput", *tensor, (4, "dims", kinds.TYPE_INT64, many, ""))
    message("ModelOutput", *tensor, (3, "dims", kinds.TYPE_INT64, many, ""))
    message(
        "ModelDynamicBatching",
        (2, "max_queue_delay_microseconds", kinds.TYPE_UINT64, one, ""),
    )
    message(
        "ModelConfig",
        (1, "name", kinds.TYPE_STRING, one, ""),
        (4, "max_batch_size", kinds.TYPE_INT32, one, ""),
        (5, "input", kinds.TYPE_MESSAGE, many, ".triton.ModelInput"),
        (6, "output", kinds.TYPE_MESSAGE, many, ".triton.ModelOutput"),
        (11, "dynamic_batching", kinds.TYPE_MESSAGE, one, ".triton.ModelDynamicBatching"),
        (17, "backend", kinds.TYPE_STRING, one, ""),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.ModelConfig"))()


@pytest.fixture
def model(tmp_path):
    """A file of the complete form's inputs and outputs, with a default that looks like an input."""

    def value(name, *axes):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, axes)

    graph = helper.make_graph(
        [helper.make_node("Identity", ["input"], ["dets"])],
        "rtmo",
        [value("input", "batch", 3, "height", "width"), value("score_threshold", 1)],
        [
            value("dets", "batch", "people", 5),
            value("keypoints", "batch", "people", "keypoints", 3),
        ],
        [helper.make_tensor("score_threshold", TensorProto.FLOAT, [1], [0.1])],
    )
    proto = helper.make_model(graph)
    metadata = ModelMetadata(skeleton=COCO17, input_size=640, form="complete")
    for key, text in metadata.to_properties().items():
        proto.metadata_props.add(key=key, value=text)
    path = tmp_path / "rtmo.onnx"
    onnx.save(proto, path)
    return path


def test_the_configuration_is_a_model_config_that_names_every_tensor(model, tmp_path):
    config = write_triton_repository(model, tmp_path / "repository")
    read = text_format.Parse(config.read_text(), model_config())
    assert (read.name, read.backend) == (config.parent.name, "onnxruntime")
    assert read.max_batch_size > 1
    assert {tensor.name: list(tensor.dims) for tensor in read.input} == {"input": [3, -1, -1]}
    outputs = {tensor.name: list(tensor.dims) for tensor in read.output}
    assert outputs == {"dets": [-1, 5], "keypoints": [-1, -1, 3]}
    assert {tensor.data_type for tensor in (*read.input, *read.output)} == {11}
    assert read.dynamic_batching.max_queue_delay_microseconds > 0
    assert (config.parent / "1" / "model.onnx").read_bytes() == model.read_bytes()


def test_a_foreign_file_is_refused_before_anything_is_written(model, tmp_path):
    proto = onnx.load(model)
    del proto.metadata_props[:]
    onnx.save(proto, model)
    with pytest.raises(MetadataError, match="no RTMO metadata"):
        write_triton_repository(model, tmp_path / "repository")
    assert not (tmp_path / "repository").exists()
