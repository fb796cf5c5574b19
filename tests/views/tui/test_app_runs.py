"""The screen of all runs, driven by keys and mouse: what is listed, and where it leads."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import fakes
import pytest
from driving import screen_lines, screen_text
from run_fakes import NOW, FakeRuns, listed, runs_app, seen, seen_text, stories
from textual.pilot import Pilot

from plt_tui.config.schema import UiSection
from plt_tui.errors import StorageError
from plt_tui.protocol.events import Phase
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.panes.run_table import RunTable
from plt_tui.views.tui.runs import Look
from plt_tui.views.tui.runs_keys import RUNS_KEYS
from plt_tui.views.tui.screens.compare import CompareScreen
from plt_tui.views.tui.screens.help import HelpScreen
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.screens.new_run import NewRunScreen
from plt_tui.views.tui.screens.run import RunScreen
from plt_tui.views.tui.screens.runs import RunsScreen

OPENS = {"runs_open": RunScreen, "runs_compare": CompareScreen, "runs_new": NewRunScreen}
"""Keys that lead to another screen."""
DIALOGS = {"help", "palette"}
LEAVES = {"leave"}


def names_shown(pilot: Pilot) -> list[str]:
    """The runs that are seen, from above."""
    known = sorted(stories(), key=len, reverse=True)
    found = [next((name for name in known if f" {name} " in line), "") for line in screen_lines(pilot.app)[2:-4]]
    return [name for name in found if name]


@pytest.mark.parametrize("size", [(60, 16), (80, 24), (120, 40), (200, 60)])
async def test_all_runs_are_listed_at_any_size(size: tuple[int, int]) -> None:
    """State in words, name, progress, loss; no line is wider than the terminal, and the keys are there."""
    async with listed(size=size) as (pilot, _, _):
        text = screen_text(pilot.app)
        assert names_shown(pilot) == list(stories())
        for words in (
            "● training",
            "‖ paused",
            "✔ finished",
            "✖ failed",
            "600/1",
            "60%",
            "1.755",
            "6 runs, 2 live",
            "enter open",
        ):
            assert words in text
        assert [len(line) for line in screen_lines(pilot.app)] == [size[0]] * size[1]
        if size[0] >= 80:
            for words in ("start▾", "took", "1m 50s", "⣀"):
                assert words in text or words == "⣀"


async def test_a_dead_run_is_never_shown_as_running() -> None:
    """What says failed in the record, also by the death of its hub, says why under the table."""
    async with listed() as (pilot, _, screen):
        screen.table.move(4)
        await seen_text(pilot, "gone failed: its hub is gone without a word")
        assert "●" not in next(line for line in screen_lines(pilot.app) if " gone " in line and "30%" in line)


async def test_every_key_can_be_pressed() -> None:
    """Each entry of the table works under each of its keys, and leads where it says, and only there."""
    async with listed() as (pilot, _, screen):
        for key in (key for key in RUNS_KEYS if key.id not in LEAVES):
            (pressed,) = {*key.keys.split(",")} - {"f1"}
            await pilot.press(pressed)
            if key.id in OPENS:
                await seen(pilot, lambda wanted=OPENS[key.id]: isinstance(pilot.app.screen, wanted))
                screen._back(LeaveChoice.DETACH)
            elif key.id in DIALOGS:
                await seen(pilot, lambda: pilot.app.screen is not screen)
                await pilot.press("escape")
            await seen(pilot, lambda: pilot.app.screen is screen)
            await pilot.press("escape")


async def test_a_picture_of_the_list_is_kept_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the palette, as this screen has no run beside which it could be; also for who has no folder for downloads."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    async with listed() as (pilot, _, _screen):
        await pilot.press("ctrl+p", *"screenshot")
        await seen_text(pilot, "Save the screen as an SVG picture in this folder.")
        await pilot.press("enter")
        await seen(pilot, lambda: any(path.read_text().endswith("</svg>\n") for path in tmp_path.glob("*.svg")))


async def test_enter_opens_a_live_run_to_steer_and_leaving_it_comes_back() -> None:
    """Leaving asks as always; Detach leads back to the list, which is looked at again."""
    async with listed() as (pilot, port, screen):
        await pilot.press("enter")
        await seen_text(pilot, "● training", "logs", "rewind")
        assert isinstance(pilot.app.screen, RunScreen)
        assert not pilot.app.screen.session.is_readonly
        looks = port.num_looks
        await pilot.press("q")
        await seen_text(pilot, "Detach")
        await pilot.press("enter")
        await seen(pilot, lambda: pilot.app.screen is screen and port.num_looks > looks)
        assert pilot.app.is_running
        assert port.opened == ["big-live"]
        assert port.watched == []


async def test_a_finished_run_opens_read_only_and_q_comes_back() -> None:
    """After the end there is nothing to ask."""
    async with listed() as (pilot, _, screen):
        await pilot.press("down", "down", "enter")
        await seen_text(pilot, "✔ finished", "step 1,000 / 1,000")
        assert pilot.app.screen.session.is_readonly  # type: ignore[attr-defined]
        await pilot.press("q")
        await seen(pilot, lambda: pilot.app.screen is screen)


async def test_a_stopped_run_leads_back_to_the_list_under_a_dialog_too() -> None:
    """Whatever lies over the list when the run has ended goes with it."""
    async with listed() as (pilot, _, screen):
        await pilot.press("enter")
        await seen_text(pilot, "● training")
        run = pilot.app.screen
        assert isinstance(run, RunScreen)
        run._leaving = LeaveChoice.STOP
        await pilot.press("question_mark")
        run.session.link = "closed"
        run.tick()
        await seen(pilot, lambda: pilot.app.screen is screen)
        assert screen.table.has_focus


async def test_typing_filters_and_escape_shows_all_again() -> None:
    """As one types; enter keeps the filter and gives the keys back, escape ends it."""
    async with listed() as (pilot, _, screen):
        await pilot.press("slash", *"failed")
        await seen(pilot, lambda: names_shown(pilot) == ["out-of-memory", "gone", "never-begun"])
        assert "6 runs, 2 live, 3 shown" in screen_text(pilot.app)
        await pilot.press("enter", "o")
        await seen(pilot, lambda: names_shown(pilot) == ["gone", "never-begun", "out-of-memory"])
        await pilot.press("slash", "x")
        await seen_text(pilot, "none of them has “x”; esc shows all")
        await pilot.press("enter")
        await pilot.press("space")
        await seen_text(pilot, "mark: there is no run under the cursor")
        await pilot.press("escape")
        await seen(pilot, lambda: len(names_shown(pilot)) == 6)
        assert screen.table.has_focus


async def test_the_cursor_stays_on_its_run_when_rows_move() -> None:
    """Another order, new runs and vanished ones move the line, not the choice."""
    async with listed() as (pilot, port, screen):
        await pilot.press("down")
        assert screen.table.current == "big-paused"
        await pilot.press("o", "O")
        await pilot.pause()
        assert (screen.table.current, names_shown(pilot)[0]) == ("big-paused", "out-of-memory")
        port.stories = {"newest": fakes.training(100), **{name: told for name, told in stories().items() if name != "done"}}
        screen._look_again()
        await seen_text(pilot, "newest")
        assert "✔ finished" not in screen_text(pilot.app)
        assert screen.table.current == "big-paused"
        del port.stories["big-paused"]
        screen._look_again()
        await seen(pilot, lambda: "big-paused" not in screen_text(pilot.app))
        assert screen.table.current in port.stories


async def test_what_a_live_run_does_is_seen_while_the_list_is_open() -> None:
    """Without a key, and only what changed is told."""
    async with listed(stories("big-live", "done")) as (pilot, port, screen):
        port.stories["big-live"] += [*fakes.steps(601, 640), Phase(phase="stopping", step=640)]
        screen._look_again()
        await seen_text(pilot, "◑ stopping", "64%")


async def test_marked_runs_are_compared_and_escape_takes_the_marks_away() -> None:
    """Space marks and goes on, c opens the comparison of all marked, in the order of the list; q comes back."""
    async with listed() as (pilot, port, screen):
        await pilot.press("down", "down", "space", "space")
        await seen_text(pilot, "2 marked", "✓ ✔ finished")
        await pilot.press("c")
        await seen(pilot, lambda: isinstance(pilot.app.screen, CompareScreen))
        assert port.opened == port.watched == ["done", "out-of-memory"]
        await seen_text(pilot, "compare  done · out-of-memory")
        await pilot.press("q")
        await seen(pilot, lambda: pilot.app.screen is screen)
        await pilot.press("escape")
        await seen(pilot, lambda: "marked" not in screen_text(pilot.app))


async def test_more_runs_than_can_be_told_apart_are_not_compared() -> None:
    """It is said, and nothing is opened."""
    async with listed({f"run-{number}": fakes.failed() for number in range(9)}) as (pilot, port, screen):
        await pilot.press(*["space"] * 9, "c")
        await seen_text(pilot, "compare: 9 runs are marked, at most 8 can be told apart")
        assert pilot.app.screen is screen
        assert port.opened == []


async def test_a_run_that_cannot_be_opened_is_told_in_words() -> None:
    """Its folder may be gone since the last look."""
    async with listed() as (pilot, port, screen):
        del port.stories["big-live"]
        await pilot.press("enter")
        await seen_text(pilot, "✖ no run 'big-live'")
        assert pilot.app.screen is screen


async def test_clicks_choose_open_and_order() -> None:
    """One click moves the cursor, two open, one on a title orders by it and the next turns it round."""
    async with listed() as (pilot, _, screen):
        await pilot.click(screen.table, offset=(20, 3))
        assert screen.table.current == "done"
        place = screen_lines(pilot.app)[1].index("loss")
        await pilot.click(screen.table, offset=(place, 0))
        await seen_text(pilot, "by loss, lowest first")
        await pilot.click(screen.table, offset=(place, 0))
        await seen_text(pilot, "by loss, highest first")
        await pilot.click(screen.table, offset=(20, 1), times=2)
        await seen(pilot, lambda: isinstance(pilot.app.screen, RunScreen))


async def test_the_list_scrolls_with_the_cursor() -> None:
    """Of many runs those around the cursor are drawn, and the ends are reached."""
    told = {f"run-{number:03}": fakes.opening() for number in range(100)}
    async with listed(told, size=(80, 24)) as (pilot, _, screen):
        await pilot.press("end")
        await seen_text(pilot, "run-099")
        assert "run-050" not in screen_text(pilot.app)
        await pilot.press("pageup")
        await pilot.pause()
        assert screen.table.current < "run-090"
        await pilot.press("home")
        await seen_text(pilot, "run-000")
        await pilot.resize_terminal(80, 12)
        await pilot.press("end")
        await seen_text(pilot, "run-099")


async def test_without_runs_the_form_opens_and_what_it_starts_is_opened() -> None:
    """The first thing a new user sees; leaving it leaves them at the list, which says what to do."""
    port = FakeRuns({})
    app = runs_app(port)
    async with app.run_test(size=(120, 40)) as pilot:
        await seen(pilot, lambda: isinstance(app.screen, NewRunScreen))
        await pilot.press("escape")
        await seen_text(pilot, "no runs in runs yet: n sets one up")
        port.stories = stories("big-live")
        await pilot.press("n")
        await seen(pilot, lambda: isinstance(app.screen, NewRunScreen))
        app.screen.dismiss("big-live")
        await seen(pilot, lambda: isinstance(app.screen, RunScreen))
        await seen_text(pilot, "● training")


async def test_q_leaves_and_says_so() -> None:
    """The app ends without a question: what trains goes on."""
    async with listed() as (pilot, _, _):
        await pilot.press("q")
        await pilot.pause()
    assert pilot.app.return_value is LeaveChoice.DETACH


class SlowRuns(FakeRuns):
    """Tells names at once and rows only when it may."""

    def __init__(self) -> None:
        super().__init__(stories())
        self.may_read = threading.Event()

    def look(self) -> Iterator[Look]:
        yield Look(names=tuple(self.stories))
        self.may_read.wait(10)
        yield from super().look()


async def test_keys_answer_while_runs_are_being_read() -> None:
    """The list is there before its rows are, says how many are to come, and can be left."""
    port = SlowRuns()
    app = runs_app(port)
    async with app.run_test(size=(80, 24)) as pilot:
        await seen_text(pilot, "reading, 6 to go")
        await pilot.press("o")
        await seen_text(pilot, "ordered by name")
        port.may_read.set()
        await seen_text(pilot, "6 runs, 2 live")


async def test_a_look_that_is_cut_short_loses_nothing() -> None:
    """Help over the list stops the reading; what had been read is not told again by the next look, so it must be kept."""
    port = SlowRuns()
    app = runs_app(port)
    async with app.run_test(size=(80, 24)) as pilot:
        await seen_text(pilot, "reading, 6 to go")
        await pilot.press("question_mark")
        await seen(pilot, lambda: isinstance(app.screen, HelpScreen))
        port.may_read.set()
        await pilot.press("escape")
        await seen_text(pilot, "6 runs, 2 live")


async def test_a_covered_list_looks_at_nothing() -> None:
    """A run that is open in front of it has the machine to itself."""
    async with listed() as (pilot, port, screen):
        await seen(pilot, lambda: screen._next_look is not None)  # its first look is over
        await pilot.press("enter")
        await seen_text(pilot, "● training")
        looks = port.num_looks
        assert screen._next_look is not None
        screen._next_look.stop()
        await asyncio.sleep(0.1)
        await pilot.pause()
        assert port.num_looks == looks


async def test_where_bytes_are_dear_a_look_is_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pieces it comes in, and whole at its end."""
    port = FakeRuns({f"run-{number}": fakes.training(20) for number in range(9)})
    app = RunApp(ui=UiSection(low_bandwidth=True), actor=fakes.ACTOR, runs=port, clock=lambda: NOW)
    async with app.run_test(size=(120, 40)) as pilot:
        await seen_text(pilot, "9 runs, 9 live")
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        drawn: list[int] = []
        show = RunTable.show
        monkeypatch.setattr(RunTable, "show", lambda self, rows, **how: drawn.append(len(rows)) or show(self, rows, **how))
        for events in port.stories.values():
            events += fakes.steps(21, 40)
        screen._look_again()
        await seen(pilot, lambda: screen_text(app).count("40/1000") == 9)
        assert len(drawn) <= 2


class BrokenRuns(FakeRuns):
    """Cannot be looked at the second time."""

    def look(self) -> Iterator[Look]:
        if self.num_looks:
            raise OSError("Stale file handle")
        yield from super().look()


async def test_a_folder_that_cannot_be_read_is_told_and_the_list_goes_on() -> None:
    """What was known stays on the screen."""
    port = BrokenRuns(stories())
    app = runs_app(port)
    async with app.run_test(size=(80, 24)) as pilot:
        await seen_text(pilot, "6 runs, 2 live")
        screen = app.screen
        assert isinstance(screen, RunsScreen)
        screen._look_again()
        await seen_text(pilot, "✖ runs cannot be read: Stale file handle", "big-live")


class ClosedRuns(FakeRuns):
    """Cannot be looked at."""

    def look(self) -> Iterator[Look]:
        raise StorageError("runs cannot be read: Permission denied; choose another folder of runs")
        yield


async def test_a_folder_that_cannot_be_read_at_first_is_not_taken_for_an_empty_one() -> None:
    """It is told, once, and no form opens."""
    app = runs_app(ClosedRuns({}))
    async with app.run_test(size=(120, 40)) as pilot:
        await seen_text(pilot, "✖ runs cannot be read: Permission denied")
        assert screen_text(app).count("cannot be read") == 1
        assert isinstance(app.screen, RunsScreen)


async def test_a_look_repaints_only_the_lines_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many runs one goes on: its line alone is drawn again; a mark repaints two lines, its own and the next."""
    async with listed({"live": fakes.training(), **{f"run-{number}": fakes.failed() for number in range(9)}}) as (
        pilot,
        port,
        screen,
    ):
        drawn: list[int] = []
        monkeypatch.setattr(RunTable, "render_line", lambda self, y: drawn.append(y) or real(self, y))
        port.stories["live"] += fakes.steps(601, 640)
        screen._look_again()
        await seen_text(pilot, "64%")
        assert set(drawn) == {1}
        drawn.clear()
        await pilot.press("space")
        await seen_text(pilot, "1 marked")
        assert set(drawn) == {1, 2}


real = RunTable.render_line
