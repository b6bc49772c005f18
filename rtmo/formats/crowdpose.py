"""CrowdPose annotation files -> records.

COCO's layout with 14 keypoints, a `crowdIndex` per picture, no areas, and a `num_keypoints` that
counts the labelled limb keypoints only, as all 8,527 people of the published crowdpose_val.json
show. Source: https://github.com/Jeff-sjtu/CrowdPose
"""

from __future__ import annotations

from typing import Any

from rtmo.formats.coco import read_keypoint_file
from rtmo.formats.findings import Findings
from rtmo.formats.records import FormatError, ImageRecord
from rtmo.skeleton import Skeleton

NUM_LIMB_KEYPOINTS = 12
"""All but head and neck, which come last."""


def read_crowdpose(
    document: Any,  # noqa: ANN401 - parsed JSON
    skeleton: Skeleton,
    findings: Findings,
) -> list[ImageRecord]:
    """Every picture of the file, ordered by id, with its people in file order.

    Raises:
        FormatError: if the document is no CrowdPose annotation file or not of this skeleton.
    """
    records = read_keypoint_file(document, skeleton, findings, num_counted=NUM_LIMB_KEYPOINTS)
    without = [record.id for record in records if record.crowd_index is None]
    if without:
        raise FormatError(
            f"{len(without)} pictures have no crowdIndex (the first is {without[0]}), without "
            'which easy, medium and hard cannot be told apart; say "format": "coco" in the source '
            "file if these are no CrowdPose annotations"
        )
    return records
