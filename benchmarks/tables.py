"""Markdown tables that several measurements share."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table.

    >>> print(table(["what", "s"], [["read", 1]]))
    | what | s |
    |---|---|
    | read | 1 |
    """
    lines = [head, *rows]
    texts = [f"| {' | '.join(map(str, line))} |".replace("|  |", "| |") for line in lines]
    return "\n".join([texts[0], "|---" * len(head) + "|", *texts[1:]])


def spread(samples: Mapping[str, Sequence[float]], unit: str, digits: int = 1) -> str:
    """A row per name: median, smallest to largest, how many.

    >>> print(spread({"read": [2.0, 1.0, 4.0]}, "s"))
    | what | median s | smallest to largest | runs |
    |---|---|---|---|
    | read | 2.0 | 1.0 to 4.0 | 3 |
    """
    rows = [
        (
            name,
            f"{statistics.median(values):.{digits}f}",
            f"{min(values):.{digits}f} to {max(values):.{digits}f}" if len(values) > 1 else "",
            len(values),
        )
        for name, values in samples.items()
    ]
    return table(["what", f"median {unit}", "smallest to largest", "runs"], rows)
