"""`rtmo predict`: people of pictures, folders, videos, cameras and streams."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task
from rich.text import Text

from rtmo.cli.interrupt import until_interrupted
from rtmo.cli.options import AsJson, Device, Model, Padding

if TYPE_CHECKING:
    from rtmo.deployment.media import DrawnVideo
    from rtmo.skeleton import Skeleton
    from rtmo.structures import Poses
    from rtmo.tracker import PeopleTracker

EXAMPLE = "Example: rtmo predict photo.jpg --weights rtmo-s-body7 --out drawn/"


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
    score_threshold: Annotated[
        float, typer.Option(min=0, max=1, help="People score above this.")
    ] = 0.1,
    nms_iou: Annotated[
        float, typer.Option(min=0, max=1, help="Box overlap at which two are one.")
    ] = 0.65,
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
        is_stopped = stack.enter_context(until_interrupted())
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


def _write_drawing(path: Path, image: Any, poses: Poses, skeleton: Skeleton) -> None:  # noqa: ANN401
    import cv2

    from rtmo.drawing import draw_poses

    if not cv2.imwrite(str(path), draw_poses(image, poses, skeleton)):
        raise OSError(f"OpenCV cannot write {path}")


def _make_output_folder(out: Path, source: Path) -> None:
    """Create the folder for drawn pictures, which have the names of the originals."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder, new or there already")
    pictures = source if source.is_dir() else source.parent
    if out.exists() and out.samefile(pictures):
        raise ValueError(f"--out {out} is the folder of the pictures, which would be overwritten")
    out.mkdir(parents=True, exist_ok=True)


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
