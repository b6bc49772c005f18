"""`rtmo`: the model from the command line, without any service."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.table import Table
from rich.text import Text

from rtmo.evaluation.config import Evaluator

if TYPE_CHECKING:
    from rtmo.deployment.check import Reference
    from rtmo.deployment.latency import LatencyReport
    from rtmo.deployment.media import DrawnVideo
    from rtmo.deployment.metadata import Form
    from rtmo.deployment.runners import Predictor
    from rtmo.skeleton import Skeleton
    from rtmo.structures import Poses
    from rtmo.tracker import PeopleTracker

app = typer.Typer(
    help="Real-time multi-person pose: predict, evaluate, export, bench.",
    epilog="Exit status: 0 done, 2 wrong usage or input that cannot be used.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Device = Literal["auto", "cpu", "cuda"]
Padding = Annotated[
    Literal["square", "stride"],
    typer.Option(help="Pad to the whole input square, or faster: only to the next 32 pixels."),
]
Model = Annotated[
    Path,
    typer.Option(
        "--weights",
        help="Model file (.safetensors .pth .onnx .xml), or a published model: rtmo-s-body7",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.command(epilog="Example: rtmo predict photo.jpg --weights rtmo-s-body7 --out drawn/")
def predict(  # noqa: PLR0913 - one argument per option
    source: Annotated[
        str, typer.Argument(help="Picture, folder, video, camera number, or stream address.")
    ],
    weights: Model,
    out: Annotated[
        Path | None, typer.Option(help="Folder for drawn pictures or video, and poses.json.")
    ] = None,
    as_json: AsJson = False,
    device: Annotated[Device, typer.Option(help="Where to run.")] = "auto",
    score_threshold: Annotated[float, typer.Option(help="People score above this.")] = 0.1,
    nms_iou: Annotated[float, typer.Option(help="Box overlap at which two are one.")] = 0.65,
    padding: Padding = "square",
    track: Annotated[
        bool, typer.Option("--track", help="Give people of a video ids that stay theirs.")
    ] = False,
) -> None:
    """Find the people of pictures; coordinates are pixels of the picture as it is shown.

    Results are a COCO list; `image_id` is the number of the picture or video frame, from 1. With
    --track they have a `track_id`, null for who is too doubtful to begin a track.
    Ctrl-C ends after the present frame, with complete files.
    """
    from rtmo.deployment.media import ResultList, open_media, without_password
    from rtmo.deployment.predictor import load_predictor
    from rtmo.evaluation.predict import coco_results

    if out is not None:
        _make_output_folder(out, Path(source))
    predictor = load_predictor(weights, device, score_threshold, nms_iou, padding=padding)
    media = open_media(source)
    tracker = _tracker(media.video_fps, source) if track else None
    frames = num_people = 0
    with ExitStack() as stack:
        lists = [ResultList(file) for file in _result_files(stack, out, as_json)]
        for results in lists:
            stack.callback(results.finish)
        drawings = stack.enter_context(_Drawings(out, media.video_fps, predictor.skeleton))
        advance = stack.enter_context(_frame_progress(media.count))
        is_stopped = stack.enter_context(_until_interrupted())
        for frames, (name, image) in enumerate(media.frames, start=1):
            poses = predictor(image)
            people = [person | {"file_name": name} for person in coco_results(frames, poses)]
            ids = None if tracker is None else tracker.update(poses)
            for person, track_id in zip(people, ids or (), strict=ids is not None):
                person["track_id"] = track_id
            num_people += len(people)
            for results in lists:
                results.add(people)
            drawings.add(name, image, poses, ids)
            advance()
            if not as_json and media.video_fps is None:
                print(f"{name}: {len(poses)} {'person' if len(poses) == 1 else 'people'}")
            if is_stopped():
                print(
                    f"stopped after {frames} frames; what is written is complete", file=sys.stderr
                )
                break
    if not as_json and media.video_fps is not None:
        print(f"{without_password(source)}: {frames} frames, {num_people} people in all")


def _tracker(video_fps: float | None, source: str) -> PeopleTracker:
    """What gives ids to the people of a video.

    Raises:
        ValueError: if the source is not a video.
        TrackerMissingError: if the tracker library is not installed.
    """
    from rtmo.tracker import PeopleTracker

    if video_fps is None:
        raise ValueError(f"--track needs a video, camera or stream; {source} has separate pictures")
    return PeopleTracker(video_fps)


class _Drawings:
    """Drawn pictures in a folder, or one drawn video; nothing without a folder."""

    def __init__(self, out: Path | None, video_fps: float | None, skeleton: Skeleton) -> None:
        self._out = out
        self._fps = video_fps
        self._skeleton = skeleton
        self._video: DrawnVideo | None = None
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def add(
        self,
        name: str,
        image: Any,  # noqa: ANN401
        poses: Poses,
        track_ids: Sequence[int | None] | None,
    ) -> None:
        """Draw a picture and write it."""
        from rtmo.deployment.media import DrawnVideo
        from rtmo.drawing import draw_poses

        if self._out is None:
            return
        if self._fps is None:
            _write_drawing(self._out / name, image, poses, self._skeleton)
            return
        if self._video is None:
            self._video = self._files.enter_context(DrawnVideo(self._out / name, self._fps))
        self._video.write(draw_poses(image, poses, self._skeleton, track_ids))


@app.command(epilog="Example: rtmo evaluate --detections found.json --annotations truth.json")
def evaluate(
    detections: Annotated[Path, typer.Option(help="COCO result list (JSON).")],
    annotations: Annotated[Path, typer.Option(help="COCO or CrowdPose annotation file (JSON).")],
    protocol: Annotated[
        Literal["coco", "crowdpose"] | None,
        typer.Option(help="Whose rules; by default CrowdPose's if its images have crowdIndex."),
    ] = None,
    skeleton: Annotated[
        Path | None, typer.Option(help="Skeleton (JSON) of keypoints other than COCO's.")
    ] = None,
    evaluator: Annotated[
        Evaluator, typer.Option(help="Library that counts; both give the same numbers.")
    ] = "faster-coco-eval",
    as_json: AsJson = False,
) -> None:
    """Score any COCO-format keypoint result file."""
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints

    truth = _read_truth(annotations)
    found = _read_json(detections)
    if not isinstance(found, list):
        raise typer.BadParameter(f"{detections} is no COCO result list: expected a JSON list")
    report = evaluate_keypoints(
        truth,
        found,
        skeleton=_skeleton_of(truth, skeleton, annotations),
        protocol=protocol or _protocol_of(truth),
        evaluator=evaluator,
    )
    if as_json:
        print(json.dumps(report.metrics))
        return
    print(f"{report.protocol} protocol, {report.num_images} images, {report.num_people} people")
    for name, value in report.metrics.items():
        print(f"{name:>10}  {value:.4f}")


@app.command(
    "verify-weights",
    epilog="Example: rtmo verify-weights rtmo-s-coco --annotations val2017.json --images val2017/",
)
def verify_weights(
    weights: Annotated[str, typer.Argument(help="A published model's name, or a model file.")],
    annotations: Annotated[Path, typer.Option(help="person_keypoints_val2017.json, or its like.")],
    images: Annotated[Path, typer.Option(help="Folder of the pictures that the file lists.")],
    limit: Annotated[int | None, typer.Option(min=1, help="First pictures only.")] = None,
    device: Annotated[Device, typer.Option(help="Where to run.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Measure a model on your own copy of a dataset, beside the figure its authors published.

    Score threshold 0.1, NMS at 0.65 and the published input size, as the published figures.
    """
    from rtmo.deployment.official_files import OFFICIAL_FILES
    from rtmo.deployment.predictor import load_predictor
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints
    from rtmo.evaluation.predict import predict_files

    truth = _read_truth(annotations)
    listed = truth["images"][:limit]
    chosen = {image["id"] for image in listed}
    truth = {
        **truth,
        "images": listed,
        "annotations": [a for a in truth["annotations"] if a["image_id"] in chosen],
    }
    predictor = load_predictor(weights, device)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("predict", total=len(listed))
        found = predict_files(
            predictor, listed, images, lambda done, _all: progress.update(task, completed=done)
        )
    report = evaluate_keypoints(
        truth, found, skeleton=predictor.skeleton, protocol=_protocol_of(truth)
    )
    official = OFFICIAL_FILES.get(weights)
    published = {} if official is None else official.published
    if as_json:
        print(json.dumps({"measured": report.metrics, "published": dict(published)}))
        return
    table = Table("", "measured", "published", "difference")
    for name, value in report.metrics.items():
        figure = published.get(name)
        beside = ("", "") if figure is None else (f"{figure:.3f}", f"{value - figure:+.4f}")
        table.add_row(name, f"{value:.4f}", *beside)
    Console().print(table)
    print(f"{report.num_images} pictures, {report.num_people} people, {report.protocol} protocol")
    if official is not None:
        print(f"published: {official.measured_on}, trained on {official.trained_on}")


@app.command(epilog="Example: rtmo export --weights rtmo-s-body7 --out onnx/ --pictures photos/")
def export(  # noqa: PLR0913 - one argument per option
    weights: Annotated[
        Path, typer.Option(help="Weights file (.safetensors .pth), or a published model's name.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for rtmo.onnx and rtmo-raw.onnx.")],
    pictures: Annotated[
        Path | None, typer.Option(help="Picture or folder to compare with torch on.")
    ] = None,
    score_threshold: Annotated[float, typer.Option(help="Default inside rtmo.onnx.")] = 0.1,
    nms_iou: Annotated[float, typer.Option(help="Default inside rtmo.onnx.")] = 0.65,
    triton: Annotated[
        Path | None, typer.Option(help="NVIDIA Triton model repository to write rtmo.onnx into.")
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(help="Lowest to write; fp16 needs --pictures, int8 --calibration besides."),
    ] = "fp32",
    calibration: Annotated[
        Path | None, typer.Option(help="Folder of training pictures that set the ranges of INT8.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations of --pictures: AP and AR are compared too.")
    ] = None,
) -> None:
    """Write both ONNX forms of a model, and say how far they are from torch.

    Lower precisions go into OUT/variants and stay there only if they agree with torch on the
    pictures, by the pipeline's budgets; where one does not, a report by layers takes its place.
    """
    from rtmo.deployment.config import ExportConfig
    from rtmo.deployment.export_onnx import export_both_forms
    from rtmo.deployment.official_files import fetch_official

    if precision != "fp32" and pictures is None:
        raise typer.BadParameter(f"--precision {precision} is held against torch on --pictures")
    if (precision == "int8") != (calibration is not None):
        raise typer.BadParameter("--precision int8 and --calibration FOLDER go together")
    if len(weights.parts) == 1 and not weights.suffix:  # a name, not a path
        weights = fetch_official(str(weights))
    _require_file(weights)
    out.mkdir(parents=True, exist_ok=True)
    files = export_both_forms(
        weights, out, ExportConfig(), score_threshold=score_threshold, nms_iou=nms_iou
    )
    for form, path in files.items():
        print(f"{path} ({form} form, {path.stat().st_size / 1e6:.1f} MB)")
    if triton is not None:
        from rtmo.deployment.triton import write_triton_repository

        print(f"{write_triton_repository(files['complete'], triton)} (Triton model repository)")
    if pictures is not None:
        _print_parity(weights, list(files.values()), pictures)
    if pictures is not None and precision != "fp32":
        reference = _reference(weights, files["complete"], pictures, annotations)
        _write_variants(out, files, reference, calibration)


@app.command(epilog="Example: rtmo bench rtmo.onnx --pictures photos/ --compare former.onnx")
def bench(  # noqa: PLR0913 - one argument per option
    model: Annotated[Path, typer.Argument(help="Model file.")],
    pictures: Annotated[Path, typer.Option(help="Picture or folder to run on.")],
    compare: Annotated[
        Path | None, typer.Option(help="Baseline, timed in turns with the model.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Annotations of the folder's pictures: AP besides time.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Picture (.png) of AP over latency; needs --annotations.")
    ] = None,
    runs: Annotated[int, typer.Option(min=1, help="Counted runs of each model.")] = 40,
    warmup_runs: Annotated[int, typer.Option(min=0, help="Runs not counted.")] = 5,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    batch: Annotated[int, typer.Option(min=1, help="Pictures per call for throughput.")] = 8,
    padding: Padding = "square",
    as_json: AsJson = False,
) -> None:
    """Latency per picture split into its steps, throughput in batches, and accuracy if asked."""
    from rtmo.deployment.latency import latency, throughput
    from rtmo.deployment.pictures import find_pictures, read_picture
    from rtmo.deployment.predictor import load_predictor

    if plot is not None and annotations is None:
        raise typer.BadParameter("--plot shows AP over latency, so it needs --annotations")
    models = {"model": model} if compare is None else {"model": model, "baseline": compare}
    predictors = {
        name: load_predictor(path, threads=threads, padding=padding)
        for name, path in models.items()
    }
    images = [read_picture(path) for path in find_pictures(pictures)]
    report = latency(predictors, images, warmup_runs=warmup_runs, runs=runs, threads=threads)
    rates = throughput(predictors, images, batch=batch, runs=max(1, runs // batch))
    precision = (
        {}
        if annotations is None
        else {name: _ap(predictor, annotations, pictures) for name, predictor in predictors.items()}
    )
    if plot is not None:
        from rtmo.evaluation.plots import plot_accuracy_over_latency

        points = {
            str(path): (report.latency[name]["total"].p50_ms, precision[name])
            for name, path in models.items()
        }
        plot_accuracy_over_latency(points, plot)
    if as_json:
        facts = {"files": {name: str(path) for name, path in models.items()}, "padding": padding}
        batches = {"batch": batch, "pictures_per_second": rates}
        print(json.dumps({**facts, **report.model_dump(), "batches": batches, "AP": precision}))
        return
    for name, path in models.items():
        ap = f", AP {precision[name]:.4f}" if precision else ""
        print(f"{name}: {path}, {rates[name]:.1f} pictures/s in batches of {batch}{ap}")
    _print_latency(report)
    if compare is not None:
        ratio = report.paired_ratio("model", "baseline")
        print(
            f"the model takes {ratio.median:.3f} times as long as the baseline "
            f"(95 %: {ratio.low:.3f} to {ratio.high:.3f})"
        )


def main() -> None:
    """Entry point: an input that cannot be used is one message and exit status 2."""
    from rtmo.deployment.runners import UnavailableError
    from rtmo.fetch import FetchError
    from rtmo.tracker import TrackerMissingError

    try:
        app()
    except ModuleNotFoundError as error:
        print(
            f"error: this needs {error.name}, which is not installed: pip install 'rtmo[train]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except (ValueError, OSError, UnavailableError, FetchError, TrackerMissingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _result_files(stack: ExitStack, out: Path | None, as_json: bool) -> list[TextIO]:
    """Open what the result list is written to; a file gets its name when it is complete."""
    files: list[TextIO] = []
    if out is not None:
        part = out / "part-poses.json"
        stack.callback(lambda: part.replace(out / "poses.json"))
        files.append(stack.enter_context(part.open("w")))
    if as_json:
        files.append(sys.stdout)
    return files


class _FramesPerSecond(ProgressColumn):
    """The rate, as soon as there is one."""

    def render(self, task: Task) -> Text:
        """Text of one task's column."""
        return Text("" if task.speed is None else f"{task.speed:.1f} fps")


@contextmanager
def _frame_progress(total: int | None) -> Iterator[Callable[[], object]]:
    """A bar with frames per second, on a terminal only; gives what advances it by one frame."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), _FramesPerSecond())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predict", total=total)
        yield lambda: progress.advance(task)


@contextmanager
def _until_interrupted() -> Iterator[Callable[[], bool]]:
    """Ctrl-C sets what this gives, instead of breaking a file in two; twice, it breaks off."""
    interrupts: list[int] = []

    def note(number: int, _frame: object) -> None:
        interrupts.append(number)
        signal.signal(signal.SIGINT, before)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(interrupts)
    finally:
        signal.signal(signal.SIGINT, before)


def _make_output_folder(out: Path, source: Path) -> None:
    """Create the folder for drawn pictures, which have the names of the originals."""
    pictures = source if source.is_dir() else source.parent
    if out.exists() and out.samefile(pictures):
        raise ValueError(f"--out {out} is the folder of the pictures, which would be overwritten")
    out.mkdir(parents=True, exist_ok=True)


def _write_drawing(path: Path, image: Any, poses: Poses, skeleton: Skeleton) -> None:  # noqa: ANN401
    import cv2

    from rtmo.drawing import draw_poses

    if not cv2.imwrite(str(path), draw_poses(image, poses, skeleton)):
        raise OSError(f"OpenCV cannot write {path}")


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")


def _read_json(path: Path) -> Any:  # noqa: ANN401 - whatever the file holds
    _require_file(path)
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def _read_truth(path: Path) -> Any:  # noqa: ANN401 - JSON
    """An annotation file.

    Raises:
        ValueError: if it is none.
    """
    truth = _read_json(path)
    if not isinstance(truth, dict) or not isinstance(truth.get("images"), list):
        raise typer.BadParameter(f"{path} is no annotation file: it has no list `images`")
    return truth


def _protocol_of(truth: Mapping[str, Any]) -> Literal["coco", "crowdpose"]:
    has_crowd_index = any("crowdIndex" in image for image in truth["images"][:1])
    return "crowdpose" if has_crowd_index else "coco"


def _skeleton_of(truth: Mapping[str, Any], file: Path | None, source: Path) -> Skeleton:
    """The skeleton that was given, else the known one with as many keypoints as the annotations.

    Raises:
        ValueError: if none was given and the annotations fit no known one.
    """
    from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton

    if file is not None:
        return Skeleton.model_validate(_read_json(file))
    people = truth.get("annotations") or [{}]
    count = len(people[0].get("keypoints", ())) // 3
    for known in (COCO17, CROWDPOSE14):
        if known.num_keypoints == count:
            return known
    raise ValueError(
        f"{source} has people of {count} keypoints; COCO's have 17, CrowdPose's 14. "
        "For others give --skeleton FILE.json with names and sigmas"
    )


def _print_parity(weights: Path, files: list[Path], pictures: Path) -> None:
    from rtmo.deployment.parity import parity
    from rtmo.deployment.pictures import find_pictures, read_picture
    from rtmo.deployment.predictor import load_predictor

    images = [read_picture(path) for path in find_pictures(pictures)]
    torch = load_predictor(weights, "cpu")
    for path in files:
        report = parity(torch, load_predictor(path, "cpu"), images)
        print(
            f"{path.name} against torch on {report.images} pictures: {report.people_matched} of "
            f"{report.people_reference} people matched, keypoints p99 "
            f"{report.keypoint_px_p99:.4f} px, max {report.keypoint_px_max:.4f} px"
        )


def _reference(
    weights: Path, exported: Path, pictures: Path, annotations: Path | None
) -> Reference:
    """Torch's answers on pictures of a folder, with the thresholds of an exported file."""
    from rtmo.deployment.check import Accuracy, Reference
    from rtmo.deployment.config import ExportConfig
    from rtmo.deployment.onnx_runner import OnnxPredictor
    from rtmo.deployment.pictures import find_pictures, read_picture, spread
    from rtmo.deployment.runners import TorchPredictor
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints
    from rtmo.evaluation.predict import coco_results, read_listed
    from rtmo.model.weights import load_model

    metadata = OnnxPredictor(exported, "cpu").metadata
    torch = TorchPredictor(
        load_model(weights),
        "cpu",
        input_size=metadata.input_size,
        score_threshold=metadata.score_threshold,
        nms_iou=metadata.nms_iou,
        max_people=metadata.max_people,
    )
    most = ExportConfig().parity_images
    if annotations is None:
        paths = find_pictures(pictures)
        images = [read_picture(paths[place]) for place in spread(len(paths), most)]
        print("AP and AR are not compared: that needs --annotations", file=sys.stderr)
        return Reference(torch, images, lambda _poses: Accuracy(-1, -1))
    truth = _read_truth(annotations)
    listed = [truth["images"][place] for place in spread(len(truth["images"]), most)]
    chosen = {image["id"] for image in listed}
    people = [person for person in truth["annotations"] if person["image_id"] in chosen]
    truth = {**truth, "images": listed, "annotations": people}

    def accuracy(found: Sequence[Poses]) -> Accuracy:
        detections = [
            person
            for image, poses in zip(listed, found, strict=True)
            for person in coco_results(int(image["id"]), poses)
        ]
        metrics = evaluate_keypoints(
            truth, detections, skeleton=torch.skeleton, protocol=_protocol_of(truth)
        ).metrics
        return Accuracy(metrics["AP"], metrics["AR"])

    folder = pictures if pictures.is_dir() else pictures.parent
    return Reference(torch, [read_listed(image, folder) for image in listed], accuracy)


def _write_variants(
    out: Path, files: Mapping[Form, Path], reference: Reference, calibration: Path | None
) -> None:
    """Write lower precisions and print what became of each."""
    from rtmo.deployment.config import ExportConfig
    from rtmo.deployment.pictures import find_pictures, read_picture, spread
    from rtmo.deployment.variants import make_variants

    config = ExportConfig()
    paths = [] if calibration is None else find_pictures(calibration)
    places = spread(len(paths), config.calibration_images)
    inputs = reference.framing.inputs([read_picture(paths[place]) for place in places])
    for name, variant in make_variants(out, files, reference, inputs, config).items():
        where = f"{out / name} ({variant.form} form, {variant.precision}, for {variant.made_for})"
        if variant.deviation is None:
            print(f"{where}: kept, {variant.size_bytes / 1e6:.1f} MB")
        else:
            print(f"{where}: not kept: {'; '.join(variant.problems)}")
            print(f"  layer by layer: {out / variant.deviation.report}")


def _ap(predictor: Predictor, annotations: Path, pictures: Path) -> float:
    """AP of a predictor on the annotated pictures of a folder."""
    from rtmo.evaluation.keypoint_ap import evaluate_keypoints
    from rtmo.evaluation.predict import predict_files

    truth = _read_truth(annotations)
    folder = pictures if pictures.is_dir() else pictures.parent
    found = predict_files(predictor, truth["images"], folder, lambda _done, _all: None)
    report = evaluate_keypoints(
        truth, found, skeleton=predictor.skeleton, protocol=_protocol_of(truth)
    )
    return report.metrics["AP"]


def _print_latency(report: LatencyReport) -> None:
    table = Table("", "step", "p50 ms", "p90 ms", "p99 ms")
    for name, steps in report.latency.items():
        for step, value in steps.items():
            row = (f"{value.p50_ms:.2f}", f"{value.p90_ms:.2f}", f"{value.p99_ms:.2f}")
            table.add_row(name, step, *row)
    Console().print(table)
    machine = report.hardware
    clocks = "/".join(f"{clock:.0f}" for clock in machine.cpu_mhz) or "unknown"
    print(
        f"{machine.cpu}, {report.threads} threads, {report.runs} runs in turns, batch 1; clocks "
        f"{clocks} MHz, load {machine.load_average}; {report.images} pictures "
        f"{report.pictures_sha256[:12]}"
    )
