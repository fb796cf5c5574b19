"""`plt-tui compare`: runs side by side, in the terminal UI, as a table, or as JSON.

Reads records and hubs, changes nothing. Invariant: two runs of one name are told apart by their folders.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption, source_of, told_so_far, user_at_host
from plt_tui.cli.echo import echo, echo_json
from plt_tui.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from plt_tui.control.folder import RunFolder
    from plt_tui.views.compare import Line
    from plt_tui.views.model import RunModel


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Names of runs, or their folders; one: its branches.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Compare runs, or one run and its branches.

    Losses, last numbers, what differs in their configurations, and the first step whose losses differ in a bit.
    """
    from plt_tui.control.folder import find_run
    from plt_tui.views.compare import MAX_LINES

    found = {folder.path.resolve(): folder for folder in (find_run(directory, run) for run in runs)}
    if len(found) > MAX_LINES:
        raise UsageError(f"compare: {len(found)} runs given, at most {MAX_LINES} can be told apart; leave some out")
    folders = _named([*found.values()])
    if not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        raise typer.Exit(_open_comparison(folders))
    _print_comparison(_lines(folders), as_json=as_json)


def _named(folders: list[RunFolder]) -> dict[str, RunFolder]:
    """The folders by the runs' names, or where two are called the same by their paths."""
    count = Counter(folder.name for folder in folders)
    return {folder.name if count[folder.name] == 1 else str(folder.path): folder for folder in folders}


def _open_comparison(folders: Mapping[str, RunFolder]) -> int:
    from plt_tui.cli.cockpit import opened
    from plt_tui.cli.person import at_terminal
    from plt_tui.config.schema import UiSection
    from plt_tui.views.tui.app import RunApp

    actor = f"tui {user_at_host()}"
    with at_terminal() as person:
        runs = [opened(folder, actor, name, readonly=True) for name, folder in folders.items()]
        app = RunApp(ui=person.settings.over(UiSection()), actor=actor, compare=runs, person=person)
        app.run()
    return app.return_code or 0


def _print_comparison(lines: list[Line], *, as_json: bool) -> None:
    from plt_tui.control.summary import json_ready
    from plt_tui.views.compare import comparison, table

    if as_json:
        echo_json(json_ready(comparison(lines)))
    else:
        echo(table(lines))


def _lines(folders: Mapping[str, RunFolder]) -> list[Line]:
    from plt_tui.config.load import from_toml
    from plt_tui.config.sources import read_text
    from plt_tui.views.compare import flat, lines_of

    return lines_of(
        [(name, flat(from_toml(read_text(folder.config))), asyncio.run(_recorded(folder))) for name, folder in folders.items()]
    )


async def _recorded(folder: RunFolder) -> RunModel:
    """All that is known of a run: of its hub if it lives, else of its record."""
    from plt_tui.views.model import RunModel

    model = RunModel()
    async for event in told_so_far(await source_of(folder, "compare", readonly=True), folder.name):
        model.fold(event)
    return model
