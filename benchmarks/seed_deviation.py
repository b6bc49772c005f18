"""How much AP on the gate split differs between trainings of one recipe with other seeds.

    dvc exp run -S train.seed=1
    dvc exp run -S train.seed=2
    python -m benchmarks.seed_deviation

Inside an experiment `register` moves no alias, and the version keeps seed and AP. Versions of one
recipe have the same data, gate split and settings but for the seed. The last line is for
params.yaml; with three seeds the deviation is known to about half of itself, with ten to a quarter.
"""

from __future__ import annotations

import statistics
from collections import defaultdict

from pipelines.params import load_params
from pipelines.paths import checkout
from pipelines.tracking.store import Tracking, open_tracking
from pipelines.tracking.versions import Version, all_versions

SETTINGS = ("model.", "train.", "augment.", "losses.", "data.")
SEED = "train.seed"
Recipe = tuple[tuple[str, str], ...]


def main() -> None:
    """Print one paragraph per recipe that was trained with several seeds."""
    paths = checkout()
    tracking = open_tracking(paths)
    by_recipe: dict[Recipe, dict[str, float]] = defaultdict(dict)
    for version in all_versions(tracking, load_params(paths.root).registration.name):
        if "gate.AP" in version.tags:
            ap = float(version.tags["gate.AP"])
            by_recipe[recipe_of(tracking, version)][version.tags["seed"]] = ap
    measured = [by_seed for by_seed in by_recipe.values() if len(by_seed) > 1]
    if not measured:
        print("no recipe was trained with more than one seed; see the head of this file")
    for by_seed in measured:
        print("\n".join(summary(by_seed)))


def recipe_of(tracking: Tracking, version: Version) -> Recipe:
    """What two trainings share that differ in their seed only."""
    params = tracking.client.get_run(version.run_id).data.params
    settings = {
        name: value for name, value in params.items() if name.startswith(SETTINGS) and name != SEED
    }
    data = {name: version.tags.get(name, "") for name in ("data_digest", "gate.data")}
    return tuple(sorted({**settings, **data}.items()))


def summary(by_seed: dict[str, float]) -> list[str]:
    """Lines about one recipe: seed -> AP.

    Example:
        >>> summary({"0": 0.27, "1": 0.28, "2": 0.275})[1:]
        ['mean 0.2750, deviation 0.0050 (3 seeds)', 'register.seed_std: 0.0050']
    """
    values = list(by_seed.values())
    deviation = statistics.stdev(values)
    return [
        ", ".join(f"seed {seed}: AP {value:.4f}" for seed, value in sorted(by_seed.items())),
        f"mean {statistics.fmean(values):.4f}, deviation {deviation:.4f} ({len(values)} seeds)",
        f"register.seed_std: {deviation:.4f}",
    ]


if __name__ == "__main__":
    main()
