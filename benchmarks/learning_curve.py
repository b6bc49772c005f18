"""Draw how a training went: validation AP and loss terms over the pictures seen.

python -m benchmarks.learning_curve [--curves FILE.csv] [--out FILE.png]
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

TERMS = ("cls", "bbox", "bbox_l1", "vis", "oks", "mle")


def main(
    curves: Annotated[Path, typer.Option()] = Path("models/train/curves.csv"),
    card: Annotated[Path, typer.Option()] = Path("models/train/model_card.json"),
    out: Annotated[Path, typer.Option()] = Path("docs/images/learning-curve.png"),
) -> None:
    """Two panels, one above the other, with the pictures seen as their common axis."""
    batch = json.loads(card.read_text())["train"]["global_batch"]
    with curves.open(newline="") as file:
        rows = [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]
    figure = Figure(figsize=(7, 5.5), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    for name in ("AP50", "AP", "AP75"):
        points = [(row["step"] * batch, row[name]) for row in rows if name in row]
        above.plot(*zip(*points, strict=True), marker="o", markersize=3, label=name)
    above.set_ylabel("validation")
    above.set_ylim(0)
    for name in TERMS:
        points = [(row["step"] * batch, row[name]) for row in rows if name in row]
        below.plot(*zip(*points, strict=True), label=name)
    below.set_ylabel("weighted loss term")
    below.set_xlabel("training pictures seen")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, ncols=3)
    figure.savefig(out, dpi=110)
    print(out)


if __name__ == "__main__":
    typer.run(main)
