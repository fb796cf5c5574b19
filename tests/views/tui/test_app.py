"""The app driven by keys: what is shown, what is sent, what is answered."""

import asyncio
import os
from collections.abc import Callable

import fakes
import pytest
import scenes
from driving import COMPACT, WIDE, driven, make_app, run_screen, screen_lines, screen_text, until, until_seen

from plt_tui.errors import HubUnreachable
from plt_tui.protocol.events import Alert, End, Eval, Event, Failed, Logs, Phase, RunPhase, Spike
from plt_tui.views.source import RecordSource
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.keys import KEYS
from plt_tui.views.tui.panes.events import MAX_ENTRIES, Events
from plt_tui.views.tui.screens.leave import LeaveChoice
from plt_tui.views.tui.terminal import JobControl

SENDS = {
    "pause": ("pause", {}),
    "undo": ("undo", {"edit": "e1"}),
    "checkpoint": ("checkpoint", {}),
    "eval": ("eval", {}),
    "sample": ("sample", {}),
    "hibernate": ("hibernate", {}),
}
"""Keys that send a command at once."""
LEAVES = {"detach"}
OPENS = {
    "lr",
    "knobs",
    "rewind",
    "note",
    "edit_prompt",
    "leave",
    "help",
    "palette",
    "command",
    "batch",
    "outcome",
    "configuration",
}
"""Keys that open a dialog."""


@pytest.mark.parametrize("group", sorted({key.group for key in KEYS}))
async def test_every_key_can_be_pressed_and_sends_what_it_says(group: str) -> None:
    """Each entry of the table works on a live run, under each of its keys, and sends its command and no other."""
    async with driven(fakes.training()) as (pilot, source):
        for key in (key for key in KEYS if key.group == group and key.id not in LEAVES):
            for pressed in key.keys.split(","):
                source.sent.clear()
                await pilot.press(pressed)
                await pilot.pause()
                assert [(command.name, command.args) for command in source.sent] == ([SENDS[key.id]] if key.id in SENDS else [])
                assert all(command.actor == fakes.ACTOR for command in source.sent)
                assert (len(pilot.app.screen_stack) > 2) == (key.id in OPENS)
                await pilot.press("escape")
                await pilot.pause()
                assert len(pilot.app.screen_stack) == 2


async def test_a_read_only_view_refuses_to_steer_and_says_why() -> None:
    """Nothing is sent, no dialog opens, and the reason is on the screen."""
    async with driven(fakes.training(), readonly=True) as (pilot, source):
        for key in (key for key in KEYS if key.when != "always"):
            await pilot.press(key.keys)
            await until_seen(pilot, f"✖ {key.label}: opened read-only: attach without --readonly to steer")
            assert source.sent == []
            assert len(pilot.app.screen_stack) == 2


@pytest.mark.parametrize("size", [WIDE, (120, 36), COMPACT, (60, 16)])
async def test_a_live_run_tells_the_essentials_at_any_size(size: tuple[int, int]) -> None:
    """State in words, progress, time left, the loss and the keys are there, and no line is wider than the terminal."""
    async with driven(fakes.training(), size=size) as (pilot, _):
        text = screen_text(pilot.app)
        for words in ("● training", "quickstart", "600", "60.0%", "ETA 1m 00s", "1.7554", "eval loss", "evaluated at step 600"):
            assert words in text
        assert [len(line) for line in screen_lines(pilot.app)] == [size[0]] * size[1]


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_a_straggler_is_seen_at_any_size(size: tuple[int, int]) -> None:
    """A rank that is far behind the others is named in the header, where no pane hides it."""
    async with driven([*fakes.training(), *fakes.machine(600, late_rank=True)], size=size) as (pilot, _):
        assert "rank 2 300 behind" in screen_lines(pilot.app)[1]


async def test_a_wide_screen_has_all_panes() -> None:
    """Chart, trends, gauges, ranks, logs and samples stand side by side."""
    async with driven(fakes.training(gpus=True)) as (pilot, _):
        text = screen_text(pilot.app)
        for words in (
            "loss",
            "trends",
            "gradient",
            "machine",
            "mem",
            "gpu",
            "612 W",
            "rank doing",
            "415 MiB",
            "logs",
            "step 600  ",
        ):
            assert words in text


async def test_a_key_answers_at_once_and_again_when_it_is_in_force() -> None:
    """requested, agreed, paused at step N: each word replaces the one before."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("p")
        await until_seen(pilot, "pause requested …")
        identity = source.sent[0].id
        requested, agreed, applied = fakes.command(identity, "pause", {}, 601)
        source.feed(requested, agreed)
        await until_seen(pilot, "pause agreed by 2/2 ranks …")
        source.feed(applied, Phase(phase="paused", step=601))
        await until_seen(pilot, "✔ paused at step 601")
        await until_seen(pilot, "‖ paused")
        assert "by tui ana" not in screen_lines(pilot.app)[-2]


async def test_p_resumes_what_is_paused_or_about_to_be() -> None:
    """The second press is the opposite of the first even before the run has answered."""
    async with driven(fakes.paused()) as (pilot, source):
        assert "p resume" in screen_lines(pilot.app)[-1]
        await pilot.press("p")
        source.feed(*fakes.command(source.sent[0].id, "resume", {}, 600)[:1])
        await until(pilot, lambda: "p pause" in screen_lines(pilot.app)[-1])
        await pilot.press("p")
        assert [command.name for command in source.sent] == ["resume", "pause"]


@pytest.mark.parametrize("phase", ["running", "paused"])
async def test_p_goes_by_what_the_run_does_once_its_commands_are_done(phase: RunPhase) -> None:
    """Paused, saved, stopped and resumed from the checkpoint, it trains again: the pause of the session before is long over."""
    end = End(time=fakes.at(601), phase="stopped", step=600, exit_code=143)
    again = [*fakes.opening(), Phase(time=fakes.at(602), phase=phase, step=600)]
    async with driven([*fakes.paused(), end, *again]) as (pilot, source):
        is_held = phase == "paused"
        assert ("p resume" if is_held else "p pause") in screen_lines(pilot.app)[-1]
        await pilot.press("p")
        await until(pilot, lambda: [command.name for command in source.sent] == ["resume" if is_held else "pause"])


@pytest.mark.parametrize("is_web", [False, True])
async def test_without_a_shell_behind_it_the_view_is_not_suspended(is_web: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is answered, and nothing is stopped; a page is without one although its view hears signals."""
    monkeypatch.setattr(RunApp, "is_web", is_web)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("stopped"))
    async with driven(fakes.training()) as (pilot, _):
        assert isinstance(pilot.app, RunApp)
        pilot.app._job_control = JobControl(pilot.app._driver, bool) if is_web else None  # type: ignore[arg-type]
        for keys in (["ctrl+z"], ["l", "ctrl+z"]):
            pilot.app.clear_notifications()
            await pilot.press(*keys)
            await until(
                pilot, lambda: [note.message for note in pilot.app._notifications] == ["there is no shell to go back to"]
            )


@pytest.mark.parametrize(
    ("history", "key", "said"),
    [
        (fakes.training, "left", "the whole run is shown"),
        (fakes.training, "right", "the whole run is shown"),
        (fakes.training, "home", "the whole run is shown"),
        (fakes.training, "end", "the newest steps are followed already"),
        (fakes.training, "minus", "the whole run is shown"),
        (fakes.training, "S", "not smoothed"),
        (fakes.training, "N", "no search: / begins one"),
        (fakes.training, "M", "no search: / begins one"),
        (fakes.training, "greater_than_sign", "no newer sample"),
        (fakes.opening, "less_than_sign", "no sample yet"),
        (fakes.opening, "greater_than_sign", "no sample yet"),
        (fakes.opening, "D", "no sample yet"),
    ],
)
async def test_a_key_that_can_do_nothing_says_why(history: Callable[[], list[Event]], key: str, said: str) -> None:
    """Every key gets an answer."""
    async with driven(history()) as (pilot, _):
        await pilot.press(key)
        await until(pilot, lambda: screen_lines(pilot.app)[-2].strip() == f"✖ {said}")


@pytest.mark.parametrize(
    ("before", "key", "said"),
    [
        (["m"], "right_square_bracket", "all metrics are shown"),
        (["m"], "left_square_bracket", "all metrics are shown"),
        (["plus", "plus", "home"], "left", "no earlier steps"),
        (["plus", "plus", "home"], "home", "no earlier steps"),
        (["plus", "plus"], "right", "no later steps"),
        (["plus"] * 40, "plus", "no closer view"),
        (["plus"] * 40 + ["left"], "plus", "no closer view"),
        (["s"] * 10, "s", "not smoother"),
        (["less_than_sign"] * 3, "less_than_sign", "no older sample"),
        (["1", "2", "3", "4"], "tab", "no other pane is shown"),
        (["slash", *"nowhere", "enter"], "N", "no hit"),
        (["slash", *"nowhere", "enter"], "M", "no hit"),
    ],
)
async def test_a_key_at_its_end_says_so(before: list[str], key: str, said: str) -> None:
    """Where there is nothing further, nothing is done in silence."""
    async with driven(fakes.training(), size=(200, 60)) as (pilot, _):
        await pilot.press(*before)
        await pilot.pause()
        await pilot.press(key)
        await until(pilot, lambda: screen_lines(pilot.app)[-2].strip() == f"✖ {said}")


async def test_a_spike_and_what_the_guard_did_are_told() -> None:
    """What the run does by itself is news, with the guard's name."""
    async with driven(fakes.training()) as (pilot, source):
        spike = Spike(time=fakes.at(601), step=601, what="loss", value=8.21, z=9.3, act="lower", reason=scenes.FAR_OUT)
        lower = fakes.command("g", "set", {"name": "lr", "value": 0.5, "mode": "scale"}, 602, actor="guard")
        source.feed(spike)
        told = "step 601: spike: loss 8.210, +9.3 z, rate lowered"
        await until(pilot, lambda: [note.severity for note in pilot.app._notifications if note.message == told] == ["warning"])
        source.feed(*lower)
        await until_seen(pilot, "learning rate ×0.5 in force at step 602 · by guard")


async def test_a_rewind_is_told_with_what_it_left_behind() -> None:
    """The answer names the step, the branch and the batches left out; the chart's legend says branch."""
    async with driven(fakes.training()) as (pilot, source):
        source.feed(scenes.as_block(scenes.sky(501, 600), 1), *scenes.rewind("r", 500, 600, skip=30))
        await until_seen(pilot, "back at step 500: steps 501 to 600 are a branch, 30 batches left out")
        await until_seen(pilot, "━ branch")


async def test_what_others_do_is_told_with_their_name() -> None:
    """Two people can watch one run; each sees what the other did."""
    async with driven(fakes.training()) as (pilot, source):
        source.feed(*fakes.command("x", "checkpoint", {}, 620, actor="ctl bob@laptop"))
        await until_seen(pilot, "checkpoint taken at step 620 · by ctl bob@laptop")


async def test_a_refusal_is_told_with_its_reason() -> None:
    """A command that the run refuses is not lost silently."""
    async with driven(fakes.training()) as (pilot, source):
        refused = fakes.replace_status(fakes.command("x", "undo", {}, -1)[0], "refused", "nothing to undo")
        source.feed(refused)
        await until_seen(pilot, "undo refused: nothing to undo")


async def test_undo_without_an_edit_says_so() -> None:
    """No command is sent for nothing."""
    async with driven([*fakes.opening(), *fakes.steps(1, 20)]) as (pilot, source):
        await pilot.press("u")
        await until_seen(pilot, "nothing to undo")
        assert source.sent == []


async def test_keys_1_to_4_show_and_hide_panes() -> None:
    """Each press turns one pane off or on again; the chart takes the room of hidden ones."""
    async with driven(fakes.training()) as (pilot, _):
        chart = run_screen(pilot.app).board.chart
        before = chart.size
        for key, pane in (("1", "trends"), ("2", "machine"), ("3", "logs"), ("4", "samples")):
            await pilot.press(key)
            await pilot.pause()
            assert not pilot.app.screen.query_one(f"#{pane}").display
        assert chart.size.width > before.width
        assert chart.size.height > before.height
        for key in "1234":
            await pilot.press(key)
        await pilot.pause()
        assert chart.size == before


async def test_tab_reaches_every_pane_in_turn() -> None:
    """On a compact screen too, where it brings the pane to light."""
    for size in (WIDE, COMPACT):
        async with driven(fakes.training(), size=size) as (pilot, _):
            seen = []
            for _ in range(6):
                await pilot.press("tab")
                await pilot.pause()
                pane = next(node for node in pilot.app.focused.ancestors_with_self if node.has_class("pane"))
                assert pane.display
                seen.append(pane.id)
            assert seen == ["trends", "machine", "logs", "samples", "events", "chart"]


async def test_z_maximises_the_focused_pane_and_puts_it_back() -> None:
    """The pane has the whole board, then its old place."""
    async with driven(fakes.training()) as (pilot, _):
        await pilot.press("tab", "tab", "tab", "z")
        await pilot.pause()
        logs = pilot.app.screen.query_one("#logs")
        assert logs.region.width == WIDE[0]
        assert not run_screen(pilot.app).board.chart.display
        await pilot.press("z")
        await pilot.pause()
        assert run_screen(pilot.app).board.chart.display


async def test_a_tiny_terminal_gets_a_sentence_and_recovers() -> None:
    """Too small is no error: the sentence names both sizes, and the screen comes back when there is room."""
    async with driven(fakes.training(), size=(50, 12)) as (pilot, _):
        assert "terminal too small (50x12); plt-tui needs" in screen_text(pilot.app)
        await pilot.resize_terminal(30, 5)
        await until_seen(pilot, "(30x5)")
        await pilot.resize_terminal(*WIDE)
        await until_seen(pilot, "● training")
        assert "too small" not in screen_text(pilot.app)
        await pilot.resize_terminal(1, 1)
        await pilot.pause()
        assert pilot.app.is_running


async def test_resizing_redraws_all_texts_to_the_new_width() -> None:
    """Lines cut for one width are not left over at another."""
    async with driven(fakes.training(), size=COMPACT) as (pilot, _):
        await pilot.resize_terminal(160, 50)
        await until_seen(pilot, "820k parameters")
        await pilot.resize_terminal(*COMPACT)
        await until(pilot, lambda: len(screen_lines(pilot.app)) == COMPACT[1])
        assert all(len(line) == COMPACT[0] for line in screen_lines(pilot.app))


async def test_the_first_frame_does_not_wait_for_the_hub() -> None:
    """While the connection is made the screen is there, says so, and can be left."""
    never = asyncio.Event()

    async def connect() -> fakes.FakeSource:
        await never.wait()
        raise AssertionError

    app = make_app(connect)
    async with app.run_test(size=WIDE) as pilot:
        await until_seen(pilot, "◌ connecting")
        await pilot.press("p")
        await until_seen(pilot, "not connected to the run yet")
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value is LeaveChoice.DETACH


async def test_an_unreachable_hub_is_said_in_words() -> None:
    """The reason stands on the screen, keys answer with it, and q leaves."""

    async def connect() -> fakes.FakeSource:
        raise HubUnreachable("quickstart: nobody answers on its socket; plt-tui ls shows live runs")

    app = make_app(connect)
    async with app.run_test(size=WIDE) as pilot:
        await until_seen(pilot, "✖ quickstart: nobody answers on its socket")
        assert "? not connected" in screen_text(pilot.app)
        await pilot.press("p")
        await until_seen(pilot, "pause: not connected to the run")
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value is LeaveChoice.DETACH


async def test_a_lost_hub_is_not_called_running() -> None:
    """When the hub goes without a last word, the header says that we do not know."""
    async with driven(fakes.training()) as (pilot, source):
        source.hang_up()
        await until_seen(pilot, "? not connected")
        assert "the hub has closed the connection" in screen_text(pilot.app)
        assert "● training" not in screen_text(pilot.app)
    assert source.closed


async def test_a_finished_run_says_so_and_q_just_leaves() -> None:
    """The same screen on a record: nothing to steer, nothing to ask."""

    async def connect() -> RecordSource:
        return RecordSource(fakes.finished())

    app = make_app(connect, now=fakes.at(2000))
    async with app.run_test(size=WIDE) as pilot:
        await until_seen(pilot, "✔ finished")
        text = screen_text(pilot.app)
        assert "step 1,000 / 1,000  100.0%" in text
        assert "elapsed 2m 30s" in text
        assert "plt-tui show quickstart" in text
        await pilot.press("c")
        await until_seen(pilot, "the run has finished: nothing to steer")
        await pilot.press("q")
        await pilot.pause()
    assert app.return_value is LeaveChoice.ENDED


@pytest.mark.parametrize("size", [WIDE, COMPACT])
async def test_a_failed_run_tells_who_failed_why_and_what_next(size: tuple[int, int]) -> None:
    """Rank, message, its last log lines and the command that goes on from here."""
    async with driven(fakes.failed(), size=size) as (pilot, _):
        text = screen_text(pilot.app)
        for words in ("✖ failed", "rank 1 failed at step 420: MemoryError", "loading batch 421", "step 420 / 1,000"):
            assert words in text
        assert "plt-tui run --resume auto --name quickstart" in text
        assert "ETA" not in text


async def test_a_run_that_ends_while_watched_stays_on_the_screen() -> None:
    """The end is told, and the view stays until q."""
    async with driven(fakes.training()) as (pilot, source):
        failure = Failed(time=fakes.at(601), rank=0, message="killed by signal 9", exit_code=4, step=600)
        source.feed(failure, End(time=fakes.at(602), phase="failed", step=600, exit_code=4, reason="restarts are used up"))
        source.hang_up()
        await until_seen(pilot, "✖ failed")
        assert "killed by signal 9" in screen_text(pilot.app)
        assert pilot.app.is_running


async def test_standing_alerts_are_seen_until_they_are_cleared() -> None:
    """An alert that nobody saw as a toast is still there."""
    async with driven(fakes.training()) as (pilot, source):
        source.feed(Alert(topic="disk", text="only 1.2 GiB left for checkpoints", level="error"))
        await until_seen(pilot, "! only 1.2 GiB left for checkpoints")
        source.feed(Alert(topic="disk", text=""))
        await until(pilot, lambda: "! only" not in screen_text(pilot.app))


async def test_a_click_on_the_key_bar_presses_the_key() -> None:
    """What is written there can be clicked."""
    async with driven(fakes.training()) as (pilot, source):
        place = screen_lines(pilot.app)[-1].index("save")
        await pilot.click("#keys", offset=(place, 0))
        await pilot.pause()
        assert [command.name for command in source.sent] == ["checkpoint"]


EVIL = (
    "\x1b]2;owned\x1b\\ \x1b]8;;http://x\x07 \x1b]52;c;aGk=\x07 \x1bPq\x1b\\ \x1b[6n \x9b31m \x9d0;t\x9c"
    " \x1b[2J \x07\x08\r\x0b\x0c \u202e \x7f"
    " [@click=app.quit]x[/] [/foo] [bold]"
)


@pytest.mark.parametrize("size", [(190, 50), COMPACT])
async def test_no_untrusted_text_can_control_the_terminal_or_the_app(size: tuple[int, int]) -> None:
    """Escapes and markup in logs, samples, names, reasons, notes and alerts are shown as text, in every pane and toast."""
    async with driven(fakes.hostile(EVIL), size=size) as (pilot, source):
        for keys in (["tab"] * 6, ["e"], ["escape", "l"], ["escape", "question_mark"], ["escape", "q"], ["escape"]):
            source.feed(
                Alert(topic=EVIL, text=EVIL),
                Logs(lines=[[0.0, EVIL, EVIL, EVIL]]),
                *fakes.command(EVIL, "note", {"text": EVIL}, 9),
            )
            for key in keys:
                await pilot.press(key)
                await pilot.pause()
                run_screen(pilot.app).tick()
                await pilot.pause()
                assert [char for char in screen_text(pilot.app) if not char.isprintable() and char != "\n"] == []
        await until_seen(pilot, r"\x1b]2;owned\x1b\ ")
        assert pilot.app.is_running


async def test_evaluations_push_no_edit_out_of_the_events() -> None:
    """An edit before hundreds of them is the oldest entry but one, the start."""
    edit = fakes.command("e1", "set", {"name": "lr", "value": 0.5, "mode": "scale"}, 7)
    scored = [Eval(step=step, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.4) for step in range(8, 2 * MAX_ENTRIES)]
    async with driven([*fakes.opening(), *edit, *scored]) as (pilot, _):
        block = pilot.app.screen.query_one(Events)._block
        run_screen(pilot.app).board.look_at("events")
        await until(pilot, lambda: block._parts)
        assert len(block._parts) == MAX_ENTRIES
        assert "learning rate" in block._parts[-2].plain
