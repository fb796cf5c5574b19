"""The lines at the edges: standing alerts and the outcome, the last answer to a key, and the keys themselves.

Invariant: the answer line tells the newest thing only; whatever must not be missed is an alert or a toast as well.
"""

from __future__ import annotations

from collections.abc import Collection

from textual.content import Content
from textual.events import Click
from textual.message import Message

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Failed
from plt_tui.views.tui.keys import KEY_GAP, KEYS, Key, footer
from plt_tui.views.tui.layout import WIDE_HEIGHT
from plt_tui.views.tui.outcome import cause_of, newest_checkpoint, resume_command
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.person import keys_in_force, shown_key
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES, Word, one_line, story_words

MARGIN_CELLS = 2
TAIL_LINES, TAIL_LINES_COMPACT = 6, 3
"""Last log lines shown of the rank that failed first; fewer on a low screen."""
ANSWER_LINES = 3
"""Most lines of an answer that is told whole."""


class Banner(Block):
    """What stands: alerts, why there is no connection, how the run ended and what to do next. Empty: not seen."""

    DEFAULT_CSS = """
    Banner { height: auto; max-height: 12; padding: 0 1; background: $surface; }
    """

    def show(self, session: RunSession) -> None:
        """Draw what stands now."""
        tail_lines = TAIL_LINES if self.app.size.height >= WIDE_HEIGHT else TAIL_LINES_COMPACT
        width, more = self.app.size.width - MARGIN_CELLS, f"{shown_key(self.app, 'outcome')} tells all"
        told = _outcome(session, tail_lines, width=width, more=more, resume_key=shown_key(self.app, "pause"))
        found = [*told, *_alerts(session.model.state)]
        self.display = bool(found)
        self.put(found)


def _alerts(state: RunState) -> list[Content]:
    words = [story_words(alert) for alert in state.alerts.values()]
    return [Content.styled(f"{word.glyph} {word.text}", f"bold {STYLES[word.tone]}") for word in words]


def _outcome(session: RunSession, tail_lines: int, *, width: int, more: str, resume_key: str) -> list[Content]:
    """`more`: which key tells the rest, behind the last command."""
    state, name = session.model.state, session.name
    if not state.is_over:
        way_back = "to bring it back" if session.is_readonly else f"{resume_key} brings it back, and so does"
        asleep = _next(f"hibernated; {way_back}", session.typed(f"plt-tui ctl {name} resume"), width)
        lost = [Content.styled(f"✖ {session.trouble}", f"bold {STYLES['bad']}")]
        return lost if session.trouble else asleep if state.phase == "hibernated" else []
    if state.phase == "finished":
        return _next("target reached; for the whole story", session.typed(f"plt-tui show {name}"), width, more)
    cause, saved = cause_of(session.model), newest_checkpoint(state)
    failure = _failure(cause, tail_lines) if cause is not None else []
    where = f"to go on at step {saved.step:,}" if saved is not None else "nothing was saved; to begin again"
    return [*failure, *_next(where, session.typed(resume_command(name)), width, more)]


def _next(what: str, command: str, width: int, more: str = "") -> list[Content]:
    """What a command line is for, and the line whole: below, where beside there is no room for it."""
    head = Content.styled(f"{what}: ", STYLES["muted"])
    line = Content.assemble((command, "bold"), (f"  {more}" if more else "", STYLES["muted"]))
    return [head + line] if head.cell_length + line.cell_length <= width else [head, line]


def _failure(failure: Failed, tail_lines: int) -> list[Content]:
    first = Content.styled(story_words(failure).text, f"bold {STYLES['bad']}")
    tail = [Content.styled(f"  {one_line(line)}", STYLES["muted"]) for line in failure.log_tail[-tail_lines:]]
    return [first, *tail]


class Refused(Message):
    """What a key asked for cannot be done, and why."""

    def __init__(self, why: str) -> None:
        super().__init__()
        self.why = why


class Answer(Block):
    """The answer to the last key: on one line, or whole where somebody wants to read it."""

    DEFAULT_CSS = """
    Answer { height: auto; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._said, self._is_whole = Content(""), False

    def say(self, word: Word, *, is_whole: bool = False) -> None:
        """Show `word` until the next one; `is_whole`: on up to ANSWER_LINES lines. What has no room ends in an ellipsis."""
        self._said = Content.assemble((f"{word.glyph} ", f"bold {STYLES[word.tone]}"), (word.text, STYLES[word.tone]))
        self._is_whole = is_whole
        self._lay_out()

    def on_resize(self) -> None:
        """Another width wraps otherwise."""
        self._lay_out()

    def _lay_out(self) -> None:
        width = self.app.size.width - MARGIN_CELLS
        self.put(first_lines(self._said, width, ANSWER_LINES) if self._is_whole else [self._said])


def first_lines(text: Content, width: int, count: int) -> list[Content]:
    """`text` wrapped to `width` cells, on at most `count` lines, the last of which ends in an ellipsis where there is more."""
    lines = text.wrap(max(1, width))
    last = Content(" ").join(lines[count - 1 : count + 1])
    return [*lines[: count - 1], last.truncate(width, ellipsis=True)] if len(lines) > count else lines


class KeyBar(Block):
    """The most used keys; a click presses one."""

    DEFAULT_CSS = """
    KeyBar { height: 1; padding: 0 1; background: $panel; }
    """

    def __init__(self, keys: tuple[Key, ...] = KEYS, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._keys = keys
        self._shown: tuple[object, ...] = ()

    class Pressed(Message):
        """A key was clicked."""

        def __init__(self, key_id: str) -> None:
            super().__init__()
            self.key_id = key_id

    def show(self, *, refused: Collection[str], is_held: bool) -> None:
        """Draw the keys that fit; those whose id is in `refused` are dimmed."""
        fitting = footer(self.content_size.width, keys_in_force(self.app, self._keys))
        shown = (*fitting, frozenset(refused), is_held)
        if shown == self._shown:  # asked at every tick, and texts are dear
            return
        self._shown = shown
        cells = []
        for key in fitting:
            label = "resume" if key.id == "pause" and is_held else key.label
            styles = (STYLES["muted"], STYLES["muted"]) if key.id in refused else (f"bold {STYLES['accent']}", STYLES["normal"])
            cells.append(Content.assemble((key.shown, styles[0]), (f" {label}", styles[1])))
        self.put([Content(KEY_GAP).join(cells)])

    def on_click(self, event: Click) -> None:
        """Press the key under the pointer."""
        offset = event.get_content_offset(self)
        place = offset.x if offset is not None else -1
        for key in footer(self.content_size.width, keys_in_force(self.app, self._keys)) if place >= 0 else []:
            place -= len(key.shown) + 1 + len(key.label) + len(KEY_GAP)
            if place < 0:
                self.post_message(self.Pressed(key.id))
                return
