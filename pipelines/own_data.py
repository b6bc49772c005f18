"""A team's own labels: what is in that folder, and the files that bring it into the pipeline."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from pipelines.paths import Paths
from pipelines.presets import MergedParams, merge_into_params, read_overlay
from pipelines.sources.labelled import (
    Splits,
    divide,
    jpeg_of,
    labels_digest,
    split_locations,
)
from pipelines.sources.schema import Labels, Source, SourceError, load_source
from rtmo.deployment.official_files import official_file
from rtmo.formats.doctor import check_picture, examine
from rtmo.formats.findings import Findings, Problem
from rtmo.formats.label_files import LabelFiles
from rtmo.formats.label_set import LabelFormat, LabelSet
from rtmo.formats.labels import read_labels, write_labels
from rtmo.formats.licence import Licence
from rtmo.formats.skeleton_guess import Answers, SettledSkeleton, settle_skeleton
from rtmo.model.config import ModelConfig
from rtmo.run.initial_weights import sha256
from rtmo.skeleton import COCO17, CROWDPOSE14

VAL_FRACTION = 0.15
"""Of the pictures, where the export has no validation split of its own."""
FORMAT_NAMES: Mapping[LabelFormat, str] = {
    "coco": "COCO keypoints",
    "cvat": "CVAT's COCO keypoints",
    "yolo": "YOLO-pose",
    "label-studio": "Label Studio",
}
OVERLAY = Path("presets/own/fine-tune.yaml")


@dataclass(frozen=True, slots=True)
class Survey:
    """What was found in a folder or archive."""

    path: Path
    files: LabelFiles
    labels: LabelSet
    settled: SettledSkeleton
    splits: Splits
    val_fraction: float
    """Of the training pictures that were taken for validation; 0 if the export has such a split."""
    findings: Findings
    num_usable: int
    """Pictures that are there and can be read."""

    def summary(self) -> dict[str, object]:
        """What was found, for programs."""
        skeleton = self.settled.skeleton
        return {
            "format": self.labels.format,
            "pictures": {name: len(part) for name, part in self.splits.items()},
            "usable_pictures": self.num_usable,
            "keypoints": skeleton.keypoints,
            "flip_pairs": skeleton.flip_pairs,
            "sigmas": skeleton.sigmas,
            "findings": {problem.label: n for problem, n in self.findings.counts.items()},
        }

    def describe(self) -> tuple[str, ...]:
        """What it is, how the skeleton was settled, and what the doctor found; a line each."""
        records = [record for part in self.splits.values() for record in part]
        flags = [
            v for record in records for person in record.people for v in person.keypoints[2::3]
        ]
        skeleton = self.settled.skeleton
        parts = ", ".join(f"{name} {len(part)}" for name, part in self.splits.items())
        gate = "" if "gate" in self.splits else "; `convert` takes the gate out of train"
        doctor = (
            f"{count} x {problem.label} ({problem.action}): {problem.rule} "
            f"First: {self.findings.examples[problem][0]}"
            for problem, count in self.findings.counts.items()
        )
        return (
            f"data: {self.path}, {FORMAT_NAMES[self.labels.format]}",
            f"pictures: {len(records)} labelled, {self.num_usable} of them there and readable",
            f"people: {sum(len(record.people) for record in records)}",
            f"keypoints: {sum(v > 0 for v in flags)} labelled, {flags.count(1)} of these hidden",
            f"skeleton {skeleton.name}: {', '.join(skeleton.keypoints)}",
            *self.settled.remarks,
            f"splits: {parts}{gate}",
            *(doctor if self.findings.counts else ("doctor: nothing to remark",)),
        )


@dataclass(frozen=True, slots=True)
class Adoption:
    """The files that `init` writes, checked and not yet written."""

    source_path: Path
    source_text: str
    params: MergedParams

    def summary(self) -> dict[str, object]:
        """What is written, for programs."""
        return {"source": str(self.source_path), "params": self.params.differences}

    def write(self) -> None:
        """Write both."""
        self.source_path.parent.mkdir(exist_ok=True)
        self.source_path.write_text(self.source_text)
        self.params.write()


def survey(path: Path, name: str, keypoints: tuple[str, ...] | None, answers: Answers) -> Survey:
    """Look at labels and pictures, with the dataset doctor's eyes; nothing is written.

    Raises:
        FormatError: if the labels cannot be read or an answer does not fit them.
        SourceError: if no person has a labelled keypoint in a usable picture.
    """
    findings = Findings()
    files = LabelFiles(path)
    labels = read_labels(files, findings, keypoints)
    settled = settle_skeleton(name, labels.skeleton, answers)
    num_usable = num_people = 0
    for record in (record for records in labels.splits.values() for record in records):
        if record.file_name not in files:
            findings.add(Problem.IMAGE_FILE_MISSING, f"image {record.id} ({record.file_name})")
            continue
        repaired = check_picture(record, jpeg_of(files, record.file_name), findings)
        if repaired is not None:
            examine(repaired, settled.skeleton, findings)
            num_usable += 1
            num_people += sum(any(person.keypoints[2::3]) for person in repaired.people)
    if not num_people:
        found = {problem.label: count for problem, count in findings.counts.items()}
        raise SourceError(
            f"{path} has {num_usable} usable pictures and no person with a labelled keypoint in "
            f"them. Found on the way: {found or 'nothing wrong'}. Were the pictures exported too?"
        )
    val_fraction = 0.0 if "val" in labels.splits else VAL_FRACTION
    return Survey(
        path=path,
        files=files,
        labels=labels,
        settled=settled,
        splits=divide(files, labels, val_fraction),
        val_fraction=val_fraction,
        findings=findings,
        num_usable=num_usable,
    )


def adopt(
    paths: Paths, found: Survey, name: str, licence: Licence, weights: str | None
) -> Adoption:
    """The source file and `params.yaml` for what was found; nothing is written.

    Raises:
        SourceError: if a source of that name exists which `init` did not write, there are too few
            pictures, or the weights cannot be used.
        ParamsError: if `params.yaml` with the recipe is not valid.
    """
    overlay = read_overlay(paths.root / OVERLAY)
    least = math.ceil(overlay["train"]["global_batch"] / (1 - overlay["data"]["gate_fraction"]))
    if len(found.splits["train"]) < least:
        raise SourceError(
            f"{found.path} leaves {len(found.splits['train'])} pictures to train on; a step of the "
            f"recipe and the gate need {least}. Label more pictures"
        )
    overlay["data"]["dataset"] = name
    overlay["train"]["init_weights"] = weights
    overlay["train"]["init_weights_sha256"] = None
    if weights is not None:
        overlay["model"] = _model_of(weights).model_dump()
        if Path(weights).suffix:
            overlay["train"]["init_weights_sha256"] = sha256(Path(weights))
    text = _source_text(paths, found, name, licence)
    return Adoption(
        source_path=paths.source(name),
        source_text=text,
        params=merge_into_params(paths.root, overlay, str(OVERLAY)),
    )


def translate(
    data: Path, out: Path, to: LabelFormat, keypoints: tuple[str, ...] | None, answers: Answers
) -> tuple[str, ...]:
    """Write labels and pictures in another format; gives what that has no place for.

    Raises:
        FormatError: if the labels cannot be read or written.
        SourceError: if `out` exists.
    """
    if out.exists():
        raise SourceError(f"{out} exists; give a folder that does not")
    files = LabelFiles(data)
    found = read_labels(files, Findings(), keypoints)
    settled = settle_skeleton(default_name(data), found.skeleton, answers)
    written = write_labels(found.splits, settled.skeleton, to)
    for name, content in written.documents.items():
        _put(out / name, content)
    for picture, name in written.pictures.items():
        if picture in files:
            _put(out / name, files.read(picture))
    missing = sum(picture not in files for picture in written.pictures)
    return (*written.lost, *([f"{missing} pictures that are not there"] * (missing > 0)))


def parse_names(text: str | None) -> tuple[str, ...] | None:
    """Names between commas."""
    return None if text is None else tuple(name.strip() for name in text.split(","))


def parse_answers(flip_pairs: str | None, sigmas: str | None) -> Answers:
    """What a person says of the skeleton on the command line.

    Raises:
        SourceError: if it is not of the form `first:second,...`.

    Example:
        >>> parse_answers("l_eye:r_eye", "nose:0.03").sigmas
        {'nose': 0.03}
    """
    pairs = None
    if flip_pairs is not None:
        pairs = () if flip_pairs == "none" else _pairs(flip_pairs, "--flip-pairs")
    given = None if sigmas is None else _pairs(sigmas, "--sigmas")
    try:
        numbers = None if given is None else {name: float(number) for name, number in given}
    except ValueError:
        raise SourceError(f"--sigmas {sigmas!r}: expected NAME:NUMBER,...") from None
    return Answers(pairs, numbers)


def parse_licence(text: str) -> Licence:
    """A licence as `NAME:yes`, `NAME:no` or `NAME:unknown`.

    Raises:
        SourceError: if it is not of that form.
    """
    name, _, use = text.rpartition(":")
    try:
        return Licence.model_validate(
            {"name": name.strip(), "url": "stated to rtmo-pipeline init", "commercial_use": use}
        )
    except ValidationError:
        raise SourceError(
            f"--licence {text!r}: expected a name and whether its terms allow commercial use, such "
            "as 'CC BY 4.0:yes', 'our own pictures:yes', 'research only:no' or 'web:unknown'"
        ) from None


def _pairs(text: str, option: str) -> tuple[tuple[str, str], ...]:
    pairs = [tuple(word.strip() for word in part.split(":")) for part in text.split(",")]
    wrong = [":".join(pair) for pair in pairs if len(pair) != 2 or not all(pair)]
    if wrong:
        raise SourceError(f"{option} has {wrong[0]!r}, expected two words around one colon")
    return tuple((first, second) for first, second in pairs)


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def default_name(path: Path) -> str:
    """A dataset's name out of that of its folder or archive.

    Example:
        >>> default_name(Path("exports/Job 7 (day).zip"))
        'job-7-day'
    """
    return re.sub(r"[^a-z0-9]+", "-", path.resolve().stem.lower()).strip("-") or "own"


def _source_text(paths: Paths, found: Survey, name: str, licence: Licence) -> str:
    path = paths.source(name)
    if path.exists() and not isinstance(load_source(path).get, Labels):
        raise SourceError(f"{path} is not one that init wrote; choose another --name than {name}")
    data = found.path.resolve()
    inside = data.is_relative_to(paths.root)
    skeleton = found.settled.skeleton
    is_known = skeleton in (COCO17, CROWDPOSE14)
    content = {
        "dataset": name,
        "about": f"Own labels: {FORMAT_NAMES[found.labels.format]} from {data.name}.",
        "format": "coco",
        "skeleton": skeleton.name if is_known else skeleton.model_dump(mode="json"),
        "licence": licence.model_dump(mode="json"),
        "get": {
            "kind": "labels",
            "path": str(data.relative_to(paths.root) if inside else data),
            "sha256": labels_digest(found.files, found.labels),
            "val_fraction": found.val_fraction,
        },
        "splits": {
            split: locations.model_dump(mode="json", exclude_none=True)
            for split, locations in split_locations(found.splits).items()
        },
    }
    text = json.dumps(content, indent=2) + "\n"
    try:
        Source.model_validate_json(text, strict=True)
    except ValidationError as error:
        said = "; ".join(f"{problem['loc']}: {problem['msg']}" for problem in error.errors())
        raise SourceError(f"sources/{name}.json would not be valid: {said}") from None
    return text


def _model_of(weights: str) -> ModelConfig:
    """Size and input side of published weights or of a file."""
    path = Path(weights)
    if not path.suffix:
        try:
            official = official_file(weights)
        except ValueError as error:
            raise SourceError(f"--weights: {error}") from None
        return ModelConfig(size=official.size, input_size=official.input_size)
    if not path.is_file():
        raise SourceError(f"--weights: there is no file {path}")
    from rtmo.model.weights import read_metadata

    try:
        metadata = read_metadata(path)
        return ModelConfig.model_validate_strings(
            {key: metadata[key] for key in ModelConfig.model_fields}
        )
    except (ValueError, KeyError) as error:
        raise SourceError(f"--weights: {path} does not say what it is: {error}") from None
