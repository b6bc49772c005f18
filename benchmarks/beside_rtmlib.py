"""Weights in rtmlib and in our predictor: the same people, and how long each takes.

    python -m benchmarks.beside_rtmlib PICTURES --runs 60                # RTMO-s, random weights
    python -m benchmarks.beside_rtmlib PICTURES --weights models/train/weights.safetensors

rtmlib comes from PyPI into a folder of its own, without dependencies. It runs the graph that the
official deployment makes of the weights (`benchmarks.official_layout`), and our file; we run ours.
Every side has a process of its own, as in an application, with this interpreter's numpy, OpenCV,
ONNX Runtime and OpenVINO. Pictures are timed in turns, decoded picture in, people out, all in
float32 except INT8. With random weights about 20 people are found, by choice of the threshold.
For the comparison of people our predictor uses rtmlib's top-left letterbox; for the time it uses
its own, trimmed and square. Writes a raw log. rtmlib suppresses once more with boxes one pixel
larger; people it loses that way are counted apart.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import raw_log
from benchmarks.cpu_runtimes import threshold_for, write_files
from benchmarks.official_layout import write_official_layout
from benchmarks.raw_log import RawLog
from benchmarks.tables import table
from rtmo.deployment.framing import Framing
from rtmo.deployment.latency import SETTLE_S
from rtmo.deployment.metadata import Padding, input_size
from rtmo.deployment.openvino_runner import OpenVinoPredictor
from rtmo.deployment.pictures import find_pictures, read_picture
from rtmo.deployment.postprocess import box_iou
from rtmo.deployment.predictor import load_predictor
from rtmo.model import build_rtmo
from rtmo.model.config import Size
from rtmo.model.rtmo import RTMO
from rtmo.model.weights import load_model, read_metadata
from rtmo.structures import Poses

VERSION = "0.0.16"
SCORE_THRESHOLD, NMS_IOU = 0.1, 0.65
SAME_PERSON_PX = 0.5
"""A person of ours and one of rtmlib whose keypoints are on average no further apart are one."""
INPUT_SIZE = 640
"""Of random weights, pixels."""


@dataclass(frozen=True)
class Side:
    """Who runs which file."""

    library: Literal["rtmlib", "onnxruntime", "openvino"]
    """rtmlib itself, or what our predictor runs on."""
    file: Literal["official", "complete", "int8"]
    padding: Padding = "square"


RTMLIB, RTMLIB_OUR_FILE = "rtmlib", "rtmlib, our file"
SIDES: Mapping[str, Side] = {
    RTMLIB: Side("rtmlib", "official"),
    RTMLIB_OUR_FILE: Side("rtmlib", "complete"),
    "ours, square": Side("onnxruntime", "complete"),
    "ours, padding trimmed": Side("onnxruntime", "complete", "stride"),
    "ours, OpenVINO, padding trimmed": Side("openvino", "complete", "stride"),
    "ours, INT8, padding trimmed": Side("openvino", "int8", "stride"),
}

Picture = NDArray[np.uint8]
Answer = tuple[float, Any]
"""Milliseconds, and people in the side's own form."""
Ask = Callable[[Picture], Answer]


def install(folder: Path) -> str:
    """Put rtmlib into the folder; the answer is empty, or says why it cannot be had."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    done = subprocess.run(
        [*command, "--target", str(folder), f"rtmlib=={VERSION}"], capture_output=True, text=True
    )
    return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def answer_pictures(address: str, side: str, model: str, size: str, threshold: str) -> None:
    """A side's process: pictures come in, (milliseconds, people) go out, until the end."""
    with Client(address) as pipe:  # first, so that the other end sees it close on a failure
        predict = opened(SIDES[side], Path(model), int(size), float(threshold))
        while (picture := pipe.recv()) is not None:
            start = time.perf_counter()
            people = predict(picture)
            pipe.send((1000 * (time.perf_counter() - start), people))


def opened(side: Side, model: Path, size: int, threshold: float) -> Callable[[Picture], Any]:
    """What a side makes of a picture: `Poses`, or keypoints (N, K, 2), all zero for nobody."""
    if side.library == "rtmlib":
        from rtmlib import RTMO

        predict = RTMO(str(model), (size, size), nms_thr=NMS_IOU, score_thr=threshold)
        return lambda picture: predict(picture)[0]
    thresholds = {"score_threshold": threshold, "nms_iou": NMS_IOU}
    if side.library == "openvino":
        return OpenVinoPredictor(model, **thresholds, padding=side.padding)
    return load_predictor(model, "cpu", **thresholds, padding=side.padding)


@dataclass
class Agreement:
    """People of all pictures."""

    ours: int = 0
    theirs: int = 0
    matched: int = 0
    borderline: int = 0
    largest_px: float = 0.0

    def add(self, ours: Poses, theirs: NDArray[np.float32]) -> None:
        """Count one picture; rtmlib's keypoints as `rtmlib` gives them."""
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


def agreement_with(
    ask: Ask, model: Path, threshold: float, pictures: Sequence[Picture]
) -> Agreement:
    """Our people in rtmlib's top-left letterbox, held against rtmlib's."""
    corner = load_predictor(model, "cpu", score_threshold=threshold, nms_iou=NMS_IOU)
    corner.framing = replace(corner.framing, letterbox="top_left")
    agreement = Agreement()
    for picture in pictures:
        agreement.add(corner(picture), ask(picture)[1])
    return agreement


def times_of(
    sides: Mapping[str, Ask], pictures: Sequence[Picture], runs: int
) -> dict[str, list[float]]:
    """Milliseconds by side, in turns of random order.

    A side's first picture of a turn is not counted: others have taken the processor's caches, which
    in a stream are its own.
    """
    times: dict[str, list[float]] = {name: [] for name in sides}
    rng = np.random.default_rng(0)
    for run in range(runs):
        picture = pictures[run % len(pictures)]
        for name in rng.permutation([*sides]):
            time.sleep(SETTLE_S)
            sides[name](picture)
            times[name].append(sides[name](picture)[0])
    return times


def model_of(weights: Path | None, size: Size) -> tuple[RTMO, int]:
    """A model and the side of its input: of a weights file, or with random weights."""
    if weights is not None:
        return load_model(weights), input_size(read_metadata(weights), weights)
    torch.manual_seed(0)
    return build_rtmo(size), INPUT_SIZE


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
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--weights", type=Path, help="weights of ours; default: random ones")
    parser.add_argument("--size", default="s", help="of random weights")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--most", type=int, default=24, help="pictures at most")
    arguments = parser.parse_args()
    pictures = [read_picture(path) for path in find_pictures(arguments.pictures)]
    oblong = [image for image in pictures if 1.3 < image.shape[1] / image.shape[0] < 1.37]
    if not oblong:
        parser.error(f"{arguments.pictures} has no 4:3 pictures")
    chosen = oblong[: arguments.most]
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        if reason := install(folder / "rtmlib"):
            print(f"unavailable: rtmlib {VERSION} cannot be installed: {reason}")
            return
        model, size = model_of(arguments.weights, arguments.size)
        batches = [Framing(size).prepare([picture]).pixels for picture in chosen[:4]]
        files = write_files(model, size, batches, folder)
        threshold = SCORE_THRESHOLD
        if arguments.weights is None:  # it finds about 20 people at another threshold
            threshold = threshold_for(files["complete"], batches[0])
            files = write_files(model, size, batches, folder, threshold)
        files["official"] = folder / "official.onnx"
        thresholds = {"score_threshold": threshold, "nms_iou": NMS_IOU}
        write_official_layout(model, files["official"], size, **thresholds)
        sides = {
            name: running.enter_context(process_of(name, files[side.file], size, threshold, folder))
            for name, side in SIDES.items()
        }
        agreement = agreement_with(sides[RTMLIB_OUR_FILE], files["complete"], threshold, chosen)
        measurement = raw_log.begin("beside_rtmlib")
        samples = {"milliseconds": times_of(sides, chosen, arguments.runs)}
        facts = {"model": f"RTMO-{model.size}", "side": size, "score_threshold": threshold}
        settings = {**facts, "pictures": len(chosen), "rtmlib": VERSION}
        log = measurement.end({**samples, "people": asdict(agreement)}, settings)
    print(table_of(log))


@contextmanager
def process_of(side: str, model: Path, size: int, threshold: float, folder: Path) -> Iterator[Ask]:
    """A process for one side, where rtmlib in `folder` can be imported; what asks it."""
    program = (
        "import sys; from benchmarks.beside_rtmlib import answer_pictures as answer; "
        "answer(*sys.argv[1:])"
    )
    with Listener(family="AF_UNIX") as listener:
        arguments = (listener.address, side, model, size, threshold)
        process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": f"{folder / 'rtmlib'}{os.pathsep}."},
            stdout=subprocess.DEVNULL,
        )
        with listener.accept() as pipe:

            def ask(picture: Picture) -> Answer:
                pipe.send(picture)
                answer: Answer = pipe.recv()
                return answer

            yield ask
            pipe.send(None)
    process.wait(timeout=30)


if __name__ == "__main__":
    main()
