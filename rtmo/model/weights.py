"""Weights files: our safetensors, and official mmpose checkpoints into our model.

Nothing here executes code from a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast, get_args

import torch
from pydantic import ValidationError
from torch import Tensor

from rtmo.model.build import build_rtmo
from rtmo.model.config import PUBLISHED_INPUT_SIDES, Size
from rtmo.model.mmpose_checkpoint import WhichWeights, identify, read_state
from rtmo.model.mmpose_keys import key_pairs
from rtmo.model.rtmo import RTMO
from rtmo.model.safetensors_file import read_strings, read_tensors, write_tensors
from rtmo.model.weights_error import WeightsError
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

FORMAT = "rtmo"
"""Value of the metadata key `format` in our files."""

SAFETENSORS = ".safetensors"
"""Suffix of our files; every other file is read as a torch checkpoint."""

OPTIONAL = (".out_proxy.", "dcc.sigma_", ".num_batches_tracked")
"""Parts of names that a file may lack: what only training uses."""

PER_KEYPOINT = (
    ".out_proxy.",
    ".out_visibility.",
    "dcc.pose_fc.",
    "dcc.pose_norm.running",
    "dcc.pose_norm.weight",
    "dcc.pose_norm.bias",
    "dcc.classifier.keypoint_positions",
    "dcc.sigma_fc.",
)
"""Parts of names of the tensors whose first axis goes over the keypoints."""

MOST_NAMED = 3
"""Tensors that a line about a file names."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What a file gave to a model."""

    path: Path
    """The file."""
    loaded: tuple[str, ...]
    """Our names of the tensors that were taken from the file."""
    kept: tuple[str, ...]
    """Our names of the tensors that the file lacks; the model keeps the values it had."""
    unused: tuple[str, ...]
    """The file's names of tensors that the model has no place for."""

    def __str__(self) -> str:
        """One line: how many were taken, and which were not."""
        words = f"{self.path}: {len(self.loaded)} tensors taken"
        if self.kept:
            words += f"; {len(self.kept)} it lacks stay as drawn: {_some_of(self.kept)}"
        if self.unused:
            words += f"; {len(self.unused)} of its own are not used: {_some_of(self.unused)}"
        return words


def save_weights(
    model_or_state: RTMO | Mapping[str, Tensor], path: Path, metadata: dict[str, str]
) -> None:
    """Write a safetensors file, the same bytes for the same tensors and metadata.

    The model's size and skeleton are added to `metadata` when a model is given; with a state dict
    they must be in it.

    Raises:
        WeightsError: if `size` or `skeleton` is missing.
    """
    facts = {"format": FORMAT, **metadata}
    if isinstance(model_or_state, RTMO):
        state: Mapping[str, Tensor] = model_or_state.state_dict()
        facts |= {
            "size": model_or_state.size,
            "skeleton": model_or_state.skeleton.model_dump_json(),
        }
    else:
        state = model_or_state
    for key in ("size", "skeleton"):
        if key not in facts:
            raise WeightsError(f"metadata for {path} has no {key!r}; nobody could load the file")
    write_tensors(state, facts, path)


def read_metadata(path: Path) -> dict[str, str]:
    """What a weights file says of itself: at least `format`, `size`, `skeleton` and `input_size`.

    An official checkpoint says nothing; size and skeleton follow from its tensors' shapes (17
    keypoints mean COCO's, 14 CrowdPose's), and the input size is the published one.

    Raises:
        WeightsError: if the file holds no RTMO, or is a safetensors file of another program.
    """
    if path.suffix != SAFETENSORS:
        return _official_metadata(path)
    metadata = read_strings(path)
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} has metadata format {metadata.get('format')!r}, expected {FORMAT!r}; "
            "was it written by another program? Use load_weights with a model you built"
        )
    return metadata


def load_model(path: Path) -> RTMO:
    """The model that a weights file holds, ours or official, in evaluation mode.

    Raises:
        WeightsError: if the file is not usable, a tensor does not fit, or one that inference needs
            is missing. What only training uses may be missing: it is then drawn at random
            (SPEC section 2.6), so that the model can be trained on.
    """
    metadata = read_metadata(path)
    size = metadata.get("size")
    if size not in get_args(Size):
        raise WeightsError(f"{path} names size {size!r}, expected one of {get_args(Size)}")
    model = build_rtmo(cast(Size, size), _skeleton(path, metadata))
    load_weights(model, path)
    return model.eval()


def load_weights(model: RTMO, path: Path, which: WhichWeights = "averaged") -> LoadReport:
    """Copy the tensors of a weights file, ours or an official `.pth`, into `model`.

    Names may be ours or mmpose's. What a file lacks of the parts that only training uses (proxy
    and sigma branches; published files are said to lack them) keeps the value it has in `model`,
    which from `build_rtmo` is the documented initialisation; the report names it.

    Args:
        model: changed in place.
        path: `.safetensors`, or a torch checkpoint.
        which: of a checkpoint saved while training, which of its two sets of weights.

    Raises:
        WeightsError: if the file cannot be read safely, lacks a tensor that inference needs, or
            has one of another shape or with values that are not finite; the model is unchanged.
    """
    if path.suffix == SAFETENSORS:
        state = read_tensors(path)
        _check_keypoints(path, model)
    else:
        state = read_state(path, which)
    _check_identity(path, state, model)
    names = {pair.official: pair.ours for pair in key_pairs(model.size) if pair.ours}
    found = {names.get(name, name): name for name in state}
    target = model.state_dict()
    missing = [
        name for name in target if name not in found and not any(part in name for part in OPTIONAL)
    ]
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing)} of the {len(target)} tensors of RTMO-{model.size}, the "
            f"first is {missing[0]}; is it a whole RTMO? A backbone is loaded with load_backbone"
        )
    return _copy(model, path, state, found)


def load_for_training(model: RTMO, path: Path) -> LoadReport:
    """As `load_weights`, but the file's keypoints may be others than the model's.

    Keypoints of the same name take their values from the file, in whichever order they are there;
    those that only the model has keep the values they have in it.

    Raises:
        WeightsError: as `load_weights`.
    """
    is_ours = path.suffix == SAFETENSORS
    state = read_tensors(path) if is_ours else read_state(path)
    theirs = _keypoints_of(path, state)
    ours = model.skeleton.keypoints
    if theirs is None or theirs == ours:
        return load_weights(model, path)
    identity = identify(state)
    if identity is None or identity[0] != model.size:
        raise WeightsError(
            f"{path} holds RTMO-{identity[0] if identity else '?'}, the model is RTMO-{model.size};"
            " set model.size to that of the file"
        )
    target = model.state_dict()
    names = {pair.official: pair.ours for pair in key_pairs(model.size) if pair.ours}
    found = {names.get(name, name): name for name in state}
    adapted = dict(state)
    for name, official in found.items():
        if name in target and any(part in name for part in PER_KEYPOINT):
            adapted[official] = _reordered(state[official], target[name], theirs, ours)
    return _copy(model, path, adapted, found)


def load_backbone(model: RTMO, path: Path) -> LoadReport:
    """Copy the backbone of a YOLOX checkpoint (mmdet or mmpose) into `model`, nothing else.

    This is how the official training starts.

    Raises:
        WeightsError: as `load_weights`, for the tensors of the backbone.
    """
    state = read_state(path)
    names = {
        pair.official: pair.ours
        for pair in key_pairs(model.size)
        if pair.official.startswith("backbone.")
    }
    missing = [name for name in names if name not in state]
    if missing:
        raise WeightsError(
            f"{path} lacks {len(missing)} of the {len(names)} tensors of the backbone of "
            f"RTMO-{model.size}, the first is {missing[0]}; is it a YOLOX of another depth?"
        )
    return _copy(model, path, state, {ours: name for name, ours in names.items() if ours})


def _some_of(names: tuple[str, ...]) -> str:
    """The first names of a list that may be long."""
    left = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {left} more" if left > 0 else "")


def _keypoints_of(path: Path, state: Mapping[str, Tensor]) -> tuple[str, ...] | None:
    """Keypoint names of a file's skeleton; None if neither metadata nor their number tells."""
    if path.suffix == SAFETENSORS:
        metadata = read_strings(path)
        return _skeleton(path, metadata).keypoints if metadata.get("format") == FORMAT else None
    identity = identify(state)
    known = {skeleton.num_keypoints: skeleton.keypoints for skeleton in (COCO17, CROWDPOSE14)}
    return None if identity is None else known.get(identity[1])


def _reordered(
    tensor: Tensor, drawn: Tensor, theirs: tuple[str, ...], ours: tuple[str, ...]
) -> Tensor:
    """Rows of the model's keypoints: the file's where it has that name, else those of `drawn`."""
    rows = torch.unflatten(drawn, 0, (len(ours), -1)).clone()
    source = torch.unflatten(tensor, 0, (len(theirs), -1))
    for index, name in enumerate(ours):
        if name in theirs:
            rows[index] = source[theirs.index(name)]
    return rows.flatten(0, 1)


def _official_metadata(path: Path) -> dict[str, str]:
    identity = identify(read_state(path))
    if identity is None:
        raise WeightsError(f"{path} holds no RTMO by mmpose's names; is it another model's file?")
    size, num_keypoints = identity
    for skeleton in (COCO17, CROWDPOSE14):
        if skeleton.num_keypoints == num_keypoints:
            return {
                "format": "mmpose",
                "size": size,
                "input_size": str(PUBLISHED_INPUT_SIDES[size]),
                "skeleton": skeleton.model_dump_json(),
            }
    raise WeightsError(
        f"{path} has {num_keypoints} keypoints, which no built-in skeleton has; build the model "
        "with your skeleton and use load_weights"
    )


def _skeleton(path: Path, metadata: Mapping[str, str]) -> Skeleton:
    try:
        return Skeleton.model_validate_json(metadata.get("skeleton", ""))
    except ValidationError as error:
        raise WeightsError(f"{path} has no valid skeleton in its metadata: {error}") from error


def _check_keypoints(path: Path, model: RTMO) -> None:
    """Refuse one of our files whose keypoints are as many as the model's, but others."""
    metadata = read_strings(path)
    if metadata.get("format") != FORMAT:
        return
    theirs, ours = _skeleton(path, metadata), model.skeleton
    if theirs.num_keypoints == ours.num_keypoints and theirs.keypoints != ours.keypoints:
        raise WeightsError(
            f"{path} is for skeleton {theirs.name!r} with keypoints {theirs.keypoints}, the model "
            f"for {ours.name!r} with {ours.keypoints}; put yours in the order of the file's"
        )


def _check_identity(path: Path, state: Mapping[str, Tensor], model: RTMO) -> None:
    """Say at once that a file is of another size or skeleton, where its shapes show it."""
    ours = (model.size, model.skeleton.num_keypoints)
    found = identify(state)
    if found is not None and found != ours:
        raise WeightsError(
            f"{path} holds RTMO-{found[0]} for {found[1]} keypoints, the model is RTMO-{ours[0]} "
            f"for {ours[1]} ({model.skeleton.name}); build the model that the file holds"
        )


def _copy(
    model: RTMO, path: Path, state: Mapping[str, Tensor], found: Mapping[str, str]
) -> LoadReport:
    """Copy tensors into `model`; `found` gives the file's name of each of our names."""
    target = model.state_dict()
    taken = {ours: theirs for ours, theirs in found.items() if ours in target}
    for ours, theirs in taken.items():
        _check_tensor(path, theirs, state[theirs], target[ours], model)
    with torch.no_grad():
        for ours, theirs in taken.items():
            target[ours].copy_(state[theirs])
    used = {*taken.values(), *(p.official for p in key_pairs(model.size) if p.ours is None)}
    return LoadReport(
        path=path,
        loaded=tuple(taken),
        kept=tuple(name for name in target if name not in taken),
        unused=tuple(name for name in state if name not in used),
    )


def _check_tensor(path: Path, name: str, found: Tensor, expected: Tensor, model: RTMO) -> None:
    if found.shape != expected.shape:
        raise WeightsError(
            f"{path}: tensor {name} has shape {tuple(found.shape)}, expected "
            f"{tuple(expected.shape)} for size {model.size!r} and skeleton "
            f"{model.skeleton.name!r}; build the model with the size and skeleton of the file"
        )
    if not torch.isfinite(found).all():
        raise WeightsError(
            f"{path}: tensor {name} holds NaN or infinite values; the training it comes from "
            "diverged, take an earlier checkpoint"
        )
