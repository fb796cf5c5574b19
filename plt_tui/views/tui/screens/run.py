"""The run screen: routes keys to the run and to the board of panes.

Draws nothing itself and knows no protocol beyond the verbs. Invariant: every key gets an answer at once, and what it led to
is told when the run says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.widget import Widget

from plt_tui.config.alerts import AlertsSection
from plt_tui.config.edits import last_edit
from plt_tui.config.hyper import value_at
from plt_tui.config.schema import UiSection
from plt_tui.control.state import RunState
from plt_tui.errors import PltTuiError
from plt_tui.protocol.events import CommandStatus, End, Event, Phase, Spike
from plt_tui.protocol.notices import bounded
from plt_tui.protocol.text import safe_line
from plt_tui.views.commands_text import OWN_VERBS, Asked
from plt_tui.views.export import csv_pieces
from plt_tui.views.files import nowhere
from plt_tui.views.tui.alerts import Alarm, ring
from plt_tui.views.tui.driver import pace_at
from plt_tui.views.tui.field import TypingScreen
from plt_tui.views.tui.keys import BY_ID, KEYS, PANE_KEYS, On, typing_bindings
from plt_tui.views.tui.marks import point_words
from plt_tui.views.tui.pace import TICK_S
from plt_tui.views.tui.panes.bars import Answer, KeyBar, Refused
from plt_tui.views.tui.panes.board import Board
from plt_tui.views.tui.person import person_at, shown_key
from plt_tui.views.tui.screens.batch import BatchDialog, wanted_step
from plt_tui.views.tui.screens.command_line import CommandLine, ThemeChosen, around
from plt_tui.views.tui.screens.configuration import ConfigurationDialog
from plt_tui.views.tui.screens.dialog import Dialog, ResultT
from plt_tui.views.tui.screens.help import HelpScreen
from plt_tui.views.tui.screens.knobs import WANTED, KnobsDialog
from plt_tui.views.tui.screens.learning_rate import LearningRateDialog
from plt_tui.views.tui.screens.leave import LeaveChoice, LeaveDialog
from plt_tui.views.tui.screens.note import NoteDialog
from plt_tui.views.tui.screens.outcome import OutcomeDialog
from plt_tui.views.tui.screens.prompt import PromptDialog
from plt_tui.views.tui.screens.rewind import RewindDialog
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.takeaway import copy, picture, to_copy, written
from plt_tui.views.tui.words import Word, asked, spike_words, story_words

_WITHOUT_RANKS = ("resume", "stop")
"""Commands that a hibernated run takes."""


class RunScreen(TypingScreen):
    """One run, live or finished."""

    keys = KEYS
    BINDINGS = typing_bindings(KEYS, PANE_KEYS)
    CSS_PATH = "run.tcss"

    def __init__(
        self, session: RunSession, ui: UiSection, clock: Callable[[], float], close: Callable[[LeaveChoice], None]
    ) -> None:
        super().__init__()
        self.session = session
        self._close = close
        self._ui = ui
        self._clock = clock
        alerts = session.config.alerts if session.config is not None else AlertsSection()
        self._alarm = Alarm(alerts, session.name, time.monotonic())
        self._sent: set[str] = set()
        self._leaving: LeaveChoice | None = None

    def compose(self) -> ComposeResult:
        """The board, the answer line and the keys."""
        yield Board(self._ui.chart, person_at(self.app))
        yield Answer(id="answer")
        yield KeyBar(id="keys")

    def on_mount(self) -> None:
        """Draw first, connect then."""
        self.board.pace = pace_at(self.app._driver, low_bandwidth=self._ui.low_bandwidth)
        self.board.rearrange()
        self.board.chart.focus()
        self._alarm.attend(self, person_at(self.app).settings.ui.bell)
        self._say(Word("·", f"{shown_key(self.app, 'help')} shows all keys", "muted"))
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
            self._close(self._leaving)

    def _tell(self, event: Event) -> None:
        run = self.session.model.state.run
        word = story_words(event, run.world_size if run is not None else 0)
        if isinstance(event, End | Phase):
            self._say(Word(word.glyph, f"{word.text} · {shown_key(self.app, 'outcome')} tells how", word.tone))
        if isinstance(event, CommandStatus):
            by = f" · by {event.actor}" if event.id not in self._sent and event.actor else ""
            self._say(Word(word.glyph, safe_line(word.text + by), word.tone))
            if event.status != "refused":
                return
        call = self._alarm.hear(event, time.monotonic())
        if call.words:
            ring(self.app, call.words, os.environ)
        if not call.is_toasted:
            return
        severity = "error" if word.tone == "bad" else "warning" if word.tone == "warning" else "information"
        text = f"step {event.step}: {spike_words(event)}" if isinstance(event, Spike) else word.text
        self.notify(bounded(text), severity=severity, markup=False)  # type: ignore[arg-type]  # one of Textual's three words

    def _say(self, word: Word, *, is_whole: bool = False) -> None:
        self.query_one(Answer).say(word, is_whole=is_whole)

    # --- keys --------------------------------------------------------------------------------------------------------------

    async def action_perform(self, key_id: str) -> None:
        """The gate of all keys: run the entry's action, or say why not now."""
        self._alarm.touched(time.monotonic())
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
        refusal = self.session.refusal(needs_ranks=needs_ranks, resume_key=shown_key(self.app, "pause"))
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

    async def _open(self, dialog: Dialog[ResultT], then: Callable[[ResultT | None], Awaitable[None]] | None = None) -> None:
        """Open a dialog; only then is what was typed behind its key looked at."""
        await self.app.push_screen(dialog, then)
        dialog.begin()

    async def action_edit_lr(self) -> None:
        """Open the learning-rate dialog."""
        dialog = LearningRateDialog(lambda: self.session.model.state, self.session.config, self._ui.chart)
        await self._open(dialog, self._set)

    async def _set(self, args: dict[str, Any] | None) -> None:
        if args is not None:
            await self._send("set", args)

    async def action_edit_knobs(self) -> None:
        """Open the hyperparameter sheet."""
        await self._open(KnobsDialog(lambda: self.session.model.state, self.session.config), self._set_knob)

    async def _set_knob(self, args: dict[str, Any] | None) -> None:
        if args == WANTED["lr"]:
            await self.action_edit_lr()
        elif args == WANTED["prompt"]:
            await self.action_edit_prompt()
        else:
            await self._set(args)

    async def action_rewind(self) -> None:
        """Open the rewind dialog, which follows the run while it is open."""
        state, pointed = self.session.model.state, self.board.pointed
        is_behind = pointed is not None and pointed <= state.step
        dialog = RewindDialog(
            lambda: self.session.model.state, self.session.config, self._clock, pointed if is_behind else None
        )
        await self._open(dialog, self._rewind)

    async def _rewind(self, args: dict[str, Any] | None) -> None:
        if args is not None:
            await self._send("rewind", args)

    async def action_batch(self) -> None:
        """Open the texts of a step."""
        model = self.session.model
        step, branch = wanted_step(model, self.board.pointed)
        if step:
            await self._open(BatchDialog(self.session.files, model, step, branch))
        else:
            why = "no step was made yet" if model.is_live else "the run has not told of its steps yet"
            self._say(Word("·", f"texts: {why}", "muted"))

    async def action_configuration(self) -> None:
        """Open the page with the run's configuration."""
        await self._open(ConfigurationDialog(self.session.config, self.session.model.state))

    async def action_outcome(self) -> None:
        """Open the page that tells how the run ended, or how far it is."""
        await self._open(OutcomeDialog(self.session))

    async def action_edit_prompt(self) -> None:
        """Open the dialog with the prompt of the samples."""
        config, state = self.session.config, self.session.model.state
        prompt = str(value_at(config, state.edits, "prompt", state.step + 1)) if config is not None else ""
        await self._open(PromptDialog(prompt), self._set_prompt)

    async def _set_prompt(self, prompt: str | None) -> None:
        if prompt is not None:
            await self._send("set", {"name": "prompt", "value": prompt})
            # By name: at this very step boundary the edit is not in force yet.
            await self._send("sample", {"prompt": prompt})

    async def action_note(self) -> None:
        """Open the note dialog."""
        await self._open(NoteDialog(), self._note)

    async def _note(self, text: str | None) -> None:
        if text:
            await self._send("note", {"text": text})

    def action_detach(self) -> None:
        """Leave; the run is none the wiser."""
        self._close(LeaveChoice.ENDED if self.session.model.state.is_over else LeaveChoice.DETACH)

    async def action_leave(self) -> None:
        """Ask how to leave, where there is something to ask."""
        if self.session.refusal():
            self.action_detach()
        else:
            await self._open(LeaveDialog(), self._leave)

    async def _leave(self, choice: LeaveChoice | None) -> None:
        if choice is LeaveChoice.DETACH:
            self.action_detach()
        elif choice is not None:
            # The view stays to show the save; `tick` closes it when the run has ended.
            self._leaving = choice
            now = choice is LeaveChoice.STOP_NOW
            await self._send("stop", {"now": True} if now else {}, "stop without saving" if now else "save and stop")

    def on_board_pointed(self, event: Board.Pointed) -> None:
        """Tell of the step that is pointed at."""
        if event.step is None:
            self._say(Word("·", "no step is pointed at", "muted"))
        else:
            self._say(point_words(self.session.model, event.step), is_whole=True)

    def on_refused(self, event: Refused) -> None:
        """Every key gets an answer."""
        self._say(Word("✖", event.why, "warning"))

    async def action_command(self) -> None:
        """Open the command line."""
        person, themes = person_at(self.app), sorted(self.app.available_themes)
        seen = around(self.session, themes, shown_key(self.app, "pause"))
        await self._open(CommandLine(seen, person.history, person.lines.append), self._do)

    async def _do(self, asked_for: Asked | None) -> None:
        """Carry out a command line."""
        if asked_for is None:
            return
        own, args = OWN_VERBS.get(asked_for.verb), dict(asked_for.args)
        if own is not None and own.key:
            await self.action_perform(own.key)
        elif asked_for.verb == "export":
            self.action_export_csv(args["path"])
        elif asked_for.verb == "theme":
            self.post_message(ThemeChosen(args["name"]))
        elif asked_for.verb == "goto":
            self.board.point_at(args["step"])
        elif asked_for.verb == "undo" and not args:
            await self.action_undo()  # by its id: another one can come in between
        else:
            await self._send(asked_for.verb, args)

    def _keep(self, what: str, write: Callable[[], Path]) -> None:
        """Let a thread write a file, and tell where it is."""

        async def keep() -> None:
            word = await written(what, write)
            self._say(word)
            self.notify(word.text, severity="error" if word.tone == "bad" else "information", markup=False)

        self._say(Word("◌", f"{what} being written …", "accent"))
        self.run_worker(keep(), name="keep")

    def action_screenshot(self) -> None:
        """Keep a picture of the screen."""
        keep = self.session.files.keep if self.session.files is not None else nowhere
        self._keep("picture", partial(keep, "screen.svg", [picture(self.app)]))

    def action_export_csv(self, typed: str = "") -> None:
        """Keep all steps and evaluations, beside the run or where somebody wants them."""
        files = self.session.files
        write = nowhere if files is None else files.save_as if typed else files.keep
        self._keep("numbers", partial(write, typed or "steps.csv", csv_pieces(self.session.model)))

    def action_copy(self) -> None:
        """Copy what matters most here."""
        text, words = to_copy(self.session, self.get_selected_text() or "", self.board.pointed, self._clock())
        copy(self.app, text, os.environ)
        self._say(Word("✔", f"copied: {words}", "good"))

    def action_look_at(self, pane: str) -> None:
        """Go to a pane."""
        self.board.look_at(pane)

    async def action_help(self) -> None:
        """Show all keys."""
        await self._open(HelpScreen())

    def action_palette(self) -> None:
        """Open the command palette."""
        self.app.action_command_palette()


def _is_held(state: RunState) -> bool:
    """True when the run is paused, hibernated or about to be: `p` then resumes it. What was done is told by the phase."""
    holding, on_its_way = ("pause", "hibernate", "resume"), ("requested", "agreed")
    asked_for = [status.name for status in state.commands if status.name in holding and status.status in on_its_way]
    return asked_for[-1] != "resume" if asked_for else state.phase in ("paused", "hibernated")
