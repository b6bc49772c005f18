"""How often the release gate errs: simulated models from the detections of a real one.

    python -m benchmarks.gate_error_rates A.json.gz D.json.gz SEED_SHIFT [IMAGES]

A: annotation file with person keypoints, D: COCO result list; both gzip'd JSON. SEED_SHIFT: how
much seeds differ, see below. IMAGES: size of a gate split, drawn anew for every case; all of the
file without it.

A model is the real detections with noise of its own: keypoints move by a Gaussian in units of
their COCO tolerance, scores move, some detections are lost. A recipe is an amount of noise. A seed
draws the noise, and shifts its amount for the whole model (by a Gaussian of standard deviation
SEED_SHIFT, relative), so that models of one recipe differ in AP by more than the pictures explain,
as trainings do. Better and worse recipes have less
and more noise.
"""

import gzip
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from pipelines.params import RegisterConfig
from pipelines.registry.comparison import DECIDING_METRICS
from pipelines.registry.gate import Comparison, Evidence, MetricChange, decide
from rtmo.evaluation.bootstrap import Interval, paired_differences
from rtmo.evaluation.inputs import read_detections, read_ground_truth
from rtmo.evaluation.matching import candidates, match, split_ap
from rtmo.skeleton import COCO17

SIGMAS = np.array(COCO17.sigmas)
NOISE = 0.2
"""Of the champion's recipe: standard deviation of a keypoint over 2 * sigma * sqrt(area)."""
SCORE_NOISE = 0.03
LOST = 0.02
CHALLENGERS = (("same recipe", NOISE, 200), ("worse", 0.2625, 100), ("better", 0.0458, 100))
"""Name, noise, number of cases; the noise was chosen to give AP differences of 0, -0.02, +0.03."""
RULES = RegisterConfig(
    name="rtmo",
    floor_ap=0.0,
    bootstrap_samples=200,
    confidence=0.95,
    min_effect=0.0,
    max_latency_ratio=1.1,
)


@dataclass(frozen=True)
class Split:
    """Annotations, the real detections on them, and how models are simulated."""

    annotations: Mapping[str, Any]
    detections: Sequence[Mapping[str, Any]]
    seed_shift: float

    def drawn(self, num_images: int, rng: np.random.Generator) -> "Split":
        """Some of the images."""
        images = self.annotations["images"]
        chosen = [images[row] for row in rng.permutation(len(images))[:num_images]]
        ids = {image["id"] for image in chosen}
        people = [p for p in self.annotations["annotations"] if p["image_id"] in ids]
        found = [d for d in self.detections if d["image_id"] in ids]
        annotations = {**self.annotations, "images": chosen, "annotations": people}
        return Split(annotations, found, self.seed_shift)


def simulated(split: Split, noise: float, seed: int) -> list[dict[str, Any]]:
    """The result list of a model of the recipe `noise`, trained with `seed`."""
    rng = np.random.default_rng(seed)
    amount = noise * (1 + split.seed_shift * rng.standard_normal())
    points = np.array([d["keypoints"] for d in split.detections]).reshape(-1, 17, 3)
    extent = np.ptp(points[..., :2], axis=1).prod(axis=1)  # of the pose; an area of its own is rare
    scale = amount * 2 * SIGMAS[None, :, None] * np.sqrt(extent)[:, None, None]
    points[..., :2] += rng.standard_normal(points[..., :2].shape) * scale
    scores = np.array([d["score"] for d in split.detections])
    scores = scores + SCORE_NOISE * rng.standard_normal(len(scores))
    is_kept = rng.random(len(scores)) >= LOST
    return [
        {**d, "keypoints": pose.ravel().tolist(), "score": float(score)}
        for d, pose, score, kept in zip(split.detections, points, scores, is_kept, strict=True)
        if kept
    ]


def ap(split: Split, results: Sequence[Mapping[str, Any]]) -> float:
    """AP of a result list on all of a split."""
    truth = read_ground_truth(split.annotations, COCO17, "coco")
    found = read_detections(results, truth, COCO17)
    return float(np.mean(split_ap(match(truth, found, candidates(truth, found, SIGMAS)))))


def recipe_ap(split: Split, noise: float) -> float:
    """AP of a recipe: the mean of three seeds."""
    return float(np.mean([ap(split, simulated(split, noise, seed)) for seed in (1, 2, 3)]))


def compare(split: Split, champion: float, challenger: float, case: int) -> Comparison:
    """Two simulated models on a split, as the gate compares them."""
    differences = paired_differences(
        split.annotations,
        simulated(split, challenger, 2 * case + 1001),
        simulated(split, champion, 2 * case + 1000),
        skeleton=COCO17,
        protocol="coco",
        seed=0,
        samples=RULES.bootstrap_samples,
        confidence=RULES.confidence,
    )
    changes = tuple(
        MetricChange(name, differences[name].value, differences[name].low, differences[name].high)
        for name in DECIDING_METRICS
        if name in differences
    )
    return Comparison(1, changes, None)


def verdict(comparison: Comparison, seed_std: float | None) -> str:
    """What the gate says with this setting of `register.seed_std`."""
    evidence = Evidence(
        gate_ap=Interval(0.0, 0.0, 0.0),
        looks=1,
        parity_failures=(),
        unsigned_licences=(),
        comparison=comparison,
    )
    return decide(RULES.model_copy(update={"seed_std": seed_std}), evidence).kind


def main(
    annotation_file: Path, result_file: Path, seed_shift: float, num_images: int | None
) -> None:
    """Count how often the gate gave which verdict to each kind of challenger; print the table."""
    measurement = raw_log.begin("gate_error_rates")
    whole = Split(
        json.loads(gzip.decompress(annotation_file.read_bytes())),
        json.loads(gzip.decompress(result_file.read_bytes())),
        seed_shift,
    )
    num_images = num_images or len(whole.annotations["images"])
    seeds = [ap(whole, simulated(whole, NOISE, seed)) for seed in range(10)]
    seed_std = float(np.std(seeds, ddof=1))
    samples = {}
    for name, noise, cases in CHALLENGERS:
        effect = recipe_ap(whole, noise) - recipe_ap(whole, NOISE)
        settings = {"images alone": 0.0, "null (the default)": None, "as measured": seed_std}
        said: dict[str, Counter[str]] = {label: Counter() for label in settings}
        halves = []
        for case in range(cases):
            split = whole.drawn(num_images, np.random.default_rng(case))
            comparison = compare(split, NOISE, noise, case)
            halves.append((comparison.changes[0].high - comparison.changes[0].low) / 2)
            for label, setting in settings.items():
                said[label][verdict(comparison, setting)] += 1
            if case % 20 == 19:
                print(f"{name}: {case + 1} of {cases} cases", file=sys.stderr)
        samples[name] = {
            "noise": noise,
            "effect_ap": effect,
            "half_widths_ap": halves,
            "verdicts": {label: dict(counted) for label, counted in said.items()},
        }
    facts = {"images": num_images, "seed_shift": seed_shift}
    log = measurement.end({"seeds_ap": seeds, "challengers": samples}, facts)
    print(table_of(log))


def table_of(log: RawLog) -> str:
    """Verdicts on every kind of challenger, by setting of `register.seed_std`."""
    challengers = log.samples["challengers"]
    labels = [*next(iter(challengers.values()))["verdicts"]]
    rows = [
        (
            name,
            f"{found['effect_ap']:+.4f}",
            len(found["half_widths_ap"]),
            *(in_words(found["verdicts"][label]) for label in labels),
        )
        for name, found in challengers.items()
    ]
    seeds = log.samples["seeds_ap"]
    halves = [half for found in challengers.values() for half in found["half_widths_ap"]]
    head = ["challenger", "AP over the champion's recipe", "cases", *labels]
    return (
        f"Gate splits of {log.settings['images']} images. The champion's recipe has AP "
        f"{np.mean(seeds):.4f}; its {len(seeds)} seeds deviate by {np.std(seeds, ddof=1):.4f}. "
        f"Half width of the AP interval: {np.median(halves):.4f} (median).\n\n{table(head, rows)}"
    )


def in_words(counted: Mapping[str, int]) -> str:
    """How many of each verdict, most frequent first."""
    ordered = sorted(counted.items(), key=lambda item: -item[1])
    return ", ".join(f"{number} {kind}" for kind, number in ordered)


if __name__ == "__main__":
    files, shift, size = map(Path, sys.argv[1:3]), float(sys.argv[3]), sys.argv[4:]
    main(*files, shift, int(size[0]) if size else None)
