"""Time evaluation and error analysis on val2017.

    python -m benchmarks.evaluation_scale A.json.gz D.json.gz

A: annotation file with person keypoints, D: COCO result list; both gzip'd JSON. Writes a raw log.
"""

import gzip
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar, get_args

import numpy as np

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import spread
from rtmo.evaluation.bootstrap import metric_intervals
from rtmo.evaluation.config import Evaluator
from rtmo.evaluation.impact import impact
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.keypoint_ap import evaluate_keypoints
from rtmo.evaluation.matching import candidates, match, split_ap
from rtmo.evaluation.rates import error_rates
from rtmo.evaluation.sensitivity import group_errors, labelled_keypoints, overlaps, sizes
from rtmo.evaluation.suspects import suspicions
from rtmo.evaluation.taxonomy import Outcome, classify
from rtmo.skeleton import COCO17

Result = TypeVar("Result")
REPEATS = 3
"""Of the official numbers; the libraries take turns."""


def table_of(log: RawLog) -> str:
    """Seconds of each part."""
    counts = ", ".join(f"{count:,} {name}" for name, count in log.settings.items())
    return f"{counts}.\n\n{spread(log.samples, 's', 2)}"


def main(annotation_file: Path, result_file: Path) -> None:
    """Time every part; print the table."""
    measurement = raw_log.begin("evaluation_scale", ("pycocotools", "faster-coco-eval"))
    samples: dict[str, list[float]] = {}

    def timed(what: str, work: Callable[[], Result]) -> Result:
        start = time.perf_counter()
        result = work()
        samples.setdefault(what, []).append(time.perf_counter() - start)
        return result

    annotations = json.loads(gzip.decompress(annotation_file.read_bytes()))
    detections = json.loads(gzip.decompress(result_file.read_bytes()))
    coco = {"skeleton": COCO17, "protocol": "coco"}
    sigmas = np.array(COCO17.sigmas)
    for evaluator in get_args(Evaluator) * REPEATS:
        timed(
            f"official numbers and keypoint table, by {evaluator}",
            partial(evaluate_keypoints, annotations, detections, **coco, evaluator=evaluator),
        )
    truth = timed("read annotations", lambda: read_ground_truth(annotations, COCO17, "coco"))
    found = timed("read detections", lambda: read_detections(detections, truth, COCO17))
    timed("AP by arrays", lambda: split_ap(match(truth, found, candidates(truth, found, sigmas))))
    errors = timed("classify errors", lambda: classify(truth, found, COCO17))
    outcome = Outcome(found, errors)
    timed("cost of each kind of error", lambda: impact(truth, found, errors, COCO17))
    groups = (*sizes(truth), *labelled_keypoints(truth), *overlaps(truth))
    timed("errors and AP of nine groups", lambda: group_errors(groups, truth, outcome, COCO17))
    timed("error rates", lambda: error_rates(truth, errors))
    timed("doubtful labels", lambda: suspicions(truth, outcome, COCO17))
    timed(
        "intervals, 1000 samples",
        lambda: metric_intervals(annotations, detections, **coco, seed=0, samples=1000),
    )
    counts = {
        "pictures": len(annotations["images"]),
        "people": len(annotations["annotations"]),
        "detections": len(detections),
    }
    print(table_of(measurement.end(samples, counts)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
