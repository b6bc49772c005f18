"""RTMO -> ONNX, complete and raw form, from one folded network (`lean_network`).

Both forms are made of the same two traced graphs: the detector (a picture to candidates) and the
coordinate classifier (rows of pose features to keypoints). The raw form joins them by top-k in
torch; the complete form by `onnx_selection`, so that only kept people reach the classifier.
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import compose, numpy_helper
from torch import Tensor, nn
from torch.export import Dim

from rtmo.deployment.config import ExportConfig
from rtmo.deployment.lean_network import LeanRTMO
from rtmo.deployment.metadata import Form, ModelMetadata, input_size
from rtmo.deployment.onnx_selection import arrange_keypoints, keep_people
from rtmo.model.inference import fold
from rtmo.model.rtmo import INPUT_MULTIPLE, RTMO
from rtmo.model.weights import load_model, read_metadata

TRACED_BATCH = 2
"""torch.export takes an example batch of 1 for a constant; with 2 the batch stays dynamic."""


def export_onnx(model: RTMO, path: Path, metadata: ModelMetadata, *, opset: int = 18) -> None:
    """Write the model in the form and with the defaults that `metadata` names.

    Input `input` (B, 3, H, W) float32, BGR 0..255. Outputs `dets` (B, n, 5) as x1, y1, x2, y2,
    score and `keypoints` (B, n, K, 3) as x, y, visibility, input pixels, best first. B is dynamic.
    Complete form: H and W are dynamic, multiples of 32; n >= 1 is the number of people in the
    fullest image, unused rows are zero, and `score_threshold`, `nms_iou` and `max_people` are
    overridable initialisers. Raw form: H = W = S and n are fixed, nothing is thresholded.

    Args:
        model: RTMO in any mode; it is left as it is.
        path: the .onnx file to write; weights are inside.
        metadata: form, input size, skeleton and default thresholds; embedded in the file.
        opset: ONNX operator set, 18 or later.

    Raises:
        ValueError: if model and metadata speak of different skeletons.
        onnx.checker.ValidationError: if the result is not a valid ONNX model (an error here).
    """
    if model.skeleton != metadata.skeleton:
        raise ValueError(
            f"the model has skeleton {model.skeleton.name!r}, the metadata "
            f"{metadata.skeleton.name!r}"
        )
    network = LeanRTMO(fold(model).cpu())
    with _quiet_exporter():
        proto = (
            _complete_form(network, metadata, opset)
            if metadata.form == "complete"
            else _raw_form(network, metadata, opset)
        )
    _strip_provenance(proto)
    proto.producer_name = "rtmo"
    for key, value in metadata.to_properties().items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def export_both_forms(
    weights: Path, folder: Path, config: ExportConfig, *, score_threshold: float, nms_iou: float
) -> dict[Form, Path]:
    """Write rtmo.onnx (complete) and rtmo-raw.onnx of one of our weights files.

    Args:
        weights: .safetensors with the training stage's metadata.
        folder: where to write; it exists.
        config: operator set and number of people.
        score_threshold: default baked into the complete form.
        nms_iou: default baked into the complete form.

    Returns:
        Form -> file.

    Raises:
        WeightsError: if the weights file cannot be used.
    """
    model, facts = load_model(weights), read_metadata(weights)
    files: dict[Form, Path] = {
        "complete": folder / "rtmo.onnx",
        "raw": folder / "rtmo-raw.onnx",
    }
    for form, path in files.items():
        metadata = ModelMetadata(
            skeleton=model.skeleton,
            input_size=input_size(facts, weights),
            form=form,
            score_threshold=score_threshold,
            nms_iou=nms_iou,
            max_people=config.max_people,
            size=model.size,
            training_hash=facts.get("stage_hash", ""),
            dataset=facts.get("dataset", ""),
            licence=facts.get("licence", ""),
        )
        export_onnx(model, path, metadata, opset=config.opset)
    return files


class RawForm(nn.Module):
    """The whole network with a fixed number of candidates: top-k by score, then coordinates."""

    def __init__(self, network: LeanRTMO, candidates: int) -> None:
        super().__init__()
        self.network = network
        self.candidates = candidates

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, S, S) -> dets (B, n, 5), keypoints (B, n, K, 3)."""
        scores, boxes_xyxy, visibility, features = self.network(images)
        priors = self.network.priors(images.shape[2], images.shape[3])
        best = scores.topk(self.candidates, dim=1)
        rows = best.indices.unsqueeze(-1)  # (B, n, 1)
        boxes_xyxy = _gather_rows(boxes_xyxy, rows)
        keypoints_xy = self.network.keypoints(
            _gather_rows(features, rows).flatten(0, 1),
            boxes_xyxy.flatten(0, 1),
            priors[best.indices.flatten()],
        )
        keypoints_xy = torch.unflatten(keypoints_xy, 0, (-1, self.candidates))  # (B, n, K, 2)
        seen = _gather_rows(visibility, rows).unsqueeze(-1)  # (B, n, K, 1)
        dets = torch.cat([boxes_xyxy, best.values.unsqueeze(-1)], dim=-1)
        return dets, torch.cat([keypoints_xy, seen], dim=-1)


class DetectorGraph(nn.Module):
    """What every prior says and where it lies, for inputs of any size."""

    def __init__(self, network: LeanRTMO) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(B, 3, H, W) -> outputs of `LeanRTMO`, and priors (N, 3)."""
        return *self.network(images), self.network.priors(images.shape[2], images.shape[3])


class CoordinateGraph(nn.Module):
    """The coordinate classifier alone, as a module that can be traced."""

    def __init__(self, network: LeanRTMO) -> None:
        super().__init__()
        self.network = network

    def forward(self, features: Tensor, boxes_xyxy: Tensor, priors: Tensor) -> Tensor:
        """(P, C), (P, 4), (P, 3) -> keypoints (P, K, 2)."""
        keypoints: Tensor = self.network.keypoints(features, boxes_xyxy, priors)
        return keypoints


def _gather_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Rows (B, n, 1) of values (B, N, C) -> (B, n, C)."""
    return values.gather(1, rows.expand(-1, -1, values.shape[2]))


def _raw_form(network: LeanRTMO, metadata: ModelMetadata, opset: int) -> onnx.ModelProto:
    images = _example_images(metadata.input_size)
    num_priors = len(network.priors(metadata.input_size, metadata.input_size))
    return _trace(
        RawForm(network, min(metadata.max_people, num_priors)),
        (images,),
        opset=opset,
        axes={0: Dim("batch")},
        inputs=["input"],
        outputs=["dets", "keypoints"],
    )


def _complete_form(network: LeanRTMO, metadata: ModelMetadata, opset: int) -> onnx.ModelProto:
    images = _example_images(metadata.input_size)
    sides = {2: INPUT_MULTIPLE * Dim("rows"), 3: INPUT_MULTIPLE * Dim("columns")}
    with torch.no_grad():
        _, boxes_xyxy, _, features, priors = DetectorGraph(network)(images)
    detector = _trace(
        DetectorGraph(network),
        (images,),
        opset=opset,
        axes={0: Dim("batch"), **sides},
        inputs=["input"],
        outputs=["scores", "boxes_xyxy", "visibility", "features", "priors"],
    )
    coordinates = _trace(
        CoordinateGraph(network),
        (features[:, 0], boxes_xyxy[:, 0], priors[:TRACED_BATCH]),
        opset=opset,
        axes={0: Dim("rows")},
        inputs=["features", "boxes_xyxy", "priors"],
        outputs=["keypoints_xy"],
    )
    constants: dict[str, NDArray[Any]] = {
        "max_people": np.array([metadata.max_people], dtype=np.int64),
        "nms_iou": np.array([metadata.nms_iou], dtype=np.float32),
        "score_threshold": np.array([metadata.score_threshold], dtype=np.float32),
    }
    proto = _join(detector, coordinates)
    height, width = proto.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    for name, value in constants.items():
        # Also listed among the inputs, it is a default that callers may override.
        proto.graph.initializer.append(numpy_helper.from_array(value, name))
    return proto


def _join(detector: onnx.ModelProto, coordinates: onnx.ModelProto) -> onnx.ModelProto:
    """One graph: detector -> keep_people -> coordinates -> arrange_keypoints."""
    keep = _like(detector, keep_people.to_model_proto())  # type: ignore[no-untyped-call]
    arrange = _like(detector, arrange_keypoints.to_model_proto())  # type: ignore[no-untyped-call]
    candidates = [(item.name, item.name) for item in detector.graph.output]
    proto = compose.merge_models(
        compose.add_prefix(
            detector, "detector/", rename_nodes=False, rename_inputs=False, rename_outputs=False
        ),
        compose.add_prefix(keep, "keep/", rename_inputs=False, rename_outputs=False),
        candidates,
    )
    proto = compose.merge_models(
        proto,
        compose.add_prefix(coordinates, "dcc/"),
        [
            ("kept_features", "dcc/features"),
            ("kept_boxes", "dcc/boxes_xyxy"),
            ("kept_priors", "dcc/priors"),
        ],
        outputs=["dets", "row_of_place", "weight", "kept_visibility", "dcc/keypoints_xy"],
    )
    proto = compose.merge_models(
        proto,
        compose.add_prefix(arrange, "arrange/", rename_outputs=False),
        [
            ("dcc/keypoints_xy", "arrange/keypoints_xy"),
            ("kept_visibility", "arrange/kept_visibility"),
            ("weight", "arrange/weight"),
            ("row_of_place", "arrange/row_of_place"),
        ],
    )
    del proto.opset_import[1:]  # one entry came with every part, all of them equal
    return proto


def _like(model: onnx.ModelProto, part: onnx.ModelProto) -> onnx.ModelProto:
    """The part in the versions of the model; its operators mean the same in every later set."""
    part.ir_version = model.ir_version
    del part.opset_import[:]
    part.opset_import.extend(model.opset_import)
    return part


def _trace(
    module: nn.Module,
    example: tuple[Tensor, ...],
    *,
    opset: int,
    axes: dict[int, Any],
    inputs: list[str],
    outputs: list[str],
) -> onnx.ModelProto:
    """One ONNX graph of a module; the same axes of every input are dynamic."""
    program = torch.onnx.export(
        module.eval(),
        example,
        dynamo=True,
        external_data=False,
        opset_version=opset,
        input_names=inputs,
        output_names=outputs,
        dynamic_shapes=tuple(axes for _ in example),
        verbose=False,
    )
    assert program is not None  # only None when torch is asked to write a file
    proto: onnx.ModelProto = program.model_proto
    _name_nodes_after_modules(proto.graph)
    return proto


def _name_nodes_after_modules(graph: onnx.GraphProto) -> None:
    """Name every node `MODULE/VALUE`: path of its module below the network, and its first output.

    The exporter leaves some nodes without a module; they get that of their first input's node.
    """
    modules: dict[str, str] = {}
    for node in graph.node:
        notes = {item.key: item.value for item in node.metadata_props}
        scopes = ast.literal_eval(notes.get("pkg.torch.onnx.name_scopes", "[]"))
        if len(scopes) > 1:  # the last one is the operator
            module = scopes[-2].removeprefix("network").removeprefix(".")
        else:
            module = modules.get(node.input[0], "") if node.input else ""
        modules.update(dict.fromkeys(node.output, module))
        node.name = f"{module}/{node.output[0]}"


def _example_images(input_size: int) -> Tensor:
    return torch.zeros(TRACED_BATCH, 3, input_size, input_size)


def _strip_provenance(proto: onnx.ModelProto) -> None:
    """Remove what the exporter notes beside the graph: stack traces, paths, tensor descriptions."""
    graph = proto.graph
    for part in (proto, graph, *graph.node, *graph.initializer, *graph.value_info):
        part.doc_string = ""
        del part.metadata_props[:]
    for value in (*graph.input, *graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    del graph.value_info[:]


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence remarks of torch's exporter that are not about this model."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)  # "torchvision is not installed"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="copyreg")
        warnings.filterwarnings("ignore", message="# The axis name", category=UserWarning)
        try:
            yield
        finally:
            logger.setLevel(level)


def openvino_from_onnx(source: Path, path: Path, metadata: ModelMetadata) -> None:
    """Convert a raw-form ONNX file to OpenVINO's .xml and .bin, float32, metadata inside."""
    import openvino

    model: Any = openvino.convert_model(source)
    for key, value in metadata.to_properties().items():
        model.set_rt_info(value, ["rtmo", key])
    openvino.save_model(model, path, compress_to_fp16=False)
