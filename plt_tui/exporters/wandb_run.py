"""Exporter for Weights & Biases: one run there for one run here, over restarts of the exporter and sessions of the run.

Each row is logged under its number in our record (`_step`), which only grows; charts have `step` as their x axis. So a rewind
draws its steps anew over the old ones, and W&B's server knows a row that comes once more behind a crash. Offline nobody does,
so nothing is handed to W&B before `flush`: what a killed exporter had not flushed is not there. Online the server may lack what
was flushed; then all is given once more, and what it has is left out. Knows nothing of keys: the wandb package finds them
where `wandb login` left them, or in WANDB_API_KEY.
Invariant: the id at W&B is the run's own, so whoever exports it again goes on in the same run.
"""

from __future__ import annotations

import html
import io
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from plt_tui.errors import UsageError
from plt_tui.exporters.base import ExportTarget, Row, RunFacts, StartOver, Waiting, eval_values, needs
from plt_tui.exporters.notes import Note, note_of
from plt_tui.exporters.parameters import described
from plt_tui.protocol.events import End, Eval, Event, Run
from plt_tui.protocol.text import safe_line

ENVIRONMENT = {"WANDB_ERROR_REPORTING": "false", "WANDB_FINISH_TIMEOUT": "20"}
"""What the environment says instead is left as it is. Reports of errors would go to W&B even from a run that is kept offline;
and a server that does not answer at the end would be waited for without limit."""
WRITE_S = 0.25
"""How often wandb's own process writes to its disk what it has been given."""
FLUSH_S = 20.0
"""Longest wait for that: it may get no time on a machine where ranks train."""
SETTINGS: dict[str, Any] = {
    "console": "off",  # what the exporter prints is no output of the run
    "quiet": True,
    "show_colors": False,
    "show_emoji": False,
    "symlink": False,
    "save_code": False,
    "disable_code": True,
    "disable_git": True,
    "label_disable": True,
    "finish_timeout_raises": True,
    "x_transaction_log_flush_interval": WRITE_S,
    "x_disable_meta": True,  # program, arguments, user and machine of the exporter, not of the run
    "x_disable_stats": True,
    "x_save_requirements": False,
}
SERIES = ("train/*", "eval/*", "tokens")
LEVELS = {"info": "INFO", "warning": "WARN", "error": "ERROR"}
MAX_TITLE_CHARS = 63
"""W&B: "must be less than 64 characters long"."""


class WandbExporter:
    """Logs to W&B through the `wandb` package, online or (WANDB_MODE=offline) into files for `wandb sync`."""

    def __init__(self, target: ExportTarget) -> None:
        self._target = target
        self._step = 0
        self._place = 0
        """The `_step` that was logged last."""
        self._first = 0
        """W&B has everything before this `_step`, and would warn of each row that it is given again."""
        self._wandb: Any = None
        self._run: Any = None
        self._waiting = Waiting()
        """Calls of W&B, in order, that `flush` makes."""
        self._flushed = (0, 0)
        """The place behind the last flush, and the size of wandb's file then."""

    def open(self, run: RunFacts) -> None:
        """Begin or resume the run of this id. Raises: UsageError without a package or a key that is taken; wandb's errors."""
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)  # before the import, which reads them
        os.environ.pop("WANDB_SERVICE", None)  # of a process that started us: it would end with it
        self._wandb = needs("wandb", "wandb", "wandb")
        self._step = run.step
        self._target.directory.mkdir(parents=True, exist_ok=True)
        try:
            self._run = self._started(run)
        except (self._wandb.errors.UsageError, self._wandb.errors.AuthenticationError) as error:
            refusal = safe_line(str(error)).rstrip(".")
            raise UsageError(
                f"W&B refuses: {refusal}; run `wandb login`, set WANDB_API_KEY, or keep the run on this machine with "
                "WANDB_MODE=offline"
            ) from error
        self._first = self._run.starting_step
        self._look_for_gaps(run)
        self._run.define_metric("step", hidden=True)
        for series in SERIES:
            self._run.define_metric(series, step_metric="step")

    def _started(self, run: RunFacts) -> Any:
        """A run of the wandb package. WANDB_PROJECT, WANDB_NAME and WANDB_DIR win over what we would choose."""
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT") or self._target.project,
            name=os.environ.get("WANDB_NAME") or run.name,
            dir=os.environ.get("WANDB_DIR") or str(self._target.directory.resolve()),
            id=run.id,
            resume="allow",
            config=described(run.run),
            allow_val_change=True,
            settings=self._wandb.Settings(**SETTINGS),
        )

    def _look_for_gaps(self, run: RunFacts) -> None:
        """Raises: StartOver when W&B's server lacks rows that were flushed: wandb's process, which sends them, was killed."""
        flushed = int(self._target.kept.get("place", "0"))
        if run.is_new or self._run.offline or not flushed or self._first > flushed:
            return
        self._run.finish(exit_code=1)
        raise StartOver(f"W&B has the run up to line {self._first - 1} of its record, not {flushed}")

    def metrics(self, rows: Sequence[Row]) -> None:
        """Take rows, each a line of the history, for the next `flush`."""
        for row in rows:
            self._log(row.seq, row.step, row.time, row.values)
            self._step = row.step

    def event(self, event: Event) -> None:
        """Evaluations and samples join the history, alerts become alerts, other notes lines of the Logs tab."""
        if isinstance(event, Run):
            self._waiting.add(partial(self._run.config.update, described(event), allow_val_change=True))
        if event.seq < self._first:
            return
        if isinstance(event, Eval):
            self._log(event.seq, event.step, event.time, eval_values(event))
        if note := note_of(event, self._step):
            self._tell(note, event.seq)

    def _tell(self, note: Note, seq: int) -> None:
        if note.kind == "sample":
            page = io.StringIO(f"<pre style='white-space: pre-wrap'>{html.escape(note.text)}</pre>")
            self._log(seq, note.step, note.time, {"sample": self._wandb.Html(page, inject=False)})
        elif note.kind == "alert":
            title = note.title[:MAX_TITLE_CHARS]
            self._waiting.add(partial(self._run.alert, title=title, text=note.text, level=LEVELS[note.level]))
        else:
            self._waiting.add(partial(self._run.write_logs, f"{note.title}: {note.text}" if note.text else note.title))

    def _log(self, seq: int, step: int, at: float, values: Any) -> None:
        if seq < self._first:
            return
        self._place = max(self._place + 1, seq)  # a line that waited for a full disk comes late, with a low number
        self._waiting.add(partial(self._run.log, {"step": step, "_timestamp": at, **values}, step=self._place, commit=True))

    def flush(self) -> None:
        """Hand everything to wandb's own process, and wait until it has written it to its disk. Raises: TimeoutError."""
        self._waiting.hand_over()
        _ = self._run.step  # a question that is answered behind all that was said before
        self._flushed = (self._place, self._written_bytes())
        self._target.keep("place", str(self._place))

    def _written_bytes(self) -> int:
        """Size of wandb's file, once it holds all: there is nothing to ask, but it grows for new rows and then stands still.

        Raises: TimeoutError.
        """
        place, before = self._flushed
        deadline, known = time.monotonic() + FLUSH_S, -1
        while True:
            size = _size(Path(self._run.settings.sync_file))
            if size == known and (size > before or self._place == place):
                return size
            if time.monotonic() > deadline:
                raise TimeoutError(f"wandb's process has not written what it was given {FLUSH_S:.0f} s ago")
            known = size
            time.sleep(2 * WRITE_S)

    def close(self, end: End | None) -> None:
        """Finish the run, and tell where its files lie if W&B is offline.

        Raises: TimeoutError when the server has not taken everything after WANDB_FINISH_TIMEOUT seconds.
        """
        if end is not None:
            self.event(end)
            self._run.summary.update({"phase": end.phase, "weights_sha256": end.weights_sha256})
        self._waiting.hand_over()
        try:
            self._run.finish(exit_code=_exit_code(end))
        except TimeoutError:
            raise TimeoutError("W&B's server has not taken everything; export the run once more when it answers") from None
        if self._run.offline:  # goes to the log of the exporter, or to whoever waits for an export
            print(f"W&B is offline; to upload this: wandb sync {self._run.settings.sync_dir}", flush=True)  # noqa: T201


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _exit_code(end: End | None) -> int:
    """What W&B makes of a run: 0 is "finished", which a stop by a person is too; anything else is "failed"."""
    if end is None:
        return 1
    return end.exit_code if end.phase == "failed" else 0
