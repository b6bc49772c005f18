"""Merge a published recipe from `presets/` into `params.yaml`, keeping its comments."""

from __future__ import annotations

import difflib
import io
import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipelines.params import ParamsError, read_yaml, validate_params


def preset_names(root: Path) -> tuple[str, ...]:
    """Names of the presets under `root`."""
    return tuple(sorted(path.stem for path in (root / "presets").glob("*.yaml")))


def apply_preset(root: Path, name: str) -> tuple[str, ...]:
    """Merge preset `name` into `params.yaml`; nothing is written unless the result is valid.

    Sections are merged key by key; a list is replaced whole.

    Returns:
        One line per changed key, such as `train.epochs: 12 -> 600`.

    Raises:
        ParamsError: if there is no such preset, or what comes out is not valid.
    """
    if name not in preset_names(root):
        known = preset_names(root)
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
        raise ParamsError(f"no preset {name!r}; {hint}")
    path = root / "presets" / f"{name}.yaml"
    merged = merge_into_params(root, read_overlay(path), path.name)
    merged.write()
    return merged.differences


def read_overlay(path: Path) -> MutableMapping[str, Any]:
    """The content of an overlay with the spelling of its author.

    Raises:
        ParamsError: if it has no sections.
    """
    overlay = _round_trip().load(path)
    if not isinstance(overlay, MutableMapping):
        raise ParamsError(f"expected sections such as `train:` in {path}")
    return overlay


@dataclass(frozen=True, slots=True)
class MergedParams:
    """`params.yaml` with an overlay, valid and not yet written."""

    path: Path
    text: str
    differences: tuple[str, ...]
    """One line per changed key, such as `train.epochs: 12 -> 600`."""

    def write(self) -> None:
        """Replace `params.yaml`."""
        self.path.write_text(self.text)


def merge_into_params(root: Path, overlay: Mapping[str, Any], source: str) -> MergedParams:
    """What `params.yaml` becomes with `overlay`, comments kept; `source` names it in errors.

    Raises:
        ParamsError: if what comes out is not valid.
    """
    path = root / "params.yaml"
    before = read_yaml(path)
    written = _round_trip()
    content = written.load(path)
    if not isinstance(content, MutableMapping):
        raise ParamsError(f"expected sections such as `train:` in {path}")
    merge(content, overlay)
    text = io.StringIO()
    written.dump(content, text)
    after = YAML(typ="safe").load(text.getvalue())
    validate_params(after, source=f"params.yaml with {source}")
    return MergedParams(path, text.getvalue(), differences(before, after))


def _round_trip() -> YAML:
    """A YAML that writes what it read as a person wrote it."""
    yaml = YAML()
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda to, _: to.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml


def merge(content: MutableMapping[str, Any], overlay: Mapping[str, Any]) -> None:
    """Write every key of `overlay` into `content`; equal values keep their spelling and comments.

    Example:
        >>> content = {"train": {"epochs": 12, "seed": 0}}
        >>> merge(content, {"train": {"epochs": 600}})
        >>> content
        {'train': {'epochs': 600, 'seed': 0}}
    """
    for key, value in overlay.items():
        if isinstance(value, Mapping) and isinstance(content.get(key), MutableMapping):
            merge(content[key], value)
        elif key not in content or content[key] != value:
            content[key] = value


def differences(before: object, after: object, key: str = "") -> tuple[str, ...]:
    """One line per key whose value differs; places in a list count as keys.

    Example:
        >>> differences({"a": {"b": [1, 2], "c": 2}}, {"a": {"b": [1, 3], "c": 2, "d": None}})
        ('a.b.1: 2 -> 3', 'a.d: nothing -> null')
    """
    old, new = _children(before), _children(after)
    if old is None or new is None:
        return () if before == after else (f"{key}: {_spelled(before)} -> {_spelled(after)}",)
    names = dict.fromkeys((*old, *new))
    below = (
        differences(old.get(name, _NOTHING), new.get(name, _NOTHING), f"{key}.{name}".lstrip("."))
        for name in names
    )
    return tuple(chain.from_iterable(below))


_NOTHING = object()


def _children(value: object) -> Mapping[Any, object] | None:
    if isinstance(value, list):
        return dict(enumerate(value))
    return value if isinstance(value, Mapping) else None


def _spelled(value: object) -> str:
    return "nothing" if value is _NOTHING else json.dumps(value)
