"""After the end: the banner, the page behind `i`, and what becomes of a view whose hub dies without a word."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import fakes
import pytest
import scenes
from driving import COMPACT, WIDE, driven, make_app, run_screen, screen_lines, screen_text, until, until_seen
from textual.containers import VerticalScroll

from plt_tui.control.state import RunState
from plt_tui.errors import StorageError
from plt_tui.protocol.events import End, Event, Failed, Logs, Phase, Step
from plt_tui.views.files import RunFiles
from plt_tui.views.model import RunModel
from plt_tui.views.source import RecordSource
from plt_tui.views.tui import session as session_module
from plt_tui.views.tui.keys import KEYS
from plt_tui.views.tui.outcome import outcome
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.screens.outcome import OutcomeDialog, page
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import PHASES

RESUME = "plt-tui run --resume auto --name quickstart"
CRASH = Phase(phase="failed", reason=f"its hub is gone without a word; resume: {RESUME}", step=600)
SIZES = [WIDE, COMPACT, (60, 16)]
LastWords = Callable[[RunState, int, bool], Sequence[Event] | None]


def files(last_words: LastWords) -> RunFiles:
    """A run's files of which only the last words are asked for."""

    def no_texts(*_: object) -> Any:
        raise AssertionError

    return RunFiles(last_words=last_words, texts=no_texts)


@asynccontextmanager
async def watched(last_words: LastWords, history: list[Event], *, size: tuple[int, int] = WIDE) -> Any:
    """The app on a run whose files can be asked for its last words."""
    source = fakes.FakeSource(history)
    app = make_app(source.connect, now=fakes.at(5000))
    app._session.files = files(last_words)
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1 and run_screen(app).session.model.is_live)
        yield pilot, source


def recorded(history: list[Event]) -> list[Event]:
    """`history` with the numbers that a record gives."""
    numbers = iter(range(1, len(history) + 1))
    return [dataclasses.replace(event, seq=next(numbers)) for event in history]


@pytest.mark.parametrize("size", SIZES)
async def test_a_hub_that_dies_under_the_view_is_told_at_once_and_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """The header says failed, the banner has the command, the clock stands still, and every rank has ended."""
    monkeypatch.setattr(session_module, "FATE_S", 60.0)  # it is the third look that tells
    asked: list[tuple[int, int, bool]] = []

    def last_words(state: RunState, seq: int, has_history: bool) -> Sequence[Event] | None:
        asked.append((state.step, seq, has_history))
        return [CRASH] if len(asked) > 2 else None  # the lock of a process that dies is free a moment after its sockets

    history = recorded(fakes.training())
    async with watched(last_words, history, size=size) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "✖ failed")
        await until_seen(pilot, RESUME)
        text = screen_text(pilot.app)
        assert "● training" not in text
        assert "ETA" not in text
        assert asked == [(600, len(history), True)] * 3
        state = run_screen(pilot.app).session.model.state
        assert {rank.doing for rank in state.ranks.values()} == {"ended"}
        assert "elapsed 1m 30s" in screen_lines(pilot.app)[1]  # to the last word, not to now
        assert run_screen(pilot.app).session.refusal().startswith("the run has failed: nothing to steer")
        assert any(note.severity == "error" and "its hub is gone" in note.message for note in pilot.app._notifications)


async def test_what_the_record_has_beyond_what_was_heard_is_taken_in() -> None:
    """The hub writes first and tells then: the steps and the end that it could not tell any more are not lost."""
    late = [*fakes.steps(601, 603), End(time=fakes.at(604), phase="stopped", step=603, exit_code=143, reason="stopped by ana")]
    async with watched(lambda *_: late, fakes.training()) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "■ stopped")
        await until_seen(pilot, "step 603 / 1,000")
        assert "stopped at step 603 (exit code 143)" in screen_text(pilot.app)


async def test_a_run_that_goes_on_without_us_is_not_called_dead() -> None:
    """Somebody holds it still: the connection is lost, no more, and the way back is named."""
    async with watched(lambda *_: None, fakes.training()) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "the hub has closed the connection, but the run goes on: plt-tui attach quickstart")
        assert "? not connected" in screen_lines(pilot.app)[0]


async def test_a_record_that_cannot_be_read_is_said() -> None:
    """The view stays, and nobody is told that the run lives."""

    def last_words(*_: object) -> Sequence[Event] | None:
        raise StorageError("journal.jsonl cannot be read: \x1b[2J")

    async with watched(last_words, fakes.training()) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "the hub has closed the connection; journal.jsonl cannot be read: \\x1b[2J")


async def test_a_hub_that_dies_while_it_tells_the_history() -> None:
    """What it had told is not told twice, and the rest comes from the record."""
    history = recorded([*fakes.opening(), *fakes.command("n", "note", {"text": "x"}, 0), *fakes.steps(1, 50)])
    heard = [event for event in history if not isinstance(event, Step)]
    asked: list[tuple[int, bool]] = []

    def last_words(_: RunState, seq: int, has_history: bool) -> Sequence[Event] | None:
        asked.append((seq, has_history))
        return [*(event for event in history if isinstance(event, Step)), CRASH]

    class Dying(RecordSource):
        async def events(self) -> Any:
            for event in heard:
                yield event

    async def connect() -> Dying:
        return Dying(())

    session = RunSession(connect, name="quickstart", config=None, readonly=False, actor=fakes.ACTOR, files=files(last_words))
    await session.follow()
    assert asked == [(max(event.seq for event in heard), False)]
    assert (session.model.state.phase, session.model.state.step, len(session.model.steps)) == ("failed", 50, 50)
    assert session.model.is_live


async def test_a_connection_that_was_never_made_tells_why_and_no_fate() -> None:
    """The record may be that of an earlier session, which ended well."""

    async def connect() -> fakes.FakeSource:
        raise StorageError("the hub ended: disk full")

    def last_words(*_: object) -> Sequence[Event] | None:
        raise AssertionError

    session = RunSession(connect, name="a", config=None, readonly=False, actor="", files=files(last_words))
    await session.follow()
    assert (session.trouble, session.model.state.is_over) == ("the hub ended: disk full", False)


async def test_a_view_that_was_stopped_while_its_hub_died_looks_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it was stopped: nobody is told that the run goes on who has not looked."""
    monkeypatch.setattr(session_module, "FATE_S", 0.0)
    async with watched(lambda *_: [CRASH], fakes.training()) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "✖ failed")


@pytest.mark.parametrize("key", ["i", "q", "escape"])
async def test_the_page_is_closed_as_it_was_opened(key: str) -> None:
    """By the same key, or as every dialog."""
    async with driven(fakes.training(), size=COMPACT) as (pilot, _):
        await pilot.press("i")
        await until(pilot, lambda: isinstance(pilot.app.screen, OutcomeDialog))
        await pilot.press(key)
        await until(pilot, lambda: len(pilot.app.screen_stack) == 2)


@pytest.mark.parametrize(
    ("size", "history"),
    [
        ((200, 60), fakes.failed),
        ((120, 40), fakes.finished),
        (COMPACT, fakes.failed),
        (COMPACT, fakes.training),
        ((60, 16), scenes.hibernated),
    ],
)
async def test_i_opens_the_whole_outcome_at_any_size(size: tuple[int, int], history: Callable[[], list[Event]]) -> None:
    """It scrolls from the state to the last command, and nothing is cut."""
    async with driven(history(), size=size) as (pilot, source):
        await pilot.press("i")
        word = run_screen(pilot.app).session.model.state.phase
        await until_seen(pilot, f"{'training' if word == 'running' else word} at step")
        seen, page_view = screen_text(pilot.app), pilot.app.screen.query_one(VerticalScroll)
        while not page_view.is_vertical_scroll_end:
            await pilot.press("pagedown")
            await pilot.pause()
            seen += screen_text(pilot.app)
        for part in outcome(run_screen(pilot.app).session.model, "quickstart", PHASES["failed"]).parts:
            assert part.title in seen
            assert all(row.text.split()[0] in seen and row.text.split()[-1] in seen for row in part.rows)
        assert [len(line) for line in screen_lines(pilot.app)] == [size[0]] * size[1]
        assert source.sent == []


async def test_the_page_follows_a_run_that_ends_under_it() -> None:
    """One looks at how far it is, and sees it fail."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("i")
        await until_seen(pilot, "how far it is")
        failure = Failed(time=fakes.at(601), rank=0, message="killed by SIGKILL", exit_code=4, step=600, is_signal=True)
        source.feed(failure, End(time=fakes.at(602), phase="failed", step=600, exit_code=4, reason="restarts are used up"))
        await until_seen(pilot, "what failed first")
        await until_seen(pilot, "failed at step 600: killed by SIGKILL")


async def test_the_answer_line_tells_the_end_and_which_key_tells_more() -> None:
    """A toast goes away; the line stays."""
    async with driven(fakes.training()) as (pilot, source):
        source.feed(End(time=fakes.at(602), phase="stopped", step=600, exit_code=143, reason="stopped by ana"))
        await until(pilot, lambda: "■ stopped at step 600 (exit code 143) · i tells how" in screen_lines(pilot.app)[-2])


@pytest.mark.parametrize("size", SIZES)
async def test_the_banner_of_a_crashed_run_blames_no_rank_that_was_started_again(size: tuple[int, int]) -> None:
    """An old failure stays in the story."""
    old = Failed(time=fakes.at(10), rank=1, message="an old trouble", exit_code=4, step=10)
    again = [Phase(phase="restarting", step=10), *fakes.opening(), *fakes.steps(11, 600), CRASH]
    async with driven([*fakes.opening(), *fakes.steps(1, 10), old, *again], size=size) as (pilot, _):
        place = run_screen(pilot.app).board.query_one("#banner").region
        banner = "\n".join(screen_lines(pilot.app)[place.y : place.bottom])
        assert "an old trouble" not in banner
        assert RESUME in banner


@pytest.mark.parametrize("history", [fakes.failed, fakes.finished])
async def test_everything_that_needs_a_live_run_is_refused_with_a_sentence(history: Callable[[], list[Event]]) -> None:
    """Each key, in words that name the way on; nothing is sent and no dialog opens."""

    async def connect() -> RecordSource:
        return RecordSource(history())

    app = make_app(connect, now=fakes.at(5000))
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1 and run_screen(app).session.link == "closed")
        phase = run_screen(app).session.model.state.phase
        for key in (key for key in KEYS if key.when != "always"):
            await pilot.press(key.keys.split(",")[0])
            await until_seen(pilot, f"✖ {key.label}: the run has {phase}: nothing to steer; {RESUME} goes on with it")
            assert len(app.screen_stack) == 2


def test_a_hostile_outcome_is_harmless() -> None:
    """Names, messages, log lines and commands are shown, not obeyed; lines stay lines."""
    model = RunModel()
    text = "\x1b[2J\x9b31m\u202e[bold]$error\nnext"
    for event in [*fakes.hostile(text), Logs(lines=[[1.0, "hub", "ERROR", text]]), dataclasses.replace(CRASH, reason=text)]:
        model.fold(event)
    lines = [part for line in page(outcome(model, "a", PHASES["failed"]), 76) for part in line.plain.split("\n")]
    assert all(part.isprintable() for part in lines)
    assert any("[bold]$error" in part for part in lines)


async def test_a_view_that_is_left_after_a_crash_says_ended() -> None:
    """There is nothing to detach from."""
    async with watched(lambda *_: [CRASH], fakes.training()) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "✖ failed")
        await pilot.press("q")
        await pilot.pause()
        app = pilot.app
    assert app.return_value is LeaveChoice.ENDED
