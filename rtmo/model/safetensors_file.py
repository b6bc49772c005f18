"""Our weights files on disk: tensors and string metadata in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from rtmo.model.weights_error import WeightsError


def write_tensors(tensors: Mapping[str, Tensor], metadata: dict[str, str], path: Path) -> None:
    """Write a file at once or not at all; the same content gives the same bytes."""
    on_cpu = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    partial = path.with_name(f".{path.name}.partial")
    partial.write_bytes(_with_sorted_metadata(save(on_cpu, metadata)))
    partial.replace(path)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file.

    Raises:
        WeightsError: if it cannot be read.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(_unreadable(path, error)) from error


def read_strings(path: Path) -> dict[str, str]:
    """The metadata of a file; empty if it has none.

    Raises:
        WeightsError: if it cannot be read.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata: dict[str, str] | None = file.metadata()
    except (SafetensorError, OSError) as error:
        raise WeightsError(_unreadable(path, error)) from error
    return metadata or {}


def _unreadable(path: Path, error: Exception) -> str:
    return f"{path} cannot be read as safetensors: {error}; it may be cut short, fetch it again"


def _with_sorted_metadata(file: bytes) -> bytes:
    """The same file with its metadata keys in order; safetensors writes them in random order."""
    length = int.from_bytes(file[:8], "little")
    header = json.loads(file[8 : 8 + length])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors stay aligned
    return len(text).to_bytes(8, "little") + text + file[8 + length :]
