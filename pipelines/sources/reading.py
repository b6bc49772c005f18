"""Annotation files of a source as records, with the corrections that people made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from pipelines.sources.archives import annotation_files, read_annotations
from pipelines.sources.schema import Source, SourceError, SplitLocations
from rtmo.formats.aic import read_aic
from rtmo.formats.coco import read_coco
from rtmo.formats.coco_relatives import read_halpe, read_jhmdb, read_posetrack
from rtmo.formats.corrections import Correction, Corrections
from rtmo.formats.crowdpose import NUM_LIMB_KEYPOINTS, read_crowdpose
from rtmo.formats.findings import Findings
from rtmo.formats.mpii import read_mpii
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.skeleton import Skeleton

READERS: Mapping[str, Callable[[Any, Skeleton, Findings], list[ImageRecord]]] = MappingProxyType(
    {
        "aic": read_aic,
        "coco": read_coco,
        "crowdpose": read_crowdpose,
        "halpe": read_halpe,
        "jhmdb": read_jhmdb,
        "mpii": read_mpii,
        "posetrack18": read_posetrack,
    }
)
"""By the format of the source file."""


def read_records(
    source: Source, raw: Path, locations: SplitLocations, findings: Findings
) -> list[ImageRecord]:
    """The annotation file of one split, or the files of its folder, as their publisher wrote them.

    Raises:
        FormatError: if one is no annotation file of the source's format and skeleton.
        SourceError: if it is not there.
    """
    records: list[ImageRecord] = []
    for location in annotation_files(raw, locations.annotations):
        content = read_annotations(raw, location)
        try:
            document = json.loads(content)
        except ValueError as error:
            raise FormatError(
                f"{location.path} is no JSON file ({error}); was it cut short?"
            ) from None
        records += READERS[source.format](document, source.keypoints, findings)
    return sorted(records, key=lambda record: record.id)


def num_counted(source: Source) -> int:
    """How many of the first keypoints `num_keypoints` counts in the source's format."""
    return NUM_LIMB_KEYPOINTS if source.format == "crowdpose" else source.keypoints.num_keypoints


def load_corrections(path: Path, dataset: str) -> Corrections:
    """Corrections of a dataset; none where there is no file.

    Raises:
        SourceError: naming every key that is wrong.
    """
    try:
        corrections = Corrections.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return Corrections(dataset=dataset)
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise SourceError("\n".join(lines)) from None
    if corrections.dataset != dataset:
        raise SourceError(
            f"{path} corrects the dataset {corrections.dataset!r}, expected {dataset!r}; "
            "move it or mend its `dataset`"
        )
    return corrections


def corrections_digest(corrections: Sequence[Correction]) -> str:
    """sha256 of corrections, whatever the layout of their file."""
    lines = [correction.model_dump_json() for correction in corrections]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
