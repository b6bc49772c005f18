"""One exported file in rtmlib and in our predictor: the same people, and how long each takes.

    python -m benchmarks.beside_rtmlib models/export/rtmo.onnx PICTURES --runs 60 \
        --int8 models/export/variants/rtmo-int8-cpu.onnx

rtmlib comes from PyPI into a folder of its own, without dependencies, and runs in a process of its
own with this interpreter's numpy, OpenCV and ONNX Runtime, so that both sides have the same ones.
Pictures are timed in turns, decoded picture in, people out, all in FP32 except the INT8 file of the
same weights, where one is given, which OpenVINO runs. For the comparison of people our
predictor uses rtmlib's top-left letterbox; for the time it uses its own, trimmed and square.
Writes a raw log.
rtmlib suppresses once more with boxes one pixel larger; people it loses that way are counted apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks import raw_log
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.deployment.latency import SETTLE_S
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.pictures import find_pictures, read_picture
from rtmo.deployment.postprocess import box_iou
from rtmo.deployment.predictor import load_predictor
from rtmo.structures import Poses

VERSION = "0.0.16"
SCORE_THRESHOLD, NMS_IOU = 0.1, 0.65
SAME_PERSON_PX = 0.5
"""A person of ours and one of rtmlib whose keypoints are on average no further apart are one."""

Picture = NDArray[np.uint8]


def install(folder: Path) -> str:
    """Put rtmlib into the folder; the answer is empty, or says why it cannot be had."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--target", str(folder), f"rtmlib=={VERSION}"], capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def answer_pictures(address: str, model: str, input_size: int) -> None:
    """The other process: pictures come in, (milliseconds, keypoints) go out, until the end."""
    with Client(address) as pipe:  # first, so that the other side sees it close on a failure
        from rtmlib import RTMO

        predict = RTMO(model, (input_size, input_size), nms_thr=NMS_IOU, score_thr=SCORE_THRESHOLD)
        while (picture := pipe.recv()) is not None:
            start = time.perf_counter()
            keypoints, _scores = predict(picture)
            pipe.send((1000 * (time.perf_counter() - start), keypoints))


@dataclass
class Agreement:
    """People of all pictures."""

    ours: int = 0
    theirs: int = 0
    matched: int = 0
    borderline: int = 0
    largest_px: float = 0.0

    def add(self, ours: Poses, theirs: NDArray[np.float32]) -> None:
        """Count one picture; rtmlib's (N, K, 2) keypoints, all zero for nobody."""
        theirs = theirs[theirs.any(axis=(1, 2))]
        self.ours += len(ours)
        self.theirs += len(theirs)
        one_larger = ours.boxes_xyxy + np.float32([0, 0, 1, 1])
        overlaps = np.triu(box_iou(one_larger, one_larger), 1)
        for row, points in enumerate(ours.keypoints_xy):
            distances = np.linalg.norm(theirs - points, axis=-1)  # (N, K)
            if len(theirs) and distances.mean(axis=1).min() <= SAME_PERSON_PX:
                self.matched += 1
                self.largest_px = max(self.largest_px, float(distances.max(axis=1).min()))
            elif overlaps[:, row].max(initial=0) > NMS_IOU:
                self.borderline += 1


def compare(
    model: Path, int8: Path | None, pictures: Sequence[Picture], runs: int, ask: Callable
) -> RawLog:
    """Run both sides in turns."""
    measurement = raw_log.begin("beside_rtmlib")
    load = {"score_threshold": SCORE_THRESHOLD, "nms_iou": NMS_IOU}
    sides = {
        "ours, padding trimmed": load_predictor(model, "cpu", **load, padding="stride"),
        "ours, square": load_predictor(model, "cpu", **load),
    }
    if int8 is not None:
        sides["ours, INT8, padding trimmed"] = OpenVinoPredictor(int8, **load, padding="stride")
    corner = load_predictor(model, "cpu", **load)
    corner.framing = replace(corner.framing, letterbox="top_left")
    agreement = Agreement()
    for picture in pictures:
        agreement.add(corner(picture), ask(picture)[1])
    names = ["rtmlib", *sides]
    times: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs):
        picture = pictures[run % len(pictures)]
        first = run % len(names)
        for name in names[first:] + names[:first]:
            time.sleep(SETTLE_S)
            if name == "rtmlib":
                times[name].append(ask(picture)[0])
            else:
                start = time.perf_counter()
                sides[name](picture)
                times[name].append(1000 * (time.perf_counter() - start))
    samples = {"milliseconds": times, "people": asdict(agreement)}
    settings = {"model": model.name, "pictures": len(pictures), "rtmlib": VERSION}
    return measurement.end(samples, settings)


def table_of(log: RawLog) -> str:
    """Times with their ratios to rtmlib's, and whether the people are the same."""
    times, facts = log.samples["milliseconds"], log.settings
    base = np.array(times["rtmlib"])
    rows = []
    for name, values in times.items():
        low, middle, high = np.quantile(np.array(values) / base, (0.25, 0.5, 0.75))
        rows.append((name, f"{np.median(values):.1f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}"))
    head = ["", "median ms", "ratio to rtmlib (median of pairs)", "middle half of pairs"]
    people = Agreement(**log.samples["people"])
    return (
        f"`{facts['model']}`, {facts['pictures']} pictures, {len(base)} runs of each in turns; "
        f"rtmlib {facts['rtmlib']}.\n\n{table(head, rows)}\n\n"
        f"People: {people.ours} ours, {people.theirs} rtmlib's, {people.matched} the same (largest "
        f"keypoint distance {people.largest_px:.4f} px of the picture), {people.borderline} lost "
        "only to rtmlib's boxes of one pixel more."
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--int8", type=Path, help="INT8 file for OpenVINO of the same weights")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--most", type=int, default=24, help="pictures at most")
    arguments = parser.parse_args()
    pictures = [read_picture(path) for path in find_pictures(arguments.pictures)]
    oblong = [image for image in pictures if 1.3 < max(image.shape) / min(image.shape[:2]) < 1.37]
    if not oblong:
        parser.error(f"{arguments.pictures} has no 4:3 pictures")
    with tempfile.TemporaryDirectory() as folder:
        if reason := install(Path(folder) / "rtmlib"):
            print(f"unavailable: rtmlib {VERSION} cannot be installed: {reason}")
            return
        with Listener(str(Path(folder) / "socket")) as listener:
            size = load_predictor(arguments.model, "cpu").framing.input_size
            program = (
                "import sys; from benchmarks.beside_rtmlib import answer_pictures as answer; "
                "answer(sys.argv[1], sys.argv[2], int(sys.argv[3]))"
            )
            other = subprocess.Popen(
                [sys.executable, "-c", program, listener.address, str(arguments.model), str(size)],
                env={**os.environ, "PYTHONPATH": f"{Path(folder) / 'rtmlib'}{os.pathsep}."},
                stdout=subprocess.DEVNULL,
            )
            with listener.accept() as pipe:
                chosen = oblong[: arguments.most]
                log = compare(arguments.model, arguments.int8, chosen, arguments.runs, _ask(pipe))
                print(table_of(log))
                pipe.send(None)
            other.wait(timeout=30)


def _ask(pipe: Connection) -> Callable[[Picture], tuple[float, NDArray[np.float32]]]:
    def ask(picture: Picture) -> tuple[float, NDArray[np.float32]]:
        pipe.send(picture)
        answer: tuple[float, NDArray[np.float32]] = pipe.recv()
        return answer

    return ask


if __name__ == "__main__":
    main()
