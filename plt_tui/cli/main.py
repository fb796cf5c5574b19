"""The command line: which commands there are, and the one place where an error becomes a sentence and an exit code.

Nothing heavy is imported here or at the top of any module of this package: `--help` must answer at once, and every rank's
process imports this package again. stdout belongs to results; errors go to stderr.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, NoReturn

import typer

from plt_tui import __version__
from plt_tui.cli import data
from plt_tui.cli.attach import attach
from plt_tui.cli.config import check, init
from plt_tui.cli.ctl import ctl
from plt_tui.cli.echo import echo, open_missing_streams, until_the_reader_leaves
from plt_tui.cli.evaluate import eval_
from plt_tui.cli.generate import generate
from plt_tui.cli.replay import replay, verify_resume
from plt_tui.cli.report import report
from plt_tui.cli.run import run
from plt_tui.cli.runs import logs, ls, show
from plt_tui.cli.weights import export, import_
from plt_tui.errors import PltTuiError

app = typer.Typer(
    name="plt-tui",
    help="Launch, watch, steer and resume language-model training from a terminal.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plt-tui {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Launch, watch, steer and resume language-model training from a terminal."""


for command in (run, attach, ls, show, logs, ctl, replay, verify_resume, report, generate, eval_, export, import_, check, init):
    app.command(command.__name__.strip("_").replace("_", "-"))(until_the_reader_leaves(command))
app.add_typer(data.app)


def main() -> NoReturn:
    """Entry point of the `plt-tui` script."""
    open_missing_streams()
    try:
        app()
    except PltTuiError as error:
        with contextlib.suppress(OSError):  # the terminal may be gone; the exit code still tells
            echo(f"plt-tui: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(0)
