"""What `sources/<dataset>.json` may say: format, licence, how to get it, where its splits lie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from rtmo._config import Config
from rtmo.fetch import RelativePath, RemoteFile
from rtmo.formats.licence import Licence
from rtmo.skeleton import COCO17, CROWDPOSE14, Skeleton
from rtmo.synthetic.config import SyntheticConfig

Split = Literal["train", "val", "gate"]
SPLITS: tuple[Split, ...] = ("train", "val", "gate")


TAR = ".tar"
"""End of the name of a tar file; every other archive is a zip file."""


class SourceError(ValueError):
    """A source file or its raw data cannot be used; the message says what to do."""


class Files(Config):
    """Get the dataset from the network."""

    kind: Literal["files"]
    files: tuple[RemoteFile, ...] = Field(min_length=1)
    """Everything to fetch."""


class Folder(Config):
    """Get the dataset from a folder in the official layout."""

    kind: Literal["folder"]
    path: str
    """The folder, absolute or relative to the repository root."""
    contents: str = "the dataset in its official layout"
    """What a person puts there, and from where; said when it is missing."""


class Generator(Config):
    """Draw the dataset."""

    kind: Literal["generator"]
    config: SyntheticConfig
    """What is drawn; the names of its splits are those of the source file."""


class RemoteArchive(Config):
    """A zip file of which only some members are fetched."""

    name: RelativePath
    """Its name in the locations of the splits."""
    urls: tuple[str, ...] = Field(min_length=1)
    """Where it lies; tried in order. The server must serve parts of files (HTTP ranges)."""
    bytes: int | None = Field(None, gt=0)
    """Its size; None where the publisher states none."""
    version: str | None = None
    """The mark of its version (ETag or Last-Modified) at the first address; another one is refused.
    None where none is known: `rtmo-pipeline data refresh` writes it."""


class Excerpt(Config):
    """Get some pictures and their annotations out of large archives on the network."""

    kind: Literal["excerpt"]
    archives: tuple[RemoteArchive, ...] = Field(min_length=1)
    """The archives, in the official layout."""
    num_images: dict[Split, Annotated[int, Field(gt=0)]]
    """Pictures of each split, out of those that show people with keypoints."""


class Labels(Config):
    """Take own labels as a labelling tool exported them; written by `rtmo-pipeline init`."""

    kind: Literal["labels"]
    path: str
    """The folder or zip archive, absolute or relative to the repository root."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the labels and pictures that `init` saw; others are refused."""
    val_fraction: float = Field(ge=0, lt=0.5)
    """Part of the pictures that validates, by content; 0 where the export has such a split."""


class Location(Config):
    """Where something lies in `data/raw/<dataset>/`."""

    archive: RelativePath | None = None
    """Zip file that holds it, or a tar file for downloaded annotations; None for a plain file or
    folder."""
    path: RelativePath
    """Path inside the archive, or under the dataset's raw folder."""


class SplitLocations(Config):
    """Where one split lies."""

    images: Location | None
    """Folder of the pictures; `file_name` of the annotations is relative to it. Null converts the
    annotations alone, to evaluate detections made elsewhere."""
    annotations: Location
    """The annotation file; or a folder, whose JSON files are read as one (PoseTrack18)."""


class Source(Config):
    """One dataset."""

    dataset: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Its name, equal to the name of the file."""
    about: str
    """One or two sentences for a person who looks."""
    format: Literal["coco", "crowdpose", "aic", "halpe", "jhmdb", "mpii", "posetrack18"]
    """Format of the annotation files."""
    skeleton: Literal["coco17", "crowdpose14"] | Skeleton
    """Which keypoints are annotated: a known name, or a skeleton written out."""
    licence: Licence
    """Terms of annotations and pictures; they travel with the data and the models."""
    pictures: Literal["public", "own"] = "own"
    """Own pictures are shown in reports with blurred faces, public ones as they are."""
    get: Annotated[Files | Excerpt | Folder | Generator | Labels, Field(discriminator="kind")]
    """How to get it."""
    splits: dict[Split, SplitLocations] = Field(min_length=1)
    """Where each split lies. Without `gate`, that split is taken out of `train`."""

    @model_validator(mode="after")
    def _check(self) -> Source:
        if "gate" in self.splits and "train" not in self.splits:
            raise ValueError("splits has gate but no train")
        names = [file.name for file in _remote_files(self.get)]
        if len(set(names)) != len(names):
            raise ValueError(f"two files have the same name: {names}")
        for split, locations in self.splits.items():
            for location in filter(None, (locations.images, locations.annotations)):
                held_by = location.archive or location.path
                if names and held_by not in names:
                    raise ValueError(f"split {split} lies in {held_by}, not one of {names}")
            in_tar = [
                location
                for location in filter(None, (locations.images, locations.annotations))
                if location.archive is not None and location.archive.endswith(TAR)
            ]
            if in_tar and (locations.images in in_tar or not isinstance(self.get, Files)):
                raise ValueError(
                    f"split {split}: only downloaded annotations may lie in a tar file"
                )
        if isinstance(self.get, Excerpt):
            self._check_excerpt(self.get)
        if isinstance(self.get, Generator) and set(self.splits) != set(self.get.config.num_images):
            raise ValueError(
                f"splits are {sorted(self.splits)}, the generator draws "
                f"{sorted(self.get.config.num_images)}"
            )
        return self

    def _check_excerpt(self, excerpt: Excerpt) -> None:
        if set(excerpt.num_images) != set(self.splits):
            raise ValueError(
                f"splits are {sorted(self.splits)}, num_images names {sorted(excerpt.num_images)}"
            )
        for split, locations in self.splits.items():
            if locations.images is None or None in (
                locations.images.archive,
                locations.annotations.archive,
            ):
                raise ValueError(f"an excerpt needs archives for both parts of split {split}")

    @property
    def protocol(self) -> Literal["coco", "crowdpose"]:
        """By whose rules it is evaluated."""
        return "crowdpose" if self.format == "crowdpose" else "coco"

    @property
    def keypoints(self) -> Skeleton:
        """The skeleton, whichever way it is written."""
        if isinstance(self.skeleton, Skeleton):
            return self.skeleton
        return COCO17 if self.skeleton == "coco17" else CROWDPOSE14


def _remote_files(
    get: Files | Excerpt | Folder | Generator | Labels,
) -> tuple[RemoteFile | RemoteArchive, ...]:
    match get:
        case Files(files=files):
            return files
        case Excerpt(archives=archives):
            return archives
        case Folder() | Generator() | Labels():
            return ()


def load_source(path: Path) -> Source:
    """Read and check a source file.

    Raises:
        SourceError: naming every key that is wrong.
    """
    try:
        source = Source.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        known = sorted(other.stem for other in path.parent.glob("*.json"))
        raise SourceError(
            f"{path} does not exist; data.dataset names a file in sources/, which has {known}"
        ) from None
    except ValidationError as error:
        lines = [
            f"{path}: {'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise SourceError("\n".join(lines)) from None
    if source.dataset != path.stem:
        raise SourceError(f"{path} describes the dataset {source.dataset!r}; rename one of them")
    return source
