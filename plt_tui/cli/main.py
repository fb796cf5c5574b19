"""The command line: which commands there are, and the one place where an error becomes a sentence and an exit code.

Nothing heavy is imported here or at the top of any module of this package: `--help` must answer at once, and every rank's
process imports this package again. stdout belongs to results; errors go to stderr.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from plt_tui import __version__
from plt_tui.cli import data
from plt_tui.cli.attach import DEFAULT_DIR, attach
from plt_tui.cli.cockpit import open_cockpit
from plt_tui.cli.compare import compare
from plt_tui.cli.config import check, init
from plt_tui.cli.ctl import ctl
from plt_tui.cli.echo import echo, open_missing_streams, until_the_reader_leaves
from plt_tui.cli.evaluate import eval_
from plt_tui.cli.generate import generate
from plt_tui.cli.replay import replay, verify_resume
from plt_tui.cli.report import report
from plt_tui.cli.run import run
from plt_tui.cli.runs import logs, ls, show
from plt_tui.cli.web import web
from plt_tui.cli.weights import export, import_
from plt_tui.errors import PltTuiError, UsageError

app = typer.Typer(
    name="plt-tui",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"plt-tui {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    directory: Annotated[
        Path | None, typer.Option("--dir", help="Without a command: the folder that holds the runs, which the UI lists.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Launch, watch, steer and resume language-model training from a terminal.

    Without a command: the UI with all runs, or where there are none with a form for the first one.
    """
    if context.invoked_subcommand is not None:
        if directory is not None:
            raise UsageError(f"--dir {directory}: give it behind the command: plt-tui {context.invoked_subcommand} --dir ...")
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        echo(context.get_help(), err=True)
        raise typer.Exit(UsageError.exit_code)
    raise typer.Exit(open_cockpit(directory or DEFAULT_DIR))


_COMMANDS = (
    *(run, attach, web, ls, show, logs, ctl, compare, replay, verify_resume, report),
    *(generate, eval_, export, import_, check, init),
)
for command in _COMMANDS:
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
