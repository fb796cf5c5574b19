"""A run from its files alone: for what has ended, and for a look at what a live run has on disk.

Writes nothing and asks no hub. Invariant: a finished run is told as a connection to it would have told it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from plt_tui.client.history import Evals, History
from plt_tui.client.picture import Picture
from plt_tui.control.folder import RunFolder, find_run
from plt_tui.control.record import crash_of, read_feed
from plt_tui.control.state import RunState
from plt_tui.protocol.text import safe_line


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class RunRecord:
    """What the files of a run say."""

    name: str
    state: RunState
    history: History
    """The steps of the line that the run is on."""
    evals: Evals
    """The evaluations of that line."""
    branches: Mapping[int, History]
    """The steps that rewinds left, by the numbers of `state.branches`."""

    def __repr__(self) -> str:
        return f"<RunRecord {told(self.name, self.state)}>"


def read_run(run: str | os.PathLike[str], directory: str | os.PathLike[str] = "runs") -> RunRecord:
    """The run called `run` (its name, a unique beginning of it, or its folder) under `directory`.

    Blocks: a million steps take some seconds.

    Raises: UsageError for a run that is not there; StorageError for files that cannot be read.
    """
    folder = find_run(Path(directory), os.fspath(run))
    picture = picture_of(folder)
    return RunRecord(
        name=folder.name,
        state=picture.state,
        history=picture.history,
        evals=picture.evals,
        branches=picture.branches,
    )


def picture_of(folder: RunFolder) -> Picture:
    """What the files in `folder` say; of a run whose hub died, that it did. Blocks. Raises: StorageError."""
    feed = read_feed(folder)
    crash = crash_of(folder, feed.state)
    if crash is not None:
        feed.publish(crash)
    return Picture.of(feed)


def told(name: str, state: RunState) -> str:
    """A run in one line: "quickstart: running, step 120 of 1000, loss 3.21"."""
    of = f" of {state.run.target_step}" if state.run is not None else ""
    loss = f", loss {state.last_step.loss:.4g}" if state.last_step is not None else ""
    return f"{safe_line(name)}: {state.phase}, step {state.step}{of}{loss}"
