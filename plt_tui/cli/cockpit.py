"""The cockpit: all runs of a folder in the terminal UI, and what its screens need of the files there.

Trains nothing and prints nothing. Invariant: a run that is opened from the list is watched in the same way as by `attach`.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui.cli.attach import source_of, user_at_host
from plt_tui.cli.person import at_terminal
from plt_tui.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from plt_tui.control.folder import RunFolder
    from plt_tui.views.source import Source
    from plt_tui.views.tui.runs import Look, OpenedRun

PIECE_S = 0.25
"""What has been read is told this often while there is more to read."""
BREATH_S = 0.001
"""After every run that was read keys and drawing get their turn: Python runs one thread at a time."""


class Shelf:
    """The runs of one folder, a `views.tui.runs.RunsPort`. `actor`: who is at this terminal."""

    def __init__(self, directory: Path, actor: str) -> None:
        from plt_tui.cli.cockpit_new import NewRuns
        from plt_tui.control.overview import Overviews

        self.place = str(directory)
        self.new_runs = NewRuns(directory)
        self.first_values = self.new_runs.first_values
        self._directory = directory
        self._actor = actor
        self._overviews = Overviews(directory)

    def look(self) -> Iterator[Look]:
        """The runs as they are now, piece by piece."""
        from plt_tui.views.tui.runs import Look, RunRow

        rows: list[RunRow] = []
        told_at = float("-inf")
        for found in self._overviews.look():
            rows.append(RunRow(name=found.name, state=found.state, losses=found.losses))
            time.sleep(BREATH_S)
            if time.monotonic() - told_at >= PIECE_S:
                yield Look(names=self._overviews.names, rows=tuple(rows))
                rows, told_at = [], time.monotonic()
        yield Look(names=self._overviews.names, rows=tuple(rows))

    def open(self, name: str, *, readonly: bool = False) -> OpenedRun:
        """What is needed to watch the run called `name`, or the one in this folder, as `opened` gives it."""
        from plt_tui.control.folder import find_run

        return opened(find_run(self._directory, name), self._actor, readonly=readonly)


def opened(folder: RunFolder, actor: str, name: str = "", *, readonly: bool = False) -> OpenedRun:
    """What is needed to watch the run in `folder`, and where not `readonly` to steer it; `name`: if not its own.

    Raises: PltTuiError, OSError.
    """
    from plt_tui.cli.files import run_files
    from plt_tui.config.load import from_toml
    from plt_tui.config.sources import read_text
    from plt_tui.views.tui.runs import OpenedRun

    readonly = readonly or not folder.is_live()

    async def connect() -> Source:
        return await source_of(folder, actor, readonly=readonly)

    config = from_toml(read_text(folder.config))
    return OpenedRun(name=name or folder.name, connect=connect, config=config, files=run_files(folder), readonly=readonly)


def open_cockpit(directory: Path) -> int:
    """Run the terminal UI on all runs under `directory` until it is left. Returns the exit code.

    Raises: UsageError where no run could be started: its configuration could not keep the folder's name.
    """
    from plt_tui.config.load import is_utf8
    from plt_tui.config.schema import UiSection
    from plt_tui.views.tui.app import RunApp

    if not is_utf8(directory):
        raise UsageError(
            f"--dir {directory}: not UTF-8, so no configuration can keep it; rename the folder, or use plt-tui ls and attach"
        )
    actor = f"tui {user_at_host()}"
    with at_terminal() as person:
        app = RunApp(ui=person.settings.over(UiSection()), actor=actor, runs=Shelf(directory, actor), person=person)
        app.run()
    return app.return_code or 0
