"""Steps about the model: its mathematics, its scores, its files, its errors."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from html.parser import HTMLParser

from pipelines.params import load_params
from pipelines.tour.copies import CommandError, Copies, Copy
from pipelines.tour.steps import NotHereError, require
from rtmo.deployment.build_engine import PACKAGES
from rtmo.store import Store

PARITY = "python -m pytest -q -p no:cacheprovider tests/parity/test_forward.py -k t-coco17"
EVALUATE = (
    "rtmo evaluate --json --annotations truth.json --detections reports/evaluate/detections.json"
)
PYCOCOTOOLS = (
    "from pycocotools.coco import COCO; from pycocotools.cocoeval import COCOeval; "
    "truth = COCO('truth.json'); "
    "e = COCOeval(truth, truth.loadRes('reports/evaluate/detections.json'), 'keypoints'); "
    "e.evaluate(); e.accumulate(); e.summarize(); print(e.stats.tolist())"
)
METRICS = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
"""In the order of pycocotools."""

BUILD = (
    "from pathlib import Path; from rtmo.deployment.build_engine import cached_engine; "
    "print(cached_engine(Path('models/export/rtmo-raw.onnx'), Path('engines'))[0])"
)
SURE = 0.3
"""Score above which people are counted: rtmlib takes more of the others for doubles."""
GET_RTMLIB = "python -m pip install -q --no-deps --target rtmlib-only rtmlib==0.0.16"
"""Into a folder of its own: with its dependencies it would bring a second OpenCV."""
RTMLIB = (
    "import cv2, sys; from rtmlib import RTMO; side = int(sys.argv[1]); "
    "model = RTMO('models/export/rtmo.onnx', (side, side), nms_thr=0.65, score_thr=0.3); "
    "points, scores = model(cv2.imread('photo.jpg')); print(len(points))"
)


def parity_tests_see_a_changed_constant(copies: Copies) -> str:
    """Compare with the published model's numbers; change one constant; compare again."""
    copy = copies.sources("parity")
    green = copy.run(PARITY)
    copy.run("sed -i 's/BOX_EXPANSION = 1.25/BOX_EXPANSION = 1.2/' rtmo/model/dcc.py")
    require("1.2\n" in copy.run("git diff rtmo/model/dcc.py"), "rtmo/model/dcc.py has changed")
    red = copy.refused(PARITY)
    require(" failed" in _last(red), f"the tests did not run: {_last(red)}")
    copy.run("git checkout -q rtmo")
    return f"{_last(green)}; with a box expansion of 1.2 instead of 1.25: {_last(red)}"


def evaluator_equals_pycocotools(copies: Copies) -> str:
    """Score the detections of `evaluate` with both."""
    finished = copies.finished
    store = _validation(finished)
    if (store.meta.protocol, store.skeleton.name) != ("coco", "coco17"):
        raise NotHereError(
            f"pycocotools has no rules for {store.meta.protocol}, {store.skeleton.name}"
        )
    if not json.loads((finished.paths.report("evaluate") / "detections.json").read_text()):
        raise NotHereError("this model finds nobody, and pycocotools does not read an empty list")
    (finished.folder / "truth.json").write_text(json.dumps(store.to_coco()))
    ours = json.loads(finished.run(EVALUATE))
    official = json.loads(_last(finished.run(f'python -c "{PYCOCOTOOLS}"')))
    differing = [name for name, value in zip(METRICS, official, strict=True) if ours[name] != value]
    require(not differing, f"ours {ours}, pycocotools {official}")
    return f"AP {ours['AP']:.6f} and nine more numbers, equal to the last digit"


def rtmlib_runs_our_file(copies: Copies) -> str:
    """Give rtmlib our ONNX file and a picture with people."""
    finished = copies.finished
    if importlib.util.find_spec("rtmlib") is None:
        try:
            finished.run(GET_RTMLIB)
        except CommandError as error:
            raise NotHereError(f"rtmlib is neither installed nor to be had: {error}") from None
    ours = _write_photo(finished)
    side = load_params(finished.folder).model.input_size
    command = f'PYTHONPATH=rtmlib-only python -c "{RTMLIB}" {side}'
    theirs = int(_last(finished.run(command)))
    require((theirs > 0) == (ours > 0), f"rtmlib finds {theirs} people, our predictor {ours}")
    counts = f"rtmlib finds {theirs} people with our file, our predictor {ours}"
    return f"above a score of {SURE}, {counts}; it pads right and below, we all around"


def engine_is_built(copies: Copies) -> str:
    """Build a TensorRT engine and try to run it."""
    if not any(importlib.util.find_spec(name) for name in PACKAGES):
        raise NotHereError(
            f"none of {', '.join(PACKAGES)} is installed: pip install 'rtmo[tensorrt]'"
        )
    finished = copies.finished
    _write_photo(finished)
    engine = _last(finished.run(f'python -c "{BUILD}"'))
    size_mb = (finished.folder / engine).stat().st_size / 1e6
    predict = f"rtmo predict photo.jpg --weights {engine}"
    if _has_gpu():
        return f"built ({size_mb:.0f} MB) and run: {_last(finished.run(predict))}"
    said = " ".join(finished.refused(predict).split())
    require("cannot load the engine here" in said, f"without a GPU it said: {said}")
    return f"built ({size_mb:.0f} MB); run unavailable: {said.removeprefix('error: ')[:200]}"


def error_report_opens(copies: Copies) -> str:
    """Read the page of `inspect` as a browser does: complete, and without asking a server."""
    report = copies.checkout.report("inspect") / "report.html"
    page = _Page()
    page.feed(report.read_text())
    page.close()
    require(not page.open_elements, f"never closed: {', '.join(page.open_elements)}")
    require(page.pictures, "it shows no picture")
    require(not page.outside, f"it asks for {', '.join(page.outside[:3])}")
    copies.typed.append("python -m webbrowser reports/inspect/report.html")
    size_mb = report.stat().st_size / 1e6
    return f"{size_mb:.1f} MB, {page.pictures} pictures inside, nothing from outside"


class _Page(HTMLParser):
    """Pictures and addresses of an HTML page, and elements that are never closed."""

    WATCHED = ("html", "head", "body", "svg", "table", "section", "style", "script")

    def __init__(self) -> None:
        super().__init__()
        self.pictures = 0
        self.outside: list[str] = []
        self.open_elements: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Count, and note addresses."""
        if tag in self.WATCHED:
            self.open_elements.append(tag)
        for name, value in attrs:
            if name not in ("src", "href") or value is None:
                continue
            if re.match(r"(https?:)?//", value) and tag != "a":
                self.outside.append(value)
            self.pictures += value.startswith("data:image/")

    def handle_endtag(self, tag: str) -> None:
        """Close what was opened last."""
        if tag in self.WATCHED and self.open_elements and self.open_elements[-1] == tag:
            self.open_elements.pop()


def _validation(copy: Copy) -> Store:
    return Store.open(copy.paths.processed(load_params(copy.folder).data.dataset) / "val")


def _write_photo(copy: Copy) -> int:
    """photo.jpg: a validation picture with people; how many we are sure of there."""
    found = json.loads((copy.paths.report("evaluate") / "detections.json").read_text())
    store = _validation(copy)
    numbers = store.image_ids.tolist()
    score_of = dict.fromkeys(numbers, 0.0)
    for one in found:
        score_of[one["image_id"]] += one["score"]
    index = numbers.index(max(numbers, key=lambda number: score_of[number]))
    (copy.folder / "photo.jpg").write_bytes(store.image_bytes(index).tobytes())
    said = copy.run("rtmo predict photo.jpg --weights models/export/rtmo.onnx --json")
    return sum(one["score"] > SURE for one in json.loads(said))


def _has_gpu() -> bool:
    return shutil.which("nvidia-smi") is not None


def _last(output: str) -> str:
    """The last line."""
    lines = output.strip().splitlines()
    return lines[-1].strip() if lines else ""
