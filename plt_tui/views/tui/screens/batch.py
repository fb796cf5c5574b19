"""The texts that a step trained on: what was in that spike?

They are read by a function that who opened the view gave, in a thread. Sends nothing.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Static

from plt_tui.errors import PltTuiError
from plt_tui.protocol.text import safe_line
from plt_tui.views.files import GaveUp, RunFiles, StepTexts, TrainedText
from plt_tui.views.formats import format_value
from plt_tui.views.model import RunModel
from plt_tui.views.rewind import counted
from plt_tui.views.tui.marks import branch_of, pointed_branch
from plt_tui.views.tui.panes.text_view import Passage, TextView
from plt_tui.views.tui.screens.dialog import Box, Dialog, copy_read, plain
from plt_tui.views.tui.words import ranks_words

MAX_SHOWN_CHARS = 400_000
"""Of all texts of a step together; of longer ones the ends are left out, each of them as much."""
MIN_SHOWN_CHARS = 200
"""Shown of each sequence at least."""
TELL_S = 0.1
"""How often the dialog tells how far the reading is."""


class BatchDialog(Dialog[None]):
    """One step's sequences, each under a line that says whose it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,b", "give_up", "close", show=False),
        Binding("left", "go(-1)", "step before", show=False, priority=True),
        Binding("right", "go(1)", "step after", show=False, priority=True),
        Binding("Y", "copy", "copy", show=False),
    ]
    DEFAULT_CSS = """
    BatchDialog > Box { width: 120; height: 90%; padding: 0 2; }
    BatchDialog #about { height: 1; text-wrap: nowrap; text-overflow: ellipsis; color: $text; text-style: bold; }
    BatchDialog #verdict { margin: 0 0 1 0; }
    BatchDialog TextView { height: 1fr; background: $surface; }
    """

    def __init__(self, files: RunFiles | None, model: RunModel, step: int, branch: int) -> None:
        """step, branch: what to begin with."""
        super().__init__()
        self._files = files
        self._model = model
        self._step, self._branch = step, branch
        self._progress = ""
        self._is_closed = False

    def compose(self) -> ComposeResult:
        """The step, what is said of it, its texts."""
        with Box("texts of a step", "↑ ↓ scroll · ← → other steps · Y copy · esc close"):
            yield plain("", id="about", classes="")
            yield plain("", id="verdict")
            yield TextView()

    def on_mount(self) -> None:
        """Begin to read."""
        self.query_one(TextView).focus()
        self.set_interval(TELL_S, self._tell)
        self._read()

    def on_unmount(self) -> None:
        """Let nothing go on for a dialog that is gone."""
        self._is_closed = True

    def action_go(self, direction: int) -> None:
        """Look at the step before or after."""
        self._step = max(1, self._step + direction)
        self._read()

    def action_copy(self) -> None:
        """Copy what is selected, else all texts."""
        copy_read(self, self.query_one(TextView))

    def _read(self) -> None:
        self.query_one("#about", Static).update(Content(about(self._model, self._step, self._branch)))
        self.query_one(TextView).show(())
        if self._files is None:
            self._say("this view has no access to the run's files", is_bad=True)
            return
        self._progress = "reading"
        self._tell()
        self.run_worker(self._fetch(self._files, self._step, self._branch), exclusive=True)

    async def _fetch(self, files: RunFiles, step: int, branch: int) -> None:
        """Read in a thread, and show what comes unless another step is wanted by then."""

        def tell(words: str) -> None:
            if not self._is_wanted(step):
                raise GaveUp
            self._progress = words

        try:
            found = await asyncio.to_thread(files.texts, step, branch, tell)
        except GaveUp:
            return
        except (PltTuiError, OSError) as error:
            self._progress = ""
            self._say(safe_line(str(error)), is_bad=True)
            return
        self._progress = ""
        self._say(counts(found))
        self.query_one(TextView).show(passages(found))

    def _is_wanted(self, step: int) -> bool:
        return not self._is_closed and step == self._step

    def _tell(self) -> None:
        if self._progress:
            self._say(f"{self._progress} …")

    def _say(self, words: str, *, is_bad: bool = False) -> None:
        verdict = self.query_one("#verdict", Static)
        verdict.update(Content(words))
        verdict.set_class(is_bad, "bad")


def wanted_step(model: RunModel, pointed: int | None) -> tuple[int, int]:
    """Step and branch to begin with: the step pointed at, else the newest spike's, else the newest; step 0: there is none."""
    if pointed is not None:
        return max(1, pointed), pointed_branch(model, pointed)
    spikes = model.state.spikes
    if spikes:
        return spikes[-1].step, branch_of(model.state, spikes[-1])
    return model.state.step, 0


def about(model: RunModel, step: int, branch: int, /) -> str:
    """The step and what was measured in it: "step 523 on branch 1 · loss 8.210 · gradient norm 12.10 · rate 0.00131"."""
    table = model.line(branch)
    parts = [f"step {step:,} on branch {branch}" if branch else f"step {step:,}"]
    row = table.row_of(step) if table is not None else None
    if table is not None and row is not None:
        values = {name: format_value(table.columns[name][row]) for name in ("loss", "grad_norm", "lr")}
        parts += [f"loss {values['loss']}", f"gradient norm {values['grad_norm']}", f"rate {values['lr']}"]
    return " · ".join(parts)


def counts(found: StepTexts) -> str:
    """What the guard said of the step, and how much text it is."""
    texts = found.sequences
    num_ranks = len({text.rank for text in texts})
    num_tokens = sum(text.num_tokens for text in texts)
    size = f"{counted(len(texts), 'sequence', 'sequences')}, {num_tokens:,} tokens, {ranks_words(num_ranks)}"
    return "\n".join([*found.spikes, size])


def passages(found: StepTexts) -> list[Passage]:
    """The sequences, cut where all of them together would be too long."""
    room = max(MIN_SHOWN_CHARS, MAX_SHOWN_CHARS // max(1, len(found.sequences)))
    return [Passage(_heading(text), _cut(text.text, room)) for text in found.sequences]


def _heading(text: TrainedText) -> str:
    parts = [f"rank {text.rank}", f"micro-step {text.micro_step}", f"sample {text.sample:,}", f"{text.num_tokens:,} tokens"]
    return " · ".join([*parts, f"corpus {text.corpus}"] if text.corpus else parts)


def _cut(text: str, room: int) -> str:
    hidden = len(text) - room
    return f"{text[:room]} … (+{hidden:,} characters)" if hidden > 0 else text
