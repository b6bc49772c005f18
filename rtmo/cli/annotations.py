"""Annotation files given on the command line, and what they say of themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

if TYPE_CHECKING:
    from rtmo.skeleton import Skeleton


def require_file(path: Path) -> None:
    """Refuse a path that is no file.

    Raises:
        FileNotFoundError: if it is none.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")


def read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    """Content of a JSON file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not JSON.
    """
    require_file(path)
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_truth(path: Path) -> Any:  # noqa: ANN401 - JSON
    """An annotation file.

    Raises:
        BadParameter: if it is none.
    """
    truth = read_json(path)
    for part, key in (("images", "id"), ("annotations", "image_id")):
        if not isinstance(truth, dict) or not isinstance(truth.get(part), list):
            raise typer.BadParameter(f"{path} is no annotation file: it has no list `{part}`")
        if not all(isinstance(entry, dict) and key in entry for entry in truth[part]):
            raise typer.BadParameter(f"{path} is damaged: an entry of `{part}` has no `{key}`")
    return truth


def with_images(truth: Mapping[str, Any], images: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """An annotation file's content with some of its images and their people only."""
    chosen = {image["id"] for image in images}
    people = [person for person in truth["annotations"] if person["image_id"] in chosen]
    return {**truth, "images": list(images), "annotations": people}


def protocol_of(truth: Mapping[str, Any]) -> Literal["coco", "crowdpose"]:
    """Whose evaluation rules: CrowdPose's where the images have a crowdIndex."""
    has_crowd_index = any("crowdIndex" in image for image in truth["images"][:1])
    return "crowdpose" if has_crowd_index else "coco"


def skeleton_of(truth: Mapping[str, Any], file: Path | None, source: Path) -> Skeleton:
    """The skeleton that was given, else the known one with as many keypoints as the annotations.

    Raises:
        ValueError: if none was given and the annotations fit no known one.
    """
    from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

    if file is not None:
        return Skeleton.model_validate(read_json(file))
    people = truth.get("annotations")
    if not people:
        raise ValueError(f"{source} annotates nobody, so there is nothing to compare with")
    count = len(people[0].get("keypoints", ())) // 3
    for known in (COCO17, CROWDPOSE14):
        if known.num_keypoints == count:
            return known
    raise ValueError(
        f"{source} has people of {count} keypoints; COCO's have 17, CrowdPose's 14. "
        "For others give --skeleton FILE.json with names and sigmas"
    )
