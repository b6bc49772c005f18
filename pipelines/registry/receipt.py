"""What `register` did, as `reports/register/receipt.json`: all that `sync` needs to do it again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from pipelines.paths import Paths
from pipelines.registry.gate import VerdictKind
from rtmo._config import Config

VERDICT_TAGS = ("verdict", "verdict_words")
"""Tags of a version: what the gate said, and why."""


class ReceiptError(ValueError):
    """The receipt cannot be read; the message says what to do."""


class Champion(Config):
    """The version that was champion when `register` ended."""

    version: int
    """In the store of that time."""
    content_hash: str
    """Of its model files."""
    git_commit: str
    """Where it was made; empty when not known."""
    stage_hash: str = ""
    """Of its training; empty in receipts of former versions of this tool."""


class Receipt(Config):
    """The outcome of one registration."""

    model: str
    """Name of the registered model."""
    version: int
    """Version that this workspace's model got, in the store of that time."""
    content_hash: str
    """Of this workspace's model files."""
    stage_hash: str
    """Of the training."""
    verdict: VerdictKind
    """What the gate said."""
    words: str
    """Why, with numbers."""
    champion: Champion | None
    """None if there is none."""
    is_challenger: bool
    """Whether this workspace's model is the challenger."""
    by: str
    """Who ran the stage."""
    at: datetime
    """When."""
    experiment: str | None
    """Name of the DVC experiment, in which aliases stay where they are."""
    lineage: dict[str, str]
    """Where and from what the model was trained."""
    gate_may_promote: bool = True
    """Whether `register.promoters` let the gate change the champion."""
    verdict_tags: dict[str, str] = Field(default={})
    """What stands on the version: this verdict, or that of an earlier registration where this one
    is `same`. Empty in receipts of former versions of this tool."""
    ledger: tuple[str, ...] = ()
    """Last entries of the ledger when `register` ended: what comes after them overrules it."""

    @property
    def is_champion(self) -> bool:
        """Whether this workspace's model is the champion."""
        return self.champion is not None and self.champion.content_hash == self.content_hash

    @property
    def standing(self) -> dict[str, str]:
        """The verdict that the version should have, as tags; empty where it is not known."""
        if self.verdict_tags or self.verdict == "same":
            return self.verdict_tags
        return dict(zip(VERDICT_TAGS, (self.verdict, self.words), strict=True))

    @property
    def alias(self) -> Literal["champion", "challenger"] | None:
        """What points to this workspace's model."""
        if self.is_champion:
            return "champion"
        return "challenger" if self.is_challenger else None

    def markdown(self) -> str:
        """The verdict for a reader."""
        champion = "none" if self.champion is None else f"version {self.champion.version}"
        role = self.alias or "no alias"
        ending = (
            f" (in experiment {self.experiment}: no alias was moved)" if self.experiment else ""
        )
        return (
            f"# {self.model} version {self.version}: {self.verdict}\n\n{self.words}\n\n"
            f"- this model: {role}{ending}\n- champion: {champion}\n"
            f"- content: `{self.content_hash}`\n- by {self.by}, {self.at:%Y-%m-%d %H:%M} UTC\n"
        )


def now() -> datetime:
    """The time for a receipt, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def receipt_file(paths: Paths) -> Path:
    """Where the stage writes it."""
    return paths.report("register") / "receipt.json"


def read_receipt(paths: Paths) -> Receipt | None:
    """The receipt in the workspace; None if `register` has not run here.

    Raises:
        ReceiptError: if there is one that cannot be understood.
    """
    file = receipt_file(paths)
    try:
        return Receipt.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise ReceiptError(
            f"{file} is no receipt of this version: {error}; delete it and run `dvc repro`"
        ) from None
