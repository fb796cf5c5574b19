"""The command line: one line at the bottom of the run screen that takes the verbs of `plt-tui ctl` and a few of the view's own.

Sends nothing: it returns what was asked for, and the screen that opened it acts. Decides nothing either: that is `completion`'s
and `commands_text`'s. Invariant: what is wrong with a line is said before Enter, and Enter on such a line does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.message import Message
from textual.widgets import Input, Static

from plt_tui.config.edits import live_edits
from plt_tui.protocol.text import safe_line
from plt_tui.views.commands_text import Asked, parse, told_before
from plt_tui.views.completion import MAX_CHARS, Around, Completion, completion, extended, hint, judge, recalled
from plt_tui.views.rewind import places
from plt_tui.views.tui.field import Field
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.screens.dialog import FOLLOW_S, Dialog
from plt_tui.views.tui.screens.knobs import NO_VALUES, typed_as
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES, Tone

WITHOUT_RANKS = ("resume", "stop")
"""Commands that a hibernated run takes."""
_WISHES = ("tab", "shift+tab", "up", "down")
_GAP = "  "
_VERDICTS: dict[str, tuple[str, Tone]] = {
    "empty": ("·", "muted"),
    "partial": ("…", "muted"),
    "good": ("⏎", "accent"),
    "wrong": ("✖", "bad"),
}
"""Glyph and tone of each kind of verdict."""
_EMPTY_WORDS = "tab completes · ↑ ↓ earlier lines · enter does it · esc back"


class ThemeChosen(Message):
    """Somebody wants other colours."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class CommandLine(Dialog[Asked]):
    """Returns what was asked for; `keep` is given the line that did."""

    DEFAULT_CSS = """
    CommandLine { align: left bottom; background: transparent; }
    CommandLine > Vertical { height: 3; background: $surface; }
    CommandLine #hint, CommandLine #verdict {
        height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; color: $text-muted;
    }
    CommandLine #verdict { background: $panel; }
    CommandLine Horizontal { height: 1; padding: 0 1; background: $surface; }
    CommandLine Horizontal Static { width: 1; color: $accent; text-style: bold; }
    CommandLine Input, CommandLine Input:focus { border: none; height: 1; padding: 0; background: $surface; width: 1fr; }
    """

    def __init__(self, around: Around, history: Sequence[str], keep: Callable[[str], None]) -> None:
        super().__init__()
        self._around = around
        self._history = tuple(history)
        self._keep = keep
        self._typed = ""
        """What the person wrote, to which the way back from earlier lines leads."""
        self._place = len(self._history)
        self._offered = Completion(start=0, options=())
        self._chosen = -1
        """Place of the option that tab has put into the line; -1: none."""

    def compose(self) -> ComposeResult:
        """What can be typed, the line, and what is to be said about it."""
        with Vertical():
            yield Block(id="hint")
            with Horizontal():
                yield Static(":", markup=False)
                wishes = {key: partial(self._take, key) for key in _WISHES}
                yield Field(compact=True, select_on_focus=False, max_length=MAX_CHARS, wishes=wishes)
            yield Block(id="verdict")

    def on_mount(self) -> None:
        """Follow the run, which goes on."""
        self.set_interval(FOLLOW_S, self._tell)
        self._offer()

    @property
    def _field(self) -> Input:
        return self.query_one(Input)

    @on(Input.Changed)
    def _changed(self) -> None:
        self._catch_up()

    def _catch_up(self) -> None:
        """Take note of what was typed since; who types fast is ahead of the messages about it."""
        if self._field.value != self._written():
            self._typed, self._place, self._chosen = self._field.value, len(self._history), -1
            self._offer()

    def _written(self) -> str:
        """What tab or the arrows have put into the line, or what was typed."""
        if self._chosen >= 0:
            return self._offered_line(self._chosen)
        return self._history[self._place] if self._place < len(self._history) else self._typed

    def _offered_line(self, place: int) -> str:
        return self._typed[: self._offered.start] + self._offered.options[place]

    def _offer(self) -> None:
        self._offered = completion(self._typed, self._around)
        self._tell()

    def _take(self, key: str) -> None:
        if key in ("tab", "shift+tab"):
            self._complete(1 if key == "tab" else -1)
        else:
            self._recall(-1 if key == "up" else 1)

    def _complete(self, direction: int) -> None:
        """Finish the word as far as it is certain; from there on walk through what it could be."""
        self._place = len(self._history)  # an earlier line is edited from here on
        self._catch_up()
        if not self._offered.options:
            return
        longer = extended(self._typed, self._offered)
        if self._chosen < 0 and longer != self._typed:
            self._typed = longer
            self._write(longer)
            self._offer()
            return
        first = 0 if direction > 0 else len(self._offered.options) - 1
        self._chosen = first if self._chosen < 0 else (self._chosen + direction) % len(self._offered.options)
        self._write(self._offered_line(self._chosen))
        self._tell()

    def _recall(self, direction: int) -> None:
        """Go to the next older or newer line that begins like what was typed."""
        self._catch_up()
        self._chosen = -1
        self._place = recalled(self._history, self._typed, self._place, direction)
        self._write(self._written())
        self._tell()

    def _write(self, text: str) -> None:
        self._field.value = text
        self._field.cursor_position = len(text)

    def _tell(self) -> None:
        text = self._field.value
        verdict = judge(text, self._around)
        glyph, tone = _VERDICTS[verdict.kind]
        words = safe_line(verdict.words or _EMPTY_WORDS).replace("->", "→")
        told = Content.assemble((f"{glyph} ", f"bold {STYLES[tone]}"), (words, STYLES[tone]))
        self.query_one("#verdict", Block).put([told])
        self.query_one("#hint", Block).put([self._hint(text)])

    def _hint(self, text: str) -> Content:
        """The syntax, or what could stand here where there is a choice."""
        options = self._offered.options
        if len(options) < 2:
            return Content(safe_line(hint(text, self._around)))
        syntax = safe_line(hint(self._typed, self._around)).split("  ·  ")[0]
        styles = ["bold $background on $accent" if place == self._chosen else "$accent" for place in range(len(options))]
        shown = [Content.styled(safe_line(option), style) for option, style in zip(options, styles, strict=True)]
        # What is chosen must be seen: the list begins with it, once it has been walked through a good way.
        shown = shown[max(0, self._chosen - 2) :]
        return Content(_GAP).join([Content(syntax), *shown] if syntax else shown)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        kind = judge(event.value, self._around).kind
        if kind == "empty":
            self.dismiss(None)
        elif kind == "good":
            self._keep(event.value.strip())
            self.dismiss(parse(event.value))
        else:
            self.app.bell()


def around(session: RunSession, themes: Sequence[str], resume_key: str) -> Around:
    """What the lines about a run are judged against."""

    def value(name: str) -> str:
        text = typed_as(name, session.model.state, session.config)
        return "" if text in NO_VALUES else text

    def steps() -> list[int]:
        keep = session.config.checkpoint.keep if session.config is not None else 1
        return [place.step for place in places(session.model.state, keep)]

    return Around(
        value=value,
        refusal=lambda verb: session.refusal(needs_ranks=verb not in WITHOUT_RANKS, resume_key=resume_key),
        effect=lambda asked: told_before(asked, session.config, session.model.state),
        steps=steps,
        edits=lambda: [edit.id for edit in live_edits(session.model.state.edits, session.model.state.step + 1)],
        themes=themes,
    )
