"""Releases that people decided, as lines of a file in git, which outlives the MLflow store.

What `register` decides is in its receipt. Each line here says which lines it follows, so the order
needs no clock: where two people decided at once, in two clones, two last lines follow the same one
after git has merged the file, and nobody guesses which of them is meant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from pipelines.lineage import LINEAGE_TAGS
from pipelines.paths import Paths
from pipelines.tracking.versions import Version
from rtmo._config import Config


class LedgerError(ValueError):
    """The ledger cannot be read, or does not say who is champion; the message says what to do."""


class Released(Config):
    """A version as the ledger knows it."""

    version: int
    """In the store of that time."""
    content_hash: str
    """Of its model files."""
    stage_hash: str
    """Of the training: git's history of `dvc.lock` is searched for it."""
    verdict: str
    """What the gate had said."""
    words: str
    """Why, with numbers."""
    lineage: dict[str, str]
    """Where and from what it was trained."""


class Entry(Config):
    """One decision."""

    kind: Literal["promote", "rollback"]
    """What was done."""
    at: datetime
    """When, for readers; the order is that of `follows`."""
    by: str
    """Who."""
    why: str
    """The reason."""
    champion: Released
    """Who became champion."""
    previous: str | None
    """Content hash of the version that `previous` then pointed to."""
    follows: tuple[str, ...]
    """Ids of the last entries before."""

    @property
    def id(self) -> str:
        """Hash of the entry."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


Ledger = Mapping[str, Entry]
"""Entries by id, in order of the file."""


def ledger_file(paths: Paths, model: str) -> Path:
    """Where the ledger of a registered model lies in the checkout."""
    return paths.root / "releases" / f"{model}.jsonl"


def read_ledger(file: Path) -> Ledger:
    """All entries; none if there is no such file.

    Raises:
        LedgerError: if a line is no entry, or follows one that is not there.
    """
    if not file.exists():
        return {}
    entries: dict[str, Entry] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        try:
            entry = Entry.model_validate_json(line)
        except ValidationError:
            raise LedgerError(
                f"{file}, line {number} is no entry of the ledger: {line[:60]!r}. If git left "
                "marks of a conflict, keep the lines of both sides and delete the marks; otherwise "
                f"restore the file with `git checkout -- {file.name}`: lines are only ever added"
            ) from None
        entries[entry.id] = entry
    for entry in entries.values():
        lost = [other for other in entry.follows if other not in entries]
        if lost:
            raise LedgerError(
                f"{file}: the {entry.kind} by {entry.by} follows {', '.join(lost)}, which is not "
                "in the file: a line was changed or removed; take it back from git's history"
            )
    return entries


def last_ids(ledger: Ledger) -> tuple[str, ...]:
    """Entries that no other follows; one, unless two people decided at once."""
    followed = {other for entry in ledger.values() for other in entry.follows}
    return tuple(sorted(ledger.keys() - followed))


def append(
    file: Path,
    kind: Literal["promote", "rollback"],
    champion: Version,
    previous: str | None,
    *,
    at: datetime,
    by: str,
    why: str,
) -> Entry:
    """Add a decision that follows all there are, and so decides between them. Hold the lock."""
    tags = champion.tags
    entry = Entry(
        kind=kind,
        at=at,
        by=by,
        why=why,
        champion=Released(
            version=champion.number,
            content_hash=champion.content_hash,
            stage_hash=tags.get("stage_hash", ""),
            verdict=tags.get("verdict", ""),
            words=tags.get("verdict_words", ""),
            lineage={name: tags[name] for name in LINEAGE_TAGS if name in tags},
        ),
        previous=previous,
        follows=last_ids(read_ledger(file)),
    )
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(entry.model_dump_json() + "\n")
    return entry


def decided_since(ledger: Ledger, known: Iterable[str]) -> Entry | None:
    """The decision that holds, of those made after the entries `known`; None if there is none.

    Raises:
        LedgerError: if decisions of two people disagree.
    """
    waiting, seen = list(known), set[str]()
    if not ledger.keys() >= set(waiting):
        return None  # the file is older than who knows these entries
    while waiting:
        here = waiting.pop()
        seen.add(here)
        waiting += ledger[here].follows
    last = [ledger[one] for one in last_ids(ledger) if one not in seen]
    if len({entry.champion.content_hash for entry in last}) > 1:
        told = "; ".join(
            f"{entry.by} chose version {entry.champion.version} "
            f"({entry.champion.content_hash[:12]}): {entry.why}"
            for entry in last
        )
        raise LedgerError(
            f"people decided at once and differently: {told}. Agree, then `rtmo-pipeline promote` "
            "the one that is meant: the new line follows both"
        )
    return last[0] if last else None
