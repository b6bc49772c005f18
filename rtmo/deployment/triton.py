"""A model repository for NVIDIA Triton: the ONNX file, and what Triton has to know about it.

Layout and fields: docs of triton-inference-server/server, model_repository and model_configuration.
The server gets network input and gives network output; fitting pictures and mapping people back
are the client's (`Framing`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import onnx

from rtmo.deployment.metadata import metadata_from_properties

MODEL_NAME = "rtmo"
MAX_BATCH = 32
"""Pictures that Triton may put into one run."""
QUEUE_DELAY_US = 2000
"""Microseconds that a picture may wait for others to share its run."""


def write_triton_repository(model: Path, folder: Path) -> Path:
    """Write `folder/rtmo/config.pbtxt` and `folder/rtmo/1/model.onnx`.

    Args:
        model: file written by `export_onnx`; the complete form answers with people.
        folder: the repository, as in `tritonserver --model-repository=FOLDER`.

    Returns:
        The configuration file.

    Raises:
        MetadataError: if the file was not written by this project.
    """
    proto = onnx.load(model)
    properties = {item.key: item.value for item in proto.metadata_props}
    metadata_from_properties(properties, str(model))
    defaults = {tensor.name for tensor in proto.graph.initializer}
    inputs = [value for value in proto.graph.input if value.name not in defaults]
    version = folder / MODEL_NAME / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model, version / "model.onnx")
    config = version.parent / "config.pbtxt"
    config.write_text(
        f'name: "{MODEL_NAME}"\n'
        'backend: "onnxruntime"\n'
        f"max_batch_size: {MAX_BATCH}\n"
        + "".join(f"input {{{_tensor(value)}}}\n" for value in inputs)
        + "".join(f"output {{{_tensor(value)}}}\n" for value in proto.graph.output)
        + f"dynamic_batching {{ max_queue_delay_microseconds: {QUEUE_DELAY_US} }}\n"
    )
    return config


def _tensor(value: onnx.ValueInfoProto) -> str:
    """Name, type and axes after the batch; -1 is any length."""
    axes: Iterable[onnx.TensorShapeProto.Dimension] = value.type.tensor_type.shape.dim[1:]
    dims = ", ".join(str(axis.dim_value or -1) for axis in axes)
    return f' name: "{value.name}" data_type: TYPE_FP32 dims: [ {dims} ] '
