"""Time a no-op `dvc status` with a dataset of COCO's size in place, in a throw-away clone.

    python -m benchmarks.dvc_status_scale FOLDER

First as this project lays data out: three archives and three stores of columns and shards, in the
place of the outputs of `download` and `convert`. Then as one file per picture, for comparison. The
number of files is COCO's; they are small, because DVC compares size, inode and time of a file that
it has hashed once, and does not read it again. FOLDER must not exist; it stays, to look at.
Writes a raw log.
"""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import spread
from rtmo.store import COLUMNS

PICTURES = {"train": 100_544, "val": 5_000, "gate": 17_743}
"""118,287 training pictures, 15 % of them the gate, and 5,000 of val2017."""
SHARDS = {"train": 16, "val": 1, "gate": 3}
"""Files of 1 GiB for 19.3 GB of pictures and more."""
ARCHIVES = ("train2017.zip", "val2017.zip", "annotations_trainval2017.zip")
REPEATS = 5
DVC = [sys.executable, "-m", "dvc"]


def main(clone: Path) -> None:
    """Time both layouts; print the table."""
    measurement = raw_log.begin("dvc_status_scale", ("dvc",))
    seconds: dict[str, list[float]] = {}
    root = Path(__file__).resolve().parents[1]
    run(["git", "clone", "-q", str(root), str(clone)], root)
    params = (clone / "params.yaml").read_text()
    (clone / "params.yaml").write_text(params.replace("dataset: embedded", "dataset: coco"))

    raw, processed = clone / "data/raw/coco", clone / "data/processed/coco"
    for name in (*ARCHIVES, "download.json"):
        fill(raw / name)
    fill(processed / "report.json")
    fill(processed / "merged/sets.json")
    for split, shards in SHARDS.items():
        for column in COLUMNS:
            fill(processed / split / f"{column}.npy")
        for number in range(shards):
            fill(processed / split / f"images-{number:05d}.bin")
        fill(processed / split / "meta.json")
    small = len([path for path in (clone / "data").rglob("*") if path.is_file()])
    name = f"archives and stores, {small} files"
    seconds[f"{name}: first hash"] = [timed(["commit", "-f", "download", "convert"], clone)]
    seconds[f"{name}: dvc status"] = status(["download", "convert"], clone)

    for split, count in PICTURES.items():
        for number in range(count):
            fill(clone / "pictures" / split / f"{number:012d}.jpg")
    name = f"one file per picture, {sum(PICTURES.values()):,} files"
    seconds[f"{name}: first hash"] = [timed(["add", "pictures"], clone)]
    seconds[f"{name}: dvc status"] = status(["pictures.dvc"], clone)
    print(table_of(measurement.end(seconds)))


def table_of(log: RawLog) -> str:
    """Seconds of each command."""
    return spread(log.samples, "s")


def fill(path: Path) -> None:
    """A small file with a content of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(path))


def status(targets: list[str], folder: Path) -> list[float]:
    """Seconds of each of a few runs, which must find nothing to do."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        said = run([*DVC, "status", *targets], folder)
        times.append(time.perf_counter() - start)
        if "up to date" not in said:
            raise SystemExit(said)
    return times


def timed(arguments: list[str], folder: Path) -> float:
    """Seconds of one DVC command."""
    start = time.perf_counter()
    run([*DVC, *arguments], folder)
    return time.perf_counter() - start


def run(command: list[str], folder: Path) -> str:
    """What the command printed; fails with it."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


if __name__ == "__main__":
    main(Path(sys.argv[1]))
