"""How much AP on the gate split differs between trainings of one recipe with other seeds.

    dvc exp run -S train.seed=1
    dvc exp run -S train.seed=2
    python -m benchmarks.seed_deviation

Inside an experiment `register` moves no alias, but the training's run gets its AP on the gate
split. Runs of one recipe have the same data and settings but for the seed; of two with the same
seed the newer one counts. The last line is for params.yaml. Few seeds say little: the interval is
that of a normal distribution's deviation.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict

from mlflow.entities import Run
from scipy.stats import chi2

from pipelines.paths import checkout
from pipelines.tracking.store import open_tracking

SETTINGS = ("model.", "train.", "augment.", "data.")
SEED = "train.seed"
GATE_AP = "gate.AP"
CONFIDENCE = 0.95
Recipe = tuple[tuple[str, str], ...]


def main() -> None:
    """Print one paragraph per recipe that was trained with several seeds."""
    tracking = open_tracking(checkout())
    finished = tracking.client.search_runs(
        [tracking.experiment_id],
        filter_string=f"attributes.status = 'FINISHED' AND metrics.`{GATE_AP}` >= 0",
        order_by=["attributes.start_time DESC"],
    )
    by_recipe: dict[Recipe, dict[str, float]] = defaultdict(dict)
    for run in finished:
        by_seed = by_recipe[recipe_of(run)]
        by_seed.setdefault(run.data.params[SEED], run.data.metrics[GATE_AP])
    measured = [by_seed for by_seed in by_recipe.values() if len(by_seed) > 1]
    if not measured:
        print("no recipe was trained with more than one seed; see the head of this file")
    for by_seed in measured:
        print("\n".join(summary(by_seed)))


def recipe_of(run: Run) -> Recipe:
    """What two trainings share that differ in their seed only."""
    settings = {
        name: value
        for name, value in run.data.params.items()
        if name.startswith(SETTINGS) and name != SEED
    }
    return tuple(sorted({**settings, "data": run.data.tags.get("data_digest", "")}.items()))


def summary(by_seed: dict[str, float]) -> list[str]:
    """Lines about one recipe: seed -> AP.

    Example:
        >>> for line in summary({"0": 0.27, "1": 0.28, "2": 0.275}): print(line)
        seed 0: AP 0.2700, seed 1: AP 0.2800, seed 2: AP 0.2750
        mean 0.2750, deviation 0.0050 (95 %: 0.0026 to 0.0314; 3 seeds)
        register.seed_std: 0.0050
    """
    values = list(by_seed.values())
    deviation = statistics.stdev(values)
    freedom = len(values) - 1
    low, high = (
        deviation * math.sqrt(freedom / chi2.ppf(share, freedom))
        for share in ((1 + CONFIDENCE) / 2, (1 - CONFIDENCE) / 2)
    )
    return [
        ", ".join(f"seed {seed}: AP {value:.4f}" for seed, value in sorted(by_seed.items())),
        f"mean {statistics.fmean(values):.4f}, deviation {deviation:.4f} "
        f"({CONFIDENCE:.0%}: {low:.4f} to {high:.4f}; {len(values)} seeds)".replace("%:", " %:"),
        f"register.seed_std: {deviation:.4f}",
    ]


if __name__ == "__main__":
    main()
