"""`rtmo-pipeline`, which a light installation of `rtmo` has as well, without what it needs."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; where its packages are absent, say which to install (exit status 2)."""
    try:
        from pipelines.cli import main as command
    except ModuleNotFoundError as error:
        print(
            f"error: rtmo-pipeline needs {error.name}, which is not installed: run `make test` in "
            "a checkout, or pip install 'rtmo[pipelines,train,inspect]'; `rtmo` works without",
            file=sys.stderr,
        )
        sys.exit(2)
    command()


if __name__ == "__main__":
    main()
