"""`rtmo`: the model from the command line, without any service. One file per command."""

from __future__ import annotations

import sys

import typer

from rtmo.cli import bench, evaluate, export, predict, train, verify_weights

app = typer.Typer(
    help="Real-time multi-person pose: predict, evaluate, train, export, bench.",
    epilog="Exit status: 0 done, 2 wrong usage or input that cannot be used, 85 training stopped.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command(epilog=predict.EXAMPLE)(predict.predict)
app.command(epilog=evaluate.EXAMPLE)(evaluate.evaluate)
app.command("verify-weights", epilog=verify_weights.EXAMPLE)(verify_weights.verify_weights)
app.command(epilog=train.EXAMPLE)(train.train)
app.command(epilog=export.EXAMPLE)(export.export)
app.command(epilog=bench.EXAMPLE)(bench.bench)


def main() -> None:
    """Entry point: an input that cannot be used is one message and exit status 2."""
    from rtmo.deployment.runners import UnavailableError
    from rtmo.fetch import FetchError
    from rtmo.tracker import TrackerMissingError

    try:
        app()
    except ModuleNotFoundError as error:
        print(
            f"error: this needs {error.name}, which is not installed: pip install 'rtmo[train]'",
            file=sys.stderr,
        )
        sys.exit(2)
    except (ValueError, OSError, UnavailableError, FetchError, TrackerMissingError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
