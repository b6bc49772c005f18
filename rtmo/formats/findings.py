"""What was found wrong in a dataset, each kind with the rule that was applied to it, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

Action = Literal["repaired", "dropped", "kept"]

EXAMPLES_KEPT = 5


class Problem(Enum):
    """One kind of finding: its name in reports, what is done about it, and the rule in words."""

    def __init__(self, label: str, action: Action, rule: str) -> None:
        self.label = label
        self.action: Action = action
        self.rule = rule

    DUPLICATE_IMAGE = (
        "duplicate_image_id",
        "dropped",
        "The first picture of an id is kept.",
    )
    IMAGE_SIZE_MISSING = (
        "image_size_missing",
        "repaired",
        "Width and height are read from the JPEG.",
    )
    IMAGE_SIZE_WRONG = (
        "image_size_wrong",
        "repaired",
        "Width and height of the stored JPEG replace those of the annotation file.",
    )
    IMAGE_FILE_MISSING = (
        "image_file_missing",
        "dropped",
        "A picture whose file is not in the archive is dropped with its people.",
    )
    IMAGE_UNREADABLE = (
        "image_unreadable",
        "dropped",
        "A picture that does not decode is dropped with its people.",
    )
    IMAGE_TRUNCATED = (
        "image_truncated",
        "dropped",
        "A picture file without its end marker is dropped with its people.",
    )
    IMAGE_ROTATED = (
        "image_exif_rotated",
        "kept",
        "Pixels are used as stored: the annotated size is that of the stored pixels.",
    )
    IMAGE_TURNED = (
        "image_exif_applied",
        "repaired",
        "The EXIF orientation is applied: the annotated size is that of the turned picture only.",
    )
    LEAKED = (
        "train_image_held_out",
        "dropped",
        "A training picture with the same bytes as one of val or gate is dropped from train.",
    )
    ORPHAN_ANNOTATION = (
        "orphan_annotation",
        "dropped",
        "An annotation of a picture that is not listed is dropped.",
    )
    DUPLICATE_ANNOTATION = (
        "duplicate_annotation_id",
        "dropped",
        "The first annotation of an id is kept.",
    )
    OTHER_CATEGORY = (
        "other_category",
        "dropped",
        "Only annotations of the keypoint category are kept.",
    )
    LABEL_WITHOUT_PICTURE = (
        "label_without_picture",
        "dropped",
        "A file of labels whose picture is not there is dropped.",
    )
    NOT_LABELLED = (
        "picture_not_labelled",
        "dropped",
        "A picture that nobody submitted labels for is dropped: it may show people.",
    )
    OTHER_LABELLING = (
        "second_labelling",
        "dropped",
        "Of several labellings of a picture the ground truth, else the last, is kept.",
    )
    KEYPOINT_WITHOUT_PERSON = (
        "keypoint_without_person",
        "dropped",
        "A keypoint in no person's box and with no person as its parent is dropped.",
    )
    NO_KEYPOINTS_FIELD = (
        "no_keypoints_field",
        "dropped",
        "An annotation without keypoints is dropped, as the official loader does.",
    )
    NO_BOX = (
        "no_box",
        "dropped",
        "An annotation without a box of four finite numbers is dropped.",
    )
    NOT_FINITE = (
        "keypoint_not_finite",
        "dropped",
        "An annotation with a keypoint that is not a finite number is dropped.",
    )
    BAD_VISIBILITY = (
        "bad_visibility",
        "repaired",
        "Visibility flags are set to the nearest of 0, 1, 2.",
    )
    NUM_KEYPOINTS_MISSING = (
        "num_keypoints_missing",
        "repaired",
        "The number of labelled keypoints is filled in.",
    )
    NUM_KEYPOINTS_WRONG = (
        "num_keypoints_differs",
        "kept",
        "The file's count is kept: the official evaluators read it.",
    )
    AREA_MISSING = (
        "area_missing",
        "repaired",
        "An area that is missing or not positive becomes 0.53 x box area, at least 1.",
    )
    BAD_SEGMENTATION = (
        "bad_segmentation",
        "repaired",
        "A segmentation that cannot be read is left out; the person stays.",
    )
    BOX_OUTSIDE = (
        "box_reaches_outside",
        "kept",
        "Kept as given for evaluation; clipped to the picture for training.",
    )
    BOX_EMPTY = (
        "box_empty",
        "kept",
        "Kept for evaluation; never a training target, its segmentation becomes ignored area.",
    )
    KEYPOINT_OUTSIDE = (
        "labelled_keypoint_outside",
        "kept",
        "Kept for evaluation; unlabelled in training where it falls outside the input.",
    )
    ZERO_KEYPOINTS = (
        "person_without_keypoints",
        "kept",
        "Never a training target; its segmentation becomes ignored area in stage 2.",
    )
    CROWD = (
        "crowd_region",
        "kept",
        "Never a training target; its segmentation becomes ignored area in stage 2.",
    )
    LEFT_RIGHT = (
        "left_right_disagree",
        "kept",
        "Left and right are in opposite order at the eyes and at both shoulders and hips: look.",
    )


@dataclass(slots=True)
class Findings:
    """Counts of every problem of one split, with the first few examples."""

    counts: Counter[Problem] = field(default_factory=Counter)
    examples: dict[Problem, list[str]] = field(default_factory=dict)

    def add(self, problem: Problem, example: str) -> None:
        """Count one case; `example` names it for a person who wants to look."""
        self.counts[problem] += 1
        kept = self.examples.setdefault(problem, [])
        if len(kept) < EXAMPLES_KEPT:
            kept.append(example)

    def merge(self, others: Findings) -> None:
        """Count what was found elsewhere as found after all that is here."""
        self.counts.update(others.counts)
        for problem, examples in others.examples.items():
            kept = self.examples.setdefault(problem, [])
            kept += examples[: EXAMPLES_KEPT - len(kept)]
