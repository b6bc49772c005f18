"""Official checkpoints: read without executing code, and written so that mmpose loads them.

A published file holds `meta` and `state_dict` (averaged weights). A file saved while training
also holds `ema_state_dict`, which despite its name has the raw weights, and the states of
optimiser, schedulers and message hub, which nobody here reads.
Source: SPEC section 8.
"""

from __future__ import annotations

import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from rtmo.model.config import SCALES, Size
from rtmo.model.mmpose_keys import key_pairs
from rtmo.model.rtmo import RTMO
from rtmo.model.weights_error import WeightsError

WhichWeights = Literal["averaged", "raw"]
"""The moving average, which is what is published and evaluated, or the weights that trained."""

RAW_PREFIX = "module."
"""What the names of raw weights begin with in a training checkpoint."""

STEM = "backbone.stem.conv.conv.weight"
KEYPOINT_POSITIONS = ("head.dcc.pos_enc", "dcc.classifier.keypoint_positions")
"""Official name and ours; the stem has the same in both."""


def read_state(path: Path, which: WhichWeights = "averaged") -> dict[str, Tensor]:
    """The tensors of an official checkpoint by mmpose's names.

    Raises:
        WeightsError: if the file cannot be read without running code from it, is damaged, or has
            no such weights.
    """
    content = _load(path)
    if not isinstance(content, dict):
        raise WeightsError(
            f"{path} holds a {type(content).__name__}, expected a dict with 'state_dict'; "
            "save the state dict, not the module"
        )
    if which == "raw":
        return _raw_weights(path, content)
    state = content.get("state_dict", content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise WeightsError(f"{path} has no tensors; its keys are {sorted(map(str, content))[:5]}")
    return tensors


def identify(state: Mapping[str, Tensor]) -> tuple[Size, int] | None:
    """Size and number of keypoints of a state dict by official names or ours, None if no RTMO.

    Example:
        >>> stem, positions = torch.zeros(32, 12, 3, 3), torch.zeros(17, 128)
        >>> identify({"backbone.stem.conv.conv.weight": stem, "head.dcc.pos_enc": positions})
        ('s', 17)
    """
    positions = next((state[name] for name in KEYPOINT_POSITIONS if name in state), None)
    if STEM not in state or positions is None:
        return None
    stem_channels = state[STEM].shape[0]
    for size, scale in SCALES.items():
        if int(64 * scale.width) == stem_channels:
            return size, positions.shape[0]
    return None


def save_official(model: RTMO, path: Path) -> None:
    """Write a `.pth` that mmpose loads: every official name, in its order."""
    state = model.state_dict()
    constants = _constants(model)
    official = OrderedDict(
        (pair.official, (constants[pair.official] if pair.ours is None else state[pair.ours]).cpu())
        for pair in key_pairs(model.size)
    )
    meta = {"rtmo_size": model.size, "rtmo_skeleton": model.skeleton.name}
    partial = path.with_name(f".{path.name}.partial")
    torch.save({"meta": meta, "state_dict": official}, partial)
    partial.replace(path)


def _constants(model: RTMO) -> dict[str, Tensor]:
    """What mmpose stores and we compute."""
    classifier = model.dcc.classifier
    return {
        "neck.sincos_pos_enc.dim_t": model.neck.positions.encoding.wavelengths,
        "head.loss_oks.sigmas": torch.tensor(model.skeleton.sigmas),
        "head.dcc.x_bins": classifier.x_axis.bins,
        "head.dcc.y_bins": classifier.y_axis.bins,
        "head.dcc.spe.dim_t": classifier.x_axis.encoding.wavelengths,
    }


def _raw_weights(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    kept = content.get("ema_state_dict")
    if kept is None:
        raise WeightsError(
            f"{path} has no raw weights, as no published file has; ask for the averaged ones"
        )
    return {
        name.removeprefix(RAW_PREFIX): value
        for name, value in kept.items()
        if name.startswith(RAW_PREFIX) and isinstance(value, Tensor)
    }


def _load(path: Path) -> object:
    """The content of a torch file, old or new serialisation, without executing code."""
    try:
        with _inert_globals():
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        if wanted:
            raise WeightsError(
                f"{path} asks for {wanted[1]} while it is read, which could run code; refused. "
                "If you trust the file, load it where it was made and save its state dict alone"
            ) from error
        raise WeightsError(_damaged(path)) from error
    except (EOFError, RuntimeError, KeyError, ValueError) as error:
        raise WeightsError(_damaged(path)) from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    return content


def _damaged(path: Path) -> str:
    return (
        f"{path} is damaged, cut short or no torch file ({path.stat().st_size} bytes); "
        "fetch it again and compare size and sha256"
    )


def _inert_globals() -> AbstractContextManager[None]:
    """Let the reader build numpy arrays (in `meta`) and swallow mmengine's logs.

    numpy moved the functions between versions 1 and 2, so each is known under both names. The
    history buffers of a training checkpoint become empty objects, and the `getattr` by which
    their methods are found becomes a function that finds nothing.
    """
    rebuild_array, rebuild_scalar = np.zeros(1).__reduce__()[0], np.float64(0).__reduce__()[0]
    names: list[tuple[Any, str]] = [(np.ndarray, "numpy.ndarray"), (np.dtype, "numpy.dtype")]
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names.append((rebuild_array, f"{module}._reconstruct"))
        names.append((rebuild_scalar, f"{module}.scalar"))
    names.append((_Ignored, "mmengine.logging.history_buffer.HistoryBuffer"))
    names.append((_find_nothing, "builtins.getattr"))
    kinds = ("float16", "float32", "float64", "uint8", "int32", "int64", "bool", "U1")
    dtypes = {type(np.dtype(kind)) for kind in kinds}
    return torch.serialization.safe_globals([*names, *dtypes])


class _Ignored:
    """Stands for a logged history: takes any state and keeps none."""

    def __setstate__(self, state: object) -> None:
        """Drop it."""


def _find_nothing(*_: object) -> None:
    """Stands for `getattr`."""
