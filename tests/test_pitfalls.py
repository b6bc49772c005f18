"""The tests that docs/decisions/pitfalls.md names are there."""

import re
from pathlib import Path

TABLE = "docs/decisions/pitfalls.md"


def test_every_pitfall_names_tests_that_exist(repository: Path) -> None:
    rows = re.findall(r"^\| (\d+) \|.*$", (repository / TABLE).read_text(), re.MULTILINE)
    assert rows == [str(number) for number in range(1, 18)]
    for line in (repository / TABLE).read_text().splitlines():
        if not re.match(r"\| \d+ \|", line):
            continue
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        assert named, f"no test in the row {line[:60]}"
        for file, name in named:
            assert f"def {name}(" in (repository / file).read_text(), f"{file}::{name}"
