"""One FiftyOne evaluation run per model, filled with this evaluation's numbers.

The run is of FiftyOne's own COCO type, so that its App and `load_evaluation_results` read it
without this package. What is in it was matched and counted here, by COCO's OKS; where FiftyOne
writes IoU, read OKS. Matches are those at OKS 0.5; mAP and mAR are COCO's AP and AR. Error rates
are those of the whole split.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipelines.inspection.split import CHALLENGER, CHAMPION_FIELD, PREDICTIONS_FIELD, InspectedSplit
from rtmo.evaluation.config import EvaluateConfig
from rtmo.evaluation.matching import candidates, match
from rtmo.evaluation.official import Rules, Scored, official_scores
from rtmo.evaluation.protocol import MAX_DETECTIONS, OKS_THRESHOLDS, RECALL_LEVELS
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.similarity import paired_oks
from rtmo.evaluation.taxonomy import Outcome

if TYPE_CHECKING:
    import fiftyone as fo

RUN_KEYS = {PREDICTIONS_FIELD: CHALLENGER, CHAMPION_FIELD: "champion"}
"""Key of the evaluation run, by the field of the model's boxes."""

TRUTH_FIELD = "ground_truth_keypoints"

LABEL = "person"
"""The only class."""

FURTHER_RATES = ("swap_rate", "inversion_rate", "miss_rate", "jitter_rate", "missed_rate")
"""Error rates in the run, beside AP50 and AP75."""

Pair = tuple[str | None, str | None, float | None, float | None, str | None, str | None]
"""Label of the person and of the detection, OKS, score, id of the person's and of the detection's
FiftyOne label; None on the side that is missing."""


class _Mark(NamedTuple):
    """What the run says of one label; the fields FiftyOne's own evaluation writes."""

    outcome: str | None
    """tp, fp or fn; None where COCO ignores the person or the detection of one."""
    partner: str
    """Id of the label on the other side; empty without."""
    oks: float | None


_UNMARKED = _Mark(None, "", None)


@dataclass(frozen=True, slots=True)
class _Shown:
    """Where the labels of one model and of the people are in a dataset."""

    dataset: fo.Dataset
    split: InspectedSplit
    rows: range
    """Images of the split that are in the dataset."""

    def ids(self, field: str) -> list[str]:
        """FiftyOne ids of all labels of a field, by image of the split, in order."""
        names, ids = self.dataset.values(["image_id", f"{field}.keypoints.id"])
        by_image = dict(zip(names, ids, strict=True))
        return [one for row in self.rows for one in by_image[self._image_id(row)]]

    def write(self, field: str, key: str, images: np.ndarray, marks: list[_Mark]) -> None:
        """Set the run's three attributes of every label; `images` are the labels' rows."""
        for ending, part in (("", 0), ("_id", 1), ("_iou", 2)):
            values: dict[int, list[Any]] = {self._image_id(row): [] for row in self.rows}
            for row, mark in zip(images.tolist(), marks, strict=True):
                values[self._image_id(row)].append(mark[part])
            path = f"{field}.keypoints.{key}{ending}"
            self.dataset.set_values(path, values, key_field="image_id", progress=False)

    def count(self, key: str, outcome: str, images: np.ndarray, marks: list[_Mark]) -> None:
        """Set how often an outcome occurs in each image."""
        values = {self._image_id(row): 0 for row in self.rows}
        for row, mark in zip(images.tolist(), marks, strict=True):
            values[self._image_id(row)] += mark.outcome == outcome
        self.dataset.set_values(f"{key}_{outcome}", values, key_field="image_id", progress=False)

    def _image_id(self, row: int) -> int:
        return int(self.split.store.image_ids[row])


def save_runs(dataset: fo.Dataset, split: InspectedSplit, rows: range) -> None:
    """Write a run for each model; one of the same key is replaced.

    Args:
        dataset: with the labels of `split`, in order.
        split: people and models.
        rows: images of the split that are in the dataset, the first ones; only these are scored.
    """
    shown = _Shown(dataset, split, rows)
    for field, (model, outcome) in split.models.items():
        _save_run(shown, field, model, outcome)


def forget_run(dataset: fo.Dataset, field: str) -> None:
    """Delete the run of a model, if there is one, and what it wrote into the samples."""
    if dataset.has_evaluation(RUN_KEYS[field]):
        dataset.delete_evaluation(RUN_KEYS[field])


def _save_run(shown: _Shown, field: str, model: str, outcome: Outcome) -> None:
    from fiftyone.utils.eval.coco import COCODetectionResults, COCOEvaluationConfig

    dataset, key, split = shown.dataset, RUN_KEYS[field], shown.split
    sigmas = split.store.skeleton.sigmas
    evaluation = COCOEvaluationConfig(
        f"{field}_keypoints",
        TRUTH_FIELD,
        iou=float(OKS_THRESHOLDS[0]),
        classwise=False,
        keypoint_sigmas=list(sigmas),
        compute_mAP=True,
        iou_threshs=OKS_THRESHOLDS.tolist(),
        max_preds=MAX_DETECTIONS,
        model=model,
        similarity="OKS with COCO's areas, matched outside of FiftyOne",
    ).build()
    forget_run(dataset, field)
    evaluation.register_run(dataset, key)
    evaluation.register_samples(dataset, key)
    pairs = _write_matches(shown, f"{field}_keypoints", key, outcome)
    rules = Rules(split.store.meta.protocol, sigmas)
    images = [split.truth.image_ids[: len(shown.rows)]]
    (scored,) = official_scores(
        split.truth, outcome.found, rules, images, EvaluateConfig().evaluator
    )
    results = COCODetectionResults(
        dataset,
        evaluation.config,
        key,
        pairs,
        scored.precision[:, None, :, 0],
        RECALL_LEVELS,
        OKS_THRESHOLDS,
        [LABEL],
        recall_sweep=scored.recall[:, None, 0],
        custom_metrics=_further_metrics(scored, error_rates(split.truth, outcome.errors)),
        backend=evaluation,
    )
    evaluation.save_run_results(dataset, key, results)
    evaluation.add_fields_to_sidebar_group(dataset, key)


def _write_matches(shown: _Shown, field: str, key: str, outcome: Outcome) -> list[Pair]:
    """Say of every person and detection what became of it at OKS 0.5; returns the pairs."""
    truth, found = shown.split.truth, outcome.found
    sigmas = np.array(shown.split.store.skeleton.sigmas)
    matches = match(truth, found, candidates(truth, found, sigmas), OKS_THRESHOLDS[:1])
    people = _by_image(truth.image, shown.rows)
    places = _by_image(matches.image, shown.rows)
    person_ids = dict(zip(people.tolist(), shown.ids(TRUTH_FIELD), strict=True))
    of_people = {
        person: _UNMARKED if truth.is_ignored[person] else _Mark("fn", "", None)
        for person in people.tolist()
    }
    of_detections: list[_Mark] = []
    pairs: list[Pair] = []
    for place, detection_id in zip(places.tolist(), shown.ids(field), strict=True):
        person, score = int(matches.person[0, place]), float(matches.scores[place])
        mark = _UNMARKED
        if matches.is_hit[0, place]:
            both = np.array([person]), matches.detections[[place]]
            oks = float(paired_oks(truth, found, *both, sigmas)[0])
            mark = _Mark("tp", person_ids[person], oks)
            of_people[person] = _Mark("tp", detection_id, oks)
            pairs.append((LABEL, LABEL, oks, score, person_ids[person], detection_id))
        elif matches.is_false[0, place]:
            mark = _Mark("fp", "", None)
            pairs.append((None, LABEL, None, score, None, detection_id))
        of_detections.append(mark)
    for person, mark in of_people.items():
        if mark.outcome == "fn":
            pairs.append((LABEL, None, None, None, person_ids[person], None))
    marks = list(of_people.values())
    shown.write(TRUTH_FIELD, key, truth.image[people], marks)
    shown.write(field, key, matches.image[places], of_detections)
    shown.count(key, "fn", truth.image[people], marks)
    for name in ("tp", "fp"):
        shown.count(key, name, matches.image[places], of_detections)
    return pairs


def _by_image(images: np.ndarray, rows: range) -> np.ndarray:
    """Places in `images` of those among `rows`, image after image, in their order."""
    order = np.argsort(images, kind="stable")
    return np.asarray(order[images[order] < len(rows)])


def _further_metrics(scored: Scored, rates: dict[str, float]) -> dict[str, dict[str, Any]]:
    """Figures that FiftyOne's results have no place for, as it stores those of plug-ins."""
    figures = {
        f"AP{round(100 * threshold)}": (float(scored.precision[index, :, 0].mean()), False)
        for index, threshold in enumerate(OKS_THRESHOLDS)
        if index in (0, 5)
    }
    figures |= {name: (rates[name], True) for name in FURTHER_RATES if name in rates}
    return {
        f"rtmo/{name}": {"key": name, "label": name, "value": value, "lower_is_better": lower}
        for name, (value, lower) in figures.items()
    }
