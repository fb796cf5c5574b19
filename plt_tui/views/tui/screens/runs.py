"""The screen of all runs: which there are, how far they are, and the way into one of them or into a comparison.

Opens no file: what it shows comes from a `RunsPort`, asked in a thread, and not while another screen covers this one.
Invariant: looking again and again costs at most LOOK_SHARE of a core as long as LONGEST_LOOK_S allows it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

from textual import events, on
from textual.app import ComposeResult
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input
from textual.worker import Worker, get_current_worker

from plt_tui.config.schema import UiSection
from plt_tui.errors import PltTuiError
from plt_tui.protocol.text import safe_line
from plt_tui.views.compare import MAX_LINES
from plt_tui.views.tui.driver import pace_at
from plt_tui.views.tui.field import Field, TypingScreen
from plt_tui.views.tui.keys import typing_bindings
from plt_tui.views.tui.meters import spread
from plt_tui.views.tui.pace import TICK_S, Pace
from plt_tui.views.tui.panes.bars import Answer, KeyBar
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.panes.run_table import RunTable
from plt_tui.views.tui.person import person_at, shown_key
from plt_tui.views.tui.runs import Look, OpenedRun, Order, RunRow, RunsPort, arranged, counted_words, to_compare
from plt_tui.views.tui.runs_keys import RUNS_KEYS
from plt_tui.views.tui.screens.compare import CompareScreen
from plt_tui.views.tui.screens.help import HelpScreen
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.screens.new_run import NewRunScreen
from plt_tui.views.tui.screens.run import RunScreen
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import STYLES, Word

LOOK_S, FRUGAL_LOOK_S, LONGEST_LOOK_S = 2.0, 10.0, 30.0
"""Least seconds between two looks at the folder, the same where bytes are dear, and most."""
LOOK_SHARE = 0.01
_ON_A_RUN = frozenset({"runs_open", "runs_mark", "runs_compare"})
"""Keys that need a run under the cursor."""


def pause_s(cost_s: float, *, is_frugal: bool = False) -> float:
    """How long to wait after a look that took `cost_s` seconds of a core; `is_frugal`: bytes to the terminal are dear."""
    return min(LONGEST_LOOK_S, max(FRUGAL_LOOK_S if is_frugal else LOOK_S, cost_s / LOOK_SHARE))


class RunsScreen(TypingScreen):
    """All runs of one folder."""

    keys = RUNS_KEYS
    BINDINGS = typing_bindings(RUNS_KEYS)
    DEFAULT_CSS = """
    RunsScreen { background: $background; }
    RunsScreen #runs-head { height: 1; padding: 0 1; background: $panel; }
    RunsScreen #runs-about { height: 2; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
    RunsScreen Input, RunsScreen Input:focus { border: none; height: 1; padding: 0 1; background: $boost; }
    RunsScreen Input { display: none; }
    RunsScreen.-filtering Input { display: block; }
    """

    class Seen(Message):
        """A piece of a look has come in."""

        def __init__(self, look: Look) -> None:
            super().__init__()
            self.look = look

    def __init__(
        self,
        port: RunsPort,
        ui: UiSection,
        *,
        actor: str,
        clock: Callable[[], float],
        leave: Callable[[LeaveChoice], None],
    ) -> None:
        super().__init__()
        self._port = port
        self._ui = ui
        self._actor = actor
        self._clock = clock
        self._leave = leave
        self._names: tuple[str, ...] | None = None
        self._rows: dict[str, RunRow] = {}
        self._marked: set[str] = set()
        self._query = ""
        self._order = Order()
        self._next_look: Timer | None = None
        self._has_looked = False
        self._pace = Pace()
        self._due_at = 0.0
        """Where bytes are dear: when the next piece of a look may be drawn (monotonic)."""
        self._is_stale = False
        """Rows have come that are not drawn yet."""
        self._turn = threading.Lock()
        """Held by the thread that looks."""

    def compose(self) -> ComposeResult:
        """How many there are, the table, why the run under the cursor is as it is, and the keys."""
        yield Block(id="runs-head")
        yield RunTable(self._ui.chart)
        clear = shown_key(self.app, "runs_clear", RUNS_KEYS)
        yield Field(placeholder=f"words of a name or a state, such as: live · failed · big; {clear} ends", compact=True)
        yield Block(id="runs-about")
        yield Answer(id="answer")
        yield KeyBar(RUNS_KEYS, id="keys")

    @property
    def table(self) -> RunTable:
        """The rows."""
        return self.query_one(RunTable)

    def on_mount(self) -> None:
        """Draw first, look then."""
        self._pace = pace_at(self.app._driver, low_bandwidth=self._ui.low_bandwidth)
        self.table.focus()
        self._say("·", f"{shown_key(self.app, 'help', RUNS_KEYS)} shows all keys", "muted")
        self.call_after_refresh(self.draw)

    def on_screen_resume(self) -> None:
        """Seen, also again: look at once."""
        self._look_again()

    def on_screen_suspend(self) -> None:
        """Covered: cost nothing."""
        if self._next_look is not None:
            self._next_look.stop()
        self.workers.cancel_group(self, "look")

    # --- what is shown -----------------------------------------------------------------------------------------------------

    def _look_again(self) -> None:
        self.run_worker(self._look, thread=True, group="look", exclusive=True, exit_on_error=False)

    def _look(self) -> float:
        """In a thread: tell what is new. Returns the seconds of a core that it cost."""
        worker = get_current_worker()
        with self._turn:  # the look before this one may have been cancelled, and not know it yet
            began = time.thread_time()
            for look in self._port.look():
                self.post_message(self.Seen(look))  # also of a look that is not wanted any more: it is told once only
                if worker.is_cancelled:
                    break
            return time.thread_time() - began

    @on(Worker.StateChanged)
    def _looked(self, event: Worker.StateChanged) -> None:
        if event.worker.group != "look" or not event.worker.is_finished or event.worker.is_cancelled:
            return
        event.stop()
        error = event.worker.error
        if error is not None:
            words = str(error) if isinstance(error, PltTuiError) else f"{self._port.place} cannot be read: {error}"
            self._say("✖", safe_line(words), "bad")
        if self._is_stale:
            self.draw()
        if self.is_current:
            cost_s = (event.worker.result or 0.0) if self._has_looked else 0.0  # to read all runs once is no habit
            self._has_looked = True
            pause = pause_s(cost_s, is_frugal=self._ui.low_bandwidth)
            self._next_look = self.set_timer(pause, self._look_again)

    @on(Seen)
    def _take(self, event: Seen) -> None:
        names, is_first = event.look.names, self._names is None
        if names == self._names and not event.look.rows and all(row.state.is_over for row in self._rows.values()):
            return
        known = {**self._rows, **{row.name: row for row in event.look.rows}}
        self._names = names
        self._rows = {name: known[name] for name in names if name in known}
        self._marked &= set(names)
        self._is_stale = True
        if is_first or not self._pace.is_frugal or time.monotonic() >= self._due_at:
            self._due_at = time.monotonic() + self._pace.next_ticks() * TICK_S
            self.draw()
        if is_first and not names:
            self.action_new_run()

    def draw(self) -> None:
        """Bring all to the newest look, order and filter."""
        if not self.is_attached:
            return
        self._is_stale = False
        now = self._clock()
        rows = arranged(self._rows.values(), self._query, self._order, now)
        self.table.show(rows, marked=self._marked, order=self._order, now=now)
        self._draw_head(len(rows))
        self._draw_about()
        self.query_one(KeyBar).show(refused=self.refused_keys(), is_held=False)

    def _draw_head(self, num_shown: int) -> None:
        head = self.query_one("#runs-head", Block)
        left = Content.assemble(("all runs", "bold"), (f" in {safe_line(self._port.place)}", STYLES["muted"]))
        facts = [f"by {self._order.words}"]
        if self._marked:
            facts.insert(0, f"{len(self._marked)} marked")
        if self._names is not None:
            unread = len(self._names) - len(self._rows)
            facts.insert(0, f"reading, {unread} to go" if unread else counted_words([*self._rows.values()], num_shown))
        head.put([spread(left, Content.styled("  ·  ".join(facts), STYLES["muted"]), head.content_size.width)])

    def _draw_about(self) -> None:
        """Why the run under the cursor is as it is, and what it is; or why there is none."""
        row, block = self.table.row, self.query_one("#runs-about", Block)
        if row is not None:
            reason = f": {row.reason}" if row.reason else ""
            first = Content.assemble((row.name, "bold"), (f" {row.word.text}{reason}", STYLES[row.word.tone]))
            block.put([first, Content.styled("  ·  ".join(row.facts), STYLES["muted"])])
            return
        place = safe_line(self._port.place)
        clear, new = (shown_key(self.app, name, RUNS_KEYS) for name in ("runs_clear", "runs_new"))
        none = f"none of them has “{safe_line(self._query)}”; {clear} shows all"
        words = none if self._names else f"looking into {place} …"
        if self._names == ():
            words = f"no runs in {place} yet: {new} sets one up, and plt-tui run trains the quick start"
        block.put([Content.styled(words, STYLES["muted"])])

    def _say(self, glyph: str, text: str, tone: str) -> None:
        self.query_one(Answer).say(Word(glyph, text, tone))  # type: ignore[arg-type]  # one of Tone's words

    # --- keys --------------------------------------------------------------------------------------------------------------

    def refused_keys(self) -> frozenset[str]:
        """Ids of the keys that have nothing to act on."""
        return frozenset() if self.table.current else _ON_A_RUN

    async def action_perform(self, key_id: str) -> None:
        """The gate of all keys: run the entry's action, or say why not now."""
        key = next(key for key in RUNS_KEYS if key.id == key_id)
        if key_id in self.refused_keys():
            self._say("✖", f"{key.label}: there is no run under the cursor", "warning")
        else:
            await self.run_action(key.action)

    async def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        """A click on the key bar is a press."""
        await self.action_perform(event.key_id)

    def action_move(self, distance: int) -> None:
        """Move the cursor."""
        self.table.move(distance)

    def action_page(self, direction: int) -> None:
        """Move the cursor by a screenful."""
        self.table.page(direction)

    def action_first(self) -> None:
        """Go to the first run."""
        self.table.move(-len(self._rows))

    def action_last(self) -> None:
        """Go to the last run."""
        self.table.move(len(self._rows))

    def action_order(self) -> None:
        """Order by the next column."""
        self._order_by(self._order.next())

    def action_reverse(self) -> None:
        """Turn the order round."""
        self._order_by(self._order.reversed())

    @on(RunTable.Titled)
    def _titled(self, event: RunTable.Titled) -> None:
        is_again = event.column == self._order.column
        self._order_by(self._order.reversed() if is_again else Order(event.column))

    def _order_by(self, order: Order) -> None:
        self._order = order
        self._say("·", f"ordered by {order.words}", "muted")
        self.draw()

    def action_mark(self) -> None:
        """Mark the run under the cursor, or take its mark away, and go on to the next."""
        self._marked ^= {self.table.current}
        self.table.move(1)
        self.draw()

    def action_filter(self) -> None:
        """Let the user type what to show."""
        self.add_class("-filtering")
        self.set_focus(self.query_one(Input))

    def action_clear(self) -> None:
        """Take the filter away; without one the marks."""
        if self._query or self.has_class("-filtering"):
            self.query_one(Input).value = ""
            self.remove_class("-filtering")
            self.set_focus(self.table)
        else:
            self._marked.clear()
            self.draw()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._query = event.value
        self.draw()

    @on(Input.Submitted)
    def _submitted(self) -> None:
        self.set_class(bool(self._query), "-filtering")
        self.set_focus(self.table)

    @on(RunTable.Moved)
    def _moved(self) -> None:
        self._draw_about()

    @on(events.Resize)
    def _resized(self) -> None:
        self.call_after_refresh(self.draw)

    # --- where it leads ----------------------------------------------------------------------------------------------------

    @on(RunTable.Chosen)
    async def _chosen(self) -> None:
        await self.action_perform("runs_open")

    def action_open(self) -> None:
        """Open the run under the cursor."""
        self.open_run(self.table.current)

    def open_run(self, name: str) -> None:
        """Open the run called `name` over this screen, once its files have answered."""
        self.run_worker(self._open(name), group="open", exclusive=True)

    async def _open(self, name: str) -> None:
        opened = await self._opened([name])
        if opened:
            session = RunSession(
                opened[0].connect,
                name=opened[0].name,
                config=opened[0].config,
                readonly=opened[0].readonly,
                actor=self._actor,
                files=opened[0].files,
            )
            ui = person_at(self.app).settings.over(opened[0].config.ui)
            self.app.push_screen(RunScreen(session, ui, self._clock, self._back))

    def action_new_run(self) -> None:
        """Open the form for a new run."""
        self.app.push_screen(NewRunScreen(self._port.new_runs, self._port.first_values), self._started)

    def _started(self, name: str | None) -> None:
        if name is not None:
            self.open_run(name)

    def action_compare(self) -> None:
        """Compare the marked runs, or the one under the cursor with the newest."""
        names = to_compare(self._names or (), self._marked, self.table.current)
        if len(names) > MAX_LINES:
            self._say("✖", f"compare: {len(names)} runs are marked, at most {MAX_LINES} can be told apart", "warning")
            return
        self.run_worker(self._compare(names), group="open", exclusive=True)

    async def _compare(self, names: list[str]) -> None:
        opened = await self._opened(names, readonly=True)
        if opened:
            self.app.push_screen(CompareScreen(opened, self._ui, actor=self._actor, leave=self._back))

    async def _opened(self, names: list[str], *, readonly: bool = False) -> list[OpenedRun]:
        """What is needed to watch these runs; nothing, and why, when one cannot be opened."""
        try:
            return [await asyncio.to_thread(self._port.open, name, readonly=readonly) for name in names]
        except (PltTuiError, OSError) as error:
            self._say("✖", safe_line(str(error)), "bad")
            self.notify(safe_line(str(error)), severity="error", markup=False)
            return []

    def _back(self, _: LeaveChoice) -> None:
        """Come back to this screen, whatever lies over it."""
        while self.app.screen is not self:
            self.app.pop_screen()

    def action_leave(self) -> None:
        """Leave; runs go on."""
        self._leave(LeaveChoice.DETACH)

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen(RUNS_KEYS))

    def action_palette(self) -> None:
        """Open the command palette."""
        self.app.action_command_palette()
