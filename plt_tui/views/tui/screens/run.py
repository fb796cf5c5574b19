"""The run screen: routes keys to the run and to the board of panes.

Draws nothing itself and knows no protocol beyond the verbs. Invariant: every key gets an answer at once, and what it led to
is told when the run says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget

from plt_tui.config.edits import last_edit
from plt_tui.config.schema import UiSection
from plt_tui.control.state import RunState
from plt_tui.errors import PltTuiError
from plt_tui.protocol.events import CommandStatus, Event, Spike
from plt_tui.protocol.text import safe_line
from plt_tui.views.tui.keys import BY_ID, KEYS, On, bindings
from plt_tui.views.tui.panes.bars import Answer, KeyBar
from plt_tui.views.tui.panes.board import Board
from plt_tui.views.tui.screens.help import HelpScreen
from plt_tui.views.tui.screens.knobs import RATE_WANTED, KnobsDialog
from plt_tui.views.tui.screens.learning_rate import LearningRateDialog
from plt_tui.views.tui.screens.leave import LeaveChoice, LeaveDialog
from plt_tui.views.tui.screens.note import NoteDialog
from plt_tui.views.tui.screens.rewind import RewindDialog
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import Word, asked, spike_words, story_words

TICK_S = 0.25
_WITHOUT_RANKS = ("resume", "stop")
"""Commands that a hibernated run takes."""


class RunScreen(Screen[None]):
    """One run, live or finished."""

    BINDINGS = bindings()
    CSS_PATH = "run.tcss"

    def __init__(self, session: RunSession, ui: UiSection, clock: Callable[[], float]) -> None:
        super().__init__()
        self.session = session
        self._ui = ui
        self._clock = clock
        self._sent: set[str] = set()
        self._leaving: LeaveChoice | None = None

    def compose(self) -> ComposeResult:
        """The board, the answer line and the keys."""
        yield Board(self._ui.chart)
        yield Answer(id="answer")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Draw first, connect then."""
        self.board.rearrange()
        self.board.chart.focus()
        self._say(Word("·", "? shows all keys", "muted"))
        self.set_interval(TICK_S, self.tick)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.tick()
        self.run_worker(self.session.follow(), name="follow")

    @property
    def board(self) -> Board:
        """The panes."""
        return self.query_one(Board)

    def tick(self) -> None:
        """Tell the news and redraw what changed."""
        for event in self.session.model.take_news():
            self._tell(event)
        self.board.draw(self.session, self._clock())
        self.query_one(KeyBar).show(refused=self.refused_keys(), is_held=_is_held(self.session.model.state))
        if self._leaving is not None and (self.session.model.state.is_over or self.session.link == "closed"):
            self.app.exit(self._leaving)

    def _tell(self, event: Event) -> None:
        word = story_words(event)
        if isinstance(event, CommandStatus):
            by = f" · by {event.actor}" if event.id not in self._sent and event.actor else ""
            self._say(Word(word.glyph, safe_line(word.text + by), word.tone))
            if event.status != "refused":
                return
        severity = "error" if word.tone == "bad" else "warning" if word.tone == "warning" else "information"
        text = f"step {event.step}: {spike_words(event)}" if isinstance(event, Spike) else word.text
        self.notify(text, severity=severity, markup=False)  # type: ignore[arg-type]  # one of Textual's three words

    def _say(self, word: Word) -> None:
        self.query_one(Answer).say(word)

    # --- keys --------------------------------------------------------------------------------------------------------------

    async def action_perform(self, key_id: str) -> None:
        """The gate of all keys: run the entry's action, or say why not now."""
        key = BY_ID[key_id]
        if key.when == "always" or self._may_steer(key.label, needs_ranks=key.when == "awake"):
            if key.on in ("logs", "samples"):
                self.board.look_at(key.on)
            await self.target(key.on).run_action(key.action)

    def target(self, on: On) -> Widget:
        """Whose actions keys of `on` are."""
        match on:
            case "screen":
                return self
            case "board":
                return self.board
            case "chart":
                return self.board.chart
            case "logs":
                return self.board.logs
            case "samples":
                return self.board.samples

    def refused_keys(self) -> frozenset[str]:
        """Ids of the keys that would be answered with why not."""
        whens = {"steer": self.session.refusal(), "awake": self.session.refusal(needs_ranks=True)}
        return frozenset(key.id for key in KEYS if whens.get(key.when))

    def _may_steer(self, what: str, *, needs_ranks: bool) -> bool:
        """True when a command can be sent; otherwise says why not."""
        refusal = self.session.refusal(needs_ranks=needs_ranks)
        if refusal:
            self._say(Word("✖", f"{what}: {refusal}", "warning"))
            self.notify(refusal, title=what, severity="warning", markup=False)
        return not refusal

    async def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        """A click on the key bar is a press."""
        await self.action_perform(event.key_id)

    async def action_steer(self, name: str) -> None:
        """Send a command without arguments."""
        await self._send(name, {})

    async def _send(self, name: str, args: dict[str, Any], words: str = "") -> None:
        what = words or asked(name, args)
        if not self._may_steer(what, needs_ranks=name not in _WITHOUT_RANKS):  # a dialog can outlive the run
            return
        self._say(Word("◌", f"{what} requested …", "accent"))
        try:
            command = await self.session.send(name, args)
            self._sent.add(command.id)
        except PltTuiError as error:
            self._say(Word("✖", f"{what} not sent: {safe_line(str(error))}", "bad"))
            self.notify(safe_line(str(error)), severity="error", markup=False)

    async def action_toggle_pause(self) -> None:
        """Pause, or resume what is paused."""
        await self._send("resume" if _is_held(self.session.model.state) else "pause", {})

    async def action_undo(self) -> None:
        """Take the last edit back, naming it."""
        edit = last_edit(self.session.model.state.edits)
        if edit is None:
            self._say(Word("·", "nothing to undo: no edit is in force", "muted"))
            return
        what = asked("set", {"name": edit.name, "value": edit.value, "mode": edit.mode})
        await self._send("undo", {"edit": edit.id}, f"undo of {what}")

    def action_edit_lr(self) -> None:
        """Open the learning-rate dialog."""
        dialog = LearningRateDialog(lambda: self.session.model.state, self.session.config, self._ui.chart)
        self.app.push_screen(dialog, self._set)

    async def _set(self, args: dict[str, Any] | None) -> None:
        if args is not None:
            await self._send("set", args)

    def action_edit_knobs(self) -> None:
        """Open the hyperparameter sheet."""
        dialog = KnobsDialog(lambda: self.session.model.state, self.session.config)
        self.app.push_screen(dialog, self._set_knob)

    async def _set_knob(self, args: dict[str, Any] | None) -> None:
        if args == RATE_WANTED:
            self.action_edit_lr()
        else:
            await self._set(args)

    def action_rewind(self) -> None:
        """Open the rewind dialog, which follows the run while it is open."""
        dialog = RewindDialog(lambda: self.session.model.state, self.session.config, self._clock)
        self.app.push_screen(dialog, self._rewind)

    async def _rewind(self, args: dict[str, Any] | None) -> None:
        if args is not None:
            await self._send("rewind", args)

    def action_note(self) -> None:
        """Open the note dialog."""
        self.app.push_screen(NoteDialog(), self._note)

    async def _note(self, text: str | None) -> None:
        if text:
            await self._send("note", {"text": text})

    def action_detach(self) -> None:
        """Leave; the run is none the wiser."""
        self.app.exit(LeaveChoice.ENDED if self.session.model.state.is_over else LeaveChoice.DETACH)

    def action_leave(self) -> None:
        """Ask how to leave, where there is something to ask."""
        if self.session.refusal():
            self.action_detach()
        else:
            self.app.push_screen(LeaveDialog(), self._leave)

    async def _leave(self, choice: LeaveChoice | None) -> None:
        if choice is LeaveChoice.DETACH:
            self.action_detach()
        elif choice is not None:
            # The view stays to show the save; `tick` closes it when the run has ended.
            self._leaving = choice
            now = choice is LeaveChoice.STOP_NOW
            await self._send("stop", {"now": True} if now else {}, "stop without saving" if now else "save and stop")

    def action_look_at(self, pane: str) -> None:
        """Go to a pane."""
        self.board.look_at(pane)

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen())

    def action_palette(self) -> None:
        """Open the command palette."""
        self.app.action_command_palette()


def _is_held(state: RunState) -> bool:
    """True when the run is paused, hibernated or about to be: `p` then resumes it."""
    holding = ("pause", "hibernate", "resume")
    asked_for = [status.name for status in state.commands if status.name in holding and status.status != "refused"]
    return asked_for[-1] != "resume" if asked_for else state.phase in ("paused", "hibernated")
