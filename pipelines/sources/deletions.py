"""Pictures that must not be used any more: a small file in git beside the source file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import Field, ValidationError

from pipelines.sources.schema import SourceError, Split
from rtmo._config import Config


class Deletions(Config):
    """What `sources/deletions/<dataset>.json` says."""

    dataset: str
    """Name of the source file."""
    images: dict[Split, tuple[int, ...]] = Field(default={})
    """Image ids by the split whose annotation file has them, in increasing order."""

    def joined(self, more: Mapping[Split, Collection[int]]) -> Deletions:
        """These and more.

        Example:
            >>> Deletions(dataset="d", images={"val": (2,)}).joined({"val": [1, 2]}).images
            {'val': (1, 2)}
        """
        images = dict(self.images)
        for split, ids in more.items():
            images[split] = tuple(sorted({*images.get(split, ()), *ids}))
        return self.model_copy(update={"images": images})


def load_deletions(path: Path, dataset: str) -> Deletions:
    """Deletions of a dataset; none where there is no file.

    Raises:
        SourceError: if the file is not of that form, or of another dataset.
    """
    try:
        deletions = Deletions.model_validate_json(path.read_bytes(), strict=True)
    except FileNotFoundError:
        return Deletions(dataset=dataset)
    except ValidationError as error:
        raise SourceError(f"{path} is no list of deleted pictures: {error}") from None
    if deletions.dataset != dataset:
        raise SourceError(
            f"{path} is of the dataset {deletions.dataset!r}, expected {dataset!r}; move it or "
            "mend its `dataset`"
        )
    return deletions
