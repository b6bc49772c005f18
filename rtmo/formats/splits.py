"""Which training pictures are set aside, decided by their content and not by names or order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

Fingerprint = tuple[int, int]
"""Size and CRC-32 of a picture's file: an archive's directory states both, so nothing is read."""


def choose_gate(fingerprints: Iterable[Fingerprint], fraction: float) -> frozenset[Fingerprint]:
    """The pictures with the lowest hash of their fingerprint, until `fraction` of them.

    Pictures with the same bytes stay together. A fraction above 0 chooses at least one picture.

    Example:
        >>> len(choose_gate([(100, 1), (100, 2), (101, 3), (102, 4)], 0.5))
        2
    """
    distinct = sorted(set(fingerprints), key=_hash)
    count = round(fraction * len(distinct))
    if fraction > 0 and distinct:
        count = max(count, 1)
    return frozenset(distinct[:count])


def _hash(fingerprint: Fingerprint) -> str:
    size, checksum = fingerprint
    return hashlib.sha256(f"{size}:{checksum}".encode()).hexdigest()
