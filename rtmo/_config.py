"""The one base class of every setting in this project, and how wrong settings are explained."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen group of settings; an unknown key is an error, not a silent default."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class SettingsError(ValueError):
    """Settings that cannot be used; the message names every key that is wrong."""


Schema = TypeVar("Schema", bound=Config)


def check_settings(schema: type[Schema], content: object, *, source: str) -> Schema:
    """Parsed YAML as settings.

    Args:
        schema: what is expected.
        content: what a file holds.
        source: the file, for errors.

    Raises:
        SettingsError: if a key is unknown or missing, or a value has the wrong type or is
            impossible; a line for each.
    """
    if not isinstance(content, Mapping):
        raise SettingsError(f"{source}: expected sections such as `train:`, got {content!r}")
    try:
        # Strict JSON mode: no text is taken for a number, yet a list is a tuple.
        return schema.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        lines = [f"{source}: {_explain(schema, dict(problem))}" for problem in problems]
        raise SettingsError("\n".join(lines)) from None
    except TypeError as error:  # a date, a set: YAML has more types than JSON
        raise SettingsError(f"{source}: {error}") from None


def _explain(schema: type[BaseModel], problem: Mapping[str, Any]) -> str:
    """One sentence for one of pydantic's problems.

    Example:
        >>> _explain(Config, {"type": "greater_than", "loc": ("train", "epochs"), "input": 0,
        ...                   "msg": "Input should be greater than 0"})
        'train.epochs is 0, expected greater than 0'
    """
    location = problem["loc"]
    key = ".".join(str(part) for part in location)
    match problem["type"]:
        case "missing":
            return f"{key} is missing"
        case "extra_forbidden":
            known = sorted(_keys_beside(schema, location))
            close = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
            return f"{key} is not a known key; {hint}"
        case "value_error":  # raised by a validator of ours; the message names the values
            return f"{key}: {problem['ctx']['error']}"
        case _:
            expected = str(problem["msg"]).removeprefix("Input should be ")
            return f"{key} is {problem['input']!r}, expected {expected}"


def _keys_beside(schema: type[BaseModel], location: tuple[str | int, ...]) -> set[str]:
    """Keys that the section holding `location` knows."""
    section = schema
    for part in location[:-1]:
        if isinstance(part, str):
            fields = {field.alias or name: field for name, field in section.model_fields.items()}
            section = _model_within(fields[part].annotation) or section
    return {field.alias or name for name, field in section.model_fields.items()}


def _model_within(annotation: object) -> type[BaseModel] | None:
    """The settings class in an annotation such as `tuple[Phase, ...]` or `Phase | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    within = (_model_within(part) for part in getattr(annotation, "__args__", ()))
    return next((model for model in within if model is not None), None)
