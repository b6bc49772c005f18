"""Open a model file with the runtime it belongs to."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from rtmo.deployment.metadata import MetadataError, Padding, input_size
from rtmo.deployment.onnx_runner import OnnxPredictor
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.published import open_published
from rtmo.deployment.published_files import Wanted
from rtmo.deployment.runners import Device, Predictor, TorchPredictor, UnavailableError
from rtmo.skeleton import Skeleton

SUFFIXES = (".safetensors", ".pth", ".onnx", ".xml", ".engine", ".json")
"""Model files that can be opened."""
TORCH_SUFFIXES = (".safetensors", ".pth")
"""Those of them that only torch runs."""

CPU_ONLY = (".xml", ".json")


def load_predictor(
    path: str | Path,
    device: Device = "auto",
    score_threshold: float = 0.1,
    nms_iou: float = 0.65,
    *,
    skeleton: Skeleton | None = None,
    threads: int | None = None,
    padding: Padding = "square",
) -> Predictor:
    """The predictor for a model file: pictures in, `Poses` in original-picture pixels out.

    Args:
        path: .safetensors, official .pth, .onnx, OpenVINO .xml or TensorRT .engine; manifest.json
            of an export, whose best way to run on a CPU is opened; or the name of a published model
            such as `rtmo-s-body7`, which is fetched and converted once (`published`).
        device: `auto` takes a GPU when the runtime has one; `cuda` fails without one, as does
            `tensorrt`: ONNX Runtime's provider, for ONNX files, which builds engines as it runs.
        score_threshold: people must score above this.
        nms_iou: box IoU above which the lower-scored of two people is dropped.
        skeleton: for ONNX files that do not name theirs (the official deployment's); of other
            files it must be the one they name.
        threads: CPU threads of the runtime; None leaves it alone. torch has one number of threads
            for the whole process, so it is set there.
        padding: `square` as the model was trained and measured, or `stride`: only up to the next
            multiple of 32 pixels, which is faster (docs/decisions/trimmed-input.md). The latter
            needs a model of dynamic height and width: weights, the complete form, a manifest.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a model this can open, does not say what it is, or cannot
            take trimmed pictures.
        UnavailableError: if this host cannot run it; the message says why.
        FetchError: if a published model cannot be had; TransferError if the network fails.
    """
    path = Path(path)
    if not path.suffix and not path.exists():
        wanted = Wanted(score_threshold, nms_iou, threads, padding)
        return _of_skeleton(open_published(str(path), device, wanted), skeleton, str(path))
    if path.suffix not in SUFFIXES:
        raise ValueError(
            f"{path} is not a model file: its suffix must be one of {', '.join(SUFFIXES)}"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no model file {path}")
    _require_possible(path, device, padding)
    thresholds = {"score_threshold": score_threshold, "nms_iou": nms_iou}
    predictor: Predictor
    match path.suffix:
        case ".onnx":
            predictor = OnnxPredictor(
                path, device, **thresholds, skeleton=skeleton, threads=threads, padding=padding
            )
        case ".xml":
            predictor = OpenVinoPredictor(
                path,
                score_threshold=score_threshold,
                nms_iou=nms_iou,
                threads=threads,
                padding=padding,
            )
        case ".engine":
            from rtmo.deployment.engine_runner import EnginePredictor

            predictor = EnginePredictor(path, **thresholds)
        case ".json":
            from rtmo.deployment.best_way import open_best

            predictor = open_best(path, **thresholds, threads=threads, padding=padding)
        case _:
            predictor = _torch_predictor(
                path, device, **thresholds, threads=threads, padding=padding
            )
    return _of_skeleton(predictor, skeleton, str(path))


def _of_skeleton(predictor: Predictor, skeleton: Skeleton | None, source: str) -> Predictor:
    """The predictor, if it is for the skeleton that was given.

    Raises:
        MetadataError: if it is for another one.
    """
    if skeleton is not None and skeleton != predictor.skeleton:
        raise MetadataError(
            f"{source} was made for skeleton {predictor.skeleton.name!r}, but skeleton "
            f"{skeleton.name!r} was given; leave it out to use the file's own"
        )
    return predictor


def _has_torch() -> bool:
    return find_spec("torch") is not None


def _require_possible(path: Path, device: Device, padding: Padding) -> None:
    """Refuse what a kind of model file cannot do.

    Raises:
        UnavailableError: if it needs torch and there is none, or runs on the CPU only.
        ValueError: if it has one input size and pictures should be trimmed.
    """
    if path.suffix in TORCH_SUFFIXES and not _has_torch():
        raise UnavailableError(
            f"{path} needs torch, which is not installed: pip install 'rtmo[train]', or convert it "
            f"where torch is (`rtmo export --weights {path.name} --out DIR`) and give DIR/rtmo.onnx"
        )
    if device in ("cuda", "tensorrt") and path.suffix in CPU_ONLY:
        raise UnavailableError(f"{path} is run on the CPU (by OpenVINO, say), not on a GPU")
    if padding == "stride" and path.suffix == ".engine":
        raise ValueError(f"{path} has one input size; use padding 'square' with engines")


def _torch_predictor(
    path: Path,
    device: Device,
    *,
    score_threshold: float,
    nms_iou: float,
    threads: int | None,
    padding: Padding,
) -> Predictor:
    import torch

    from rtmo.model.weights import load_model, read_metadata

    if threads is not None:
        torch.set_num_threads(threads)
    return TorchPredictor(
        load_model(path),
        device,
        input_size=input_size(read_metadata(path), path),
        score_threshold=score_threshold,
        nms_iou=nms_iou,
        padding=padding,
    )
