"""A published model by its name: fetched, converted once, run in the way that is fastest here.

Where torch and its ONNX exporter are installed, the weights are exported once into the cache; ONNX
Runtime and OpenVINO are held against torch, all are timed in turns, and the fastest is remembered
for this host. Where torch is not installed, the published ONNX file takes the exported one's place.
A GPU is used without such a choice.

All ways compute in float32. bf16 and INT8 change what is found, and there is no annotated data here
that could say by how much.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rtmo.deployment.cache import cache_folder
from rtmo.deployment.check import Check
from rtmo.deployment.config import Budgets
from rtmo.deployment.fastest import Choice, Host, choose_fastest, recall, remember, this_host
from rtmo.deployment.latency import hardware
from rtmo.deployment.parity import compare_people
from rtmo.deployment.published_files import PublishedModel, Wanted, Way, has
from rtmo.deployment.runners import Device, Predictor, UnavailableError
from rtmo.synthetic import SyntheticConfig, generate

DRAWN = SyntheticConfig(num_images={"check": 4}, width=640, height=480)
"""Pictures of drawn people to compare and time on; there are no others at a first use."""
PEOPLE = 20
"""Compared, in all those pictures: the score threshold is set so that as many are found."""
LOWEST_SCORE = 0.01
"""Score above which candidates for those people are looked at."""
GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
"""Drivers of NVIDIA, AMD and Windows' subsystem for Linux."""

Pictures = list[NDArray[Any]]

logger = logging.getLogger(__name__)


def open_published(name: str, device: Device, wanted: Wanted) -> Predictor:
    """The predictor of a published model, in the way that is fastest on this host.

    Raises:
        ValueError: if there is no published model of that name, or padding cannot be trimmed.
        UnavailableError: if this host cannot run it.
        FetchError: if it cannot be had; TransferError if the network fails.
    """
    model = PublishedModel(name)
    if device == "tensorrt":
        return model.in_onnx_runtime(wanted, device)
    if device == "cuda" or (device == "auto" and _may_have_gpu()):
        on_gpu = model.in_torch if has("torch") else model.in_onnx_runtime
        return on_gpu(wanted, device)
    host = this_host(wanted.threads)
    memory = cache_folder() / "fastest" / f"{model.stem}-{wanted.padding}-{host.digest}.json"
    known = recall(memory, host)
    if known is not None:
        predictor = _first(known, model.ways(wanted.padding), wanted)
        if predictor is not None:
            return predictor
    started = time.monotonic()
    model.convert()
    ways = model.ways(wanted.padding)
    choice = _choose(ways, wanted, host)
    remember(choice, memory)
    predictor = _first(choice, ways, wanted)
    if predictor is None:
        raise UnavailableError(f"no way of running {name} opens with {wanted}")
    # A warning, so that it is seen where no logging is set up: it happens once and takes a while.
    logger.warning(
        "%s is ready after %.0f s: %s; this machine will use %s",
        name,
        time.monotonic() - started,
        choice.in_words(),
        choice.usable[0],
    )
    return predictor


def _first(choice: Choice, ways: Mapping[str, Way], wanted: Wanted) -> Predictor | None:
    """The fastest that still opens, with these thresholds; None if none does."""
    for name in choice.usable:
        if name not in ways:
            continue
        try:
            return ways[name](wanted)
        except (FileNotFoundError, UnavailableError, ValueError) as error:
            logger.warning("%s is not used: %s", name, error)
    return None


def _choose(ways: Mapping[str, Way], wanted: Wanted, host: Host) -> Choice:
    """Hold every way against the first one on drawn pictures, and time them.

    Raises:
        ValueError, UnavailableError: if the first one, of all, cannot be opened.
    """
    pictures = [_decoded(image.jpeg) for image in generate(DRAWN, "check")]
    checked = replace(wanted, score_threshold=_threshold(ways, wanted, pictures))
    reference = next(iter(ways.values()))(checked)
    batches = [reference.framing.prepare([picture]).pixels for picture in pictures]
    expected = [reference.infer(pixels)[0] for pixels in batches]

    def problem_of(predictor: Predictor) -> str:
        found = [predictor.infer(pixels)[0] for pixels in batches]
        report = compare_people(zip(expected, found, strict=True))
        check = Check(parity=report, ap_torch=-1, ap_exported=-1, ar_torch=-1, ar_exported=-1)
        return "; ".join(check.over_budget(Budgets().fp32))

    openers = {name: partial(way, checked) for name, way in ways.items()}
    return choose_fastest(openers, problem_of, pictures, host)


def _threshold(ways: Mapping[str, Way], wanted: Wanted, pictures: Pictures) -> float:
    """Score above which about `PEOPLE` are found in the pictures.

    Torch is not asked where another way is there: with a low threshold it keeps thousands.
    """
    names = [name for name in ways if name != "torch"] or ["torch"]
    everyone = ways[names[0]](replace(wanted, score_threshold=LOWEST_SCORE))
    scores = np.concatenate([everyone(picture).scores for picture in pictures])
    best = np.sort(scores)[::-1][PEOPLE - 1 : PEOPLE + 1]
    return float(best.mean()) if len(best) == 2 else LOWEST_SCORE  # between two people, on neither


def _decoded(jpeg: bytes) -> NDArray[Any]:
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None  # we have just encoded it
    return picture


def _may_have_gpu() -> bool:
    """Whether torch should be asked, which takes seconds; a container may lack nvidia-smi."""
    return bool(hardware().gpu) or any(Path(device).exists() for device in GPU_DEVICES)
