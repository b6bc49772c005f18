"""DVC stage `download`: a dataset's archives, in the official layout, into `data/raw/`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import typer

from pipelines.paths import MERGED
from pipelines.sources.excerpt import fetch_excerpt
from pipelines.sources.labelled import pack_labels
from pipelines.sources.pack import draw_dataset, pack_folder
from pipelines.sources.schema import Excerpt, Files, Folder, Generator, Labels, Source, load_source
from pipelines.stage_run import stage_run
from pipelines.worded_errors import without_traceback
from rtmo._config import Config
from rtmo.fetch import FetchedFile, FetchError, Patience, fetch_files
from rtmo.formats.licence import Licence


class RawFile(Config):
    """One file that the stage put in place."""

    name: str
    bytes: int
    sha256: str
    is_verified: bool
    """Whether it was compared with a checksum of the source file."""


class DownloadReport(Config):
    """What `download.json` says. Nothing in it differs between two runs with the same result."""

    dataset: str
    licence: Licence
    origin: str
    """`files`, `excerpt`, `folder`, `generator` or `labels`."""
    files: tuple[RawFile, ...]
    """Whole files from the network; empty otherwise: DVC hashes what was packed."""


def download(
    source: Source, out: Path, *, root: Path, downloads: Path, patience: Patience
) -> DownloadReport:
    """Fetch, pack or draw the dataset into `out` and write `download.json` beside the archives.

    Args:
        source: what to get.
        out: an empty folder.
        root: what a relative folder of the source is relative to.
        downloads: where unfinished and finished downloads lie. They stay, so that the stage can run
            again without the network; a finished one shares its space on the disk with `out`.
        patience: how hard to try.
    """
    fetched: tuple[FetchedFile, ...] = ()
    match source.get:
        case Files(files=files):
            try:
                fetched = fetch_files(files, downloads, patience)
            except FetchError as error:
                command = f"rtmo-pipeline data refresh {source.dataset}"
                error.add_note(f"If the publisher changed a file, `{command}` takes the new one.")
                raise
            for file in fetched:
                _link(file.path, out / file.name)
        case Excerpt() as excerpt:
            fetch_excerpt(source, excerpt, downloads, patience)
            pack_folder(source, downloads, out)
        case Folder(path=path):
            pack_folder(source, root / path, out)
        case Generator(config=config):
            draw_dataset(source, config, out)
        case Labels(path=path):
            pack_labels(source, source.get, root / path, out)
    report = DownloadReport(
        dataset=source.dataset,
        licence=source.licence,
        origin=source.get.kind,
        files=tuple(
            RawFile(
                name=file.name,
                bytes=file.bytes,
                sha256=file.sha256,
                is_verified=file.is_verified,
            )
            for file in fetched
        ),
    )
    (out / "download.json").write_text(report.model_dump_json(indent=2) + "\n")
    return report


def _link(path: Path, target: Path) -> None:
    """The same file under another name, without a second copy where the disk allows it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(path, target)


def main() -> None:
    """Command line; `dvc.yaml` is its caller."""
    with stage_run("download") as run:
        data = run.params.data
        folders = {data.dataset: Path()} | {
            merged.dataset: Path(MERGED, merged.dataset) for merged in data.merge
        }
        sources = [load_source(run.paths.source(name)) for name in folders]
        with run.publish(run.paths.raw(data.dataset)) as out:
            for source in sources:
                folder = out / folders[source.dataset]
                folder.mkdir(parents=True, exist_ok=True)
                downloads = run.paths.downloads(source.dataset)
                download(
                    source,
                    folder,
                    root=run.paths.state_root,
                    downloads=downloads,
                    patience=Patience(),
                )


if __name__ == "__main__":
    with without_traceback():
        typer.run(main)
