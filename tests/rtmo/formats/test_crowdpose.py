"""CrowdPose files."""

import json

import pytest

from rtmo.formats.coco import write_coco
from rtmo.formats.crowdpose import read_crowdpose
from rtmo.formats.findings import Findings
from rtmo.formats.records import FormatError
from rtmo.skeleton import CROWDPOSE14


def test_all_official_validation_people_survive_a_round_trip(shared):
    official = json.loads((shared / "real/crowdpose/crowdpose_val.json").read_text())
    findings = Findings()
    records = read_crowdpose(official, CROWDPOSE14, findings)
    written = write_coco(records, CROWDPOSE14)
    assert not findings.counts
    by_id = {annotation["id"]: annotation for annotation in official["annotations"]}
    assert {annotation["id"]: annotation for annotation in written["annotations"]} == by_id
    assert len(by_id) == 8527
    indices = {image["id"]: image["crowdIndex"] for image in official["images"]}
    assert {image["id"]: image["crowdIndex"] for image in written["images"]} == indices


def test_a_file_without_crowd_index_is_refused():
    document = {
        "images": [{"id": 3, "file_name": "a.jpg", "height": 9, "width": 9}],
        "annotations": [],
        "categories": [{"id": 1, "name": "person"}],
    }
    with pytest.raises(FormatError, match="1 pictures have no crowdIndex"):
        read_crowdpose(document, CROWDPOSE14, Findings())
