"""A run's files as a view asks for them: its last words, its logs, the texts of a step.

Writes nothing. Invariant: nothing here prints; what goes wrong is raised, and what takes long is told to who asked.
"""

from __future__ import annotations

import sys
from functools import partial, reduce
from itertools import chain
from typing import TYPE_CHECKING

from plt_tui.cli.batch import TrainedOn, read_batch, spike_text
from plt_tui.cli.data import marked_text
from plt_tui.cli.keep import keep, save_as

if TYPE_CHECKING:
    from collections.abc import Sequence

    from plt_tui.control.folder import RunFolder
    from plt_tui.control.state import RunState
    from plt_tui.plugins import Plugins
    from plt_tui.protocol.events import Event, Logs
    from plt_tui.views.files import RunFiles, StepTexts, Tell, TrainedText

LOG_LINES = 20_000
"""Most last lines of each log file of a run that has ended; of a live one a hub tells as many of all files together."""


def run_files(folder: RunFolder, plugins: Sequence[str] = ()) -> RunFiles:
    """What a view of the run in `folder` may ask for; `plugins`: the files given as `--plugin`."""
    from plt_tui.plugins import Plugins
    from plt_tui.views.files import RunFiles

    return RunFiles(
        last_words=partial(last_words, folder),
        texts=partial(step_texts, folder, Plugins(tuple(plugins))),
        keep=partial(keep, folder.path),
        save_as=save_as,
    )


def last_words(folder: RunFolder, state: RunState, seq: int, has_history: bool) -> list[Event] | None:
    """What the record says beyond `state` and the event of number `seq`, and that the run has crashed if it has.

    None while somebody holds the run. has_history: `state` was told to its end; without it every step is given again.
    Raises: StorageError.
    """
    from plt_tui.control.feed import Cursor
    from plt_tui.control.record import crash_of, read_feed, read_since
    from plt_tui.control.state import apply

    if folder.is_live():
        return None
    if has_history:
        events = read_since(folder, seq)
    else:
        whole, _ = read_feed(folder).read(Cursor())
        events = [event for event in whole if not 0 < event.seq <= seq]
    crash = crash_of(folder, reduce(apply, events, state))
    return events if crash is None else [*events, _hub_log(folder), crash]


def recorded_logs(folder: RunFolder) -> Logs:
    """The last lines of all logs of a run that has ended, by time, and how many there are before them."""
    from plt_tui.control.logs import lines_before, recorded_lines
    from plt_tui.protocol.events import Logs

    files = sorted(folder.logs.glob("*.log"))
    told = {path: recorded_lines(path, path.stem.replace("-", " "), LOG_LINES) for path in files}
    dropped = sum(lines_before(path, len(lines)) for path, lines in told.items())
    return Logs(lines=sorted(chain.from_iterable(told.values()), key=lambda line: float(line[0])), dropped=dropped)


def _hub_log(folder: RunFolder) -> Logs:
    """The last lines of the hub's own log, which no hub tells: why it died may stand there."""
    from plt_tui.control.logs import recorded_lines
    from plt_tui.protocol.events import Logs

    return Logs(lines=recorded_lines(folder.logs / "hub.log", "hub", LOG_LINES))


def step_texts(folder: RunFolder, plugins: Plugins, step: int, branch: int, tell: Tell) -> StepTexts:
    """What `step` of `branch` trained on. Raises: as `read_batch`, and what `tell` raises."""
    from plt_tui.protocol.text import safe_line
    from plt_tui.views.files import StepTexts

    def report(task: str, done: float, total: float, unit: str) -> None:
        tell(f"{task} {done / total:.0%}" if total else f"{task} {done:,.0f} {unit}")

    batch = read_batch(folder, step, branch, plugins, report)
    tell("decoding")
    has_several = len(batch.dataset.train) > 1
    return StepTexts(
        step=step,
        branch=branch,
        spikes=tuple(safe_line(spike_text(spike)) for spike in batch.spikes),
        sequences=tuple(
            _text(row, marked_text(batch.dataset.tokenizer, row.ids), with_corpus=has_several) for row in batch.rows
        ),
    )


def _text(row: TrainedOn, text: str, *, with_corpus: bool) -> TrainedText:
    from plt_tui.protocol.text import safe_line, safe_text
    from plt_tui.views.files import TrainedText

    return TrainedText(
        rank=row.rank,
        micro_step=row.micro_step,
        sample=row.sample,
        corpus=safe_line(row.corpus) if with_corpus else "",
        num_tokens=len(row.ids),
        text=safe_text(text, sys.maxsize),
    )
