"""Fine-tuning against training from scratch, on the same photographs, for the same time.

    python -m benchmarks.fine_tuning WEIGHTS ../shared/real/coco-sample --epochs 20

Two `rtmo train` run at once with one thread each, one from the weights and one from nothing; the
recipe is that of params.yaml but for the number of epochs. Both take the same steps on the same
pictures, so equal epochs are equal time. Also draws docs/images/fine-tuning.png.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from matplotlib.figure import Figure
from ruamel.yaml import YAML

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table

PICTURE = Path("docs/images/fine-tuning.png")
TRAIN = (sys.executable, "-c", "from rtmo.cli import main; main()", "train")
SPLITS = {"": "train2017", "val-": "val2017"}


def write_recipe(path: Path, epochs: int) -> None:
    """params.yaml's model, augmentation and training, shortened or lengthened, on one thread."""
    params = YAML(typ="safe").load(Path("params.yaml"))
    train = params["train"]
    for phase in train["phases"]:
        phase["first_epoch"] = phase["first_epoch"] * epochs // train["epochs"]
    last = {"first_epoch": 1, "period_epochs": epochs - 1, "last_epoch": epochs}
    train["optimizer"]["cosines"] = [{**last, "restart_factor": 1.0}]
    train |= {"epochs": epochs, "cpu_threads": 1, "validate_every_epochs": max(1, epochs // 10)}
    YAML().dump({name: params[name] for name in ("model", "augment", "train")}, path)


def start(recipe: Path, data: Path, out: Path, *start_from: str) -> subprocess.Popen[bytes]:
    """One training, on its way."""
    labels = [
        str(option)
        for prefix, split in SPLITS.items()
        for option in (
            f"--{prefix}annotations",
            data / f"annotations/person_keypoints_{split}.json",
            f"--{prefix}images",
            data / split,
        )
    ]
    return subprocess.Popen(
        [*TRAIN, "--recipe", str(recipe), *labels, "--out", str(out), *start_from]
    )


def curve(folder: Path) -> list[dict[str, float]]:
    """The validated epochs of a finished training."""
    with (folder / "curves.csv").open(newline="") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return [{name: row[name] for name in ("epoch", "AP", "AP50")} for row in rows if "AP" in row]


def table_of(log: RawLog) -> str:
    """AP by epoch, both trainings side by side."""
    scratch, tuned = log.samples["from scratch"], log.samples["fine-tuned"]
    rows = [
        (f"{a['epoch']:.0f}", *(f"{row[name]:.4f}" for name in ("AP", "AP50") for row in (a, b)))
        for a, b in zip(scratch, tuned, strict=True)
    ]
    head = ("epoch", "AP scratch", "AP fine-tuned", "AP50 scratch", "AP50 fine-tuned")
    minutes = log.settings["seconds"] / 60
    return f"{table(head, rows)}\n\nBoth at once, one thread each: {minutes:.1f} minutes."


def draw(log: RawLog) -> None:
    """The table as curves."""
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, rows in log.samples.items():
        epochs = [row["epoch"] for row in rows]
        axes.plot(epochs, [row["AP50"] for row in rows], marker="o", markersize=3, label=name)
    axes.set_xlabel("epochs (equal time)")
    axes.set_ylabel("AP50 on 160 validation photographs")
    axes.set_ylim(0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, dpi=110)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    measurement = raw_log.begin("fine_tuning", ("lightning",))
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        write_recipe(recipe, arguments.epochs)
        outs = {name: Path(folder) / name for name in ("from scratch", "fine-tuned")}
        begun = time.monotonic()
        running = [
            start(recipe, arguments.data, outs["from scratch"]),
            start(recipe, arguments.data, outs["fine-tuned"], "--weights", str(arguments.weights)),
        ]
        if any(process.wait() for process in running):
            sys.exit("a training failed; see above")
        seconds = time.monotonic() - begun
        log = measurement.end(
            samples={name: curve(out) for name, out in outs.items()},
            settings={"seconds": seconds, "epochs": arguments.epochs},
        )
    draw(log)
    print(table_of(log))


if __name__ == "__main__":
    main()
