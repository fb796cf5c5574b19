"""The comparison, driven by keys: what is overlaid, what the table says, and that live runs are followed."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import fakes
import pytest
import scenes
from driving import screen_lines, screen_text
from run_fakes import seen, seen_text
from textual.pilot import Pilot

from plt_tui.config.schema import RunConfig, UiSection
from plt_tui.errors import HubUnreachable
from plt_tui.protocol.events import Event
from plt_tui.views.formats import format_value
from plt_tui.views.source import Source
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.chart.lane import AXES
from plt_tui.views.tui.metrics import METRICS
from plt_tui.views.tui.pace import TICK_S
from plt_tui.views.tui.panes.comparison import GLYPHS, GLYPHS_ASCII, CompareTable, looks, told_apart
from plt_tui.views.tui.runs import OpenedRun
from plt_tui.views.tui.runs_keys import COMPARE_KEYS
from plt_tui.views.tui.screens.compare import CompareScreen
from plt_tui.views.tui.screens.leave import LeaveChoice

OTHER = RunConfig().model_copy(update={"optim": RunConfig().optim.model_copy(update={"lr": 0.5})})


def opened(source: fakes.FakeSource, name: str, config: RunConfig | None = None) -> OpenedRun:
    """A run to compare, from this source."""
    return OpenedRun(name=name, connect=source.connect, config=config or RunConfig())


@asynccontextmanager
async def compared(
    *runs: OpenedRun,
    size: tuple[int, int] = (120, 40),
    ui: UiSection = UiSection(),  # noqa: B008  (frozen)
) -> AsyncIterator[tuple[Pilot, CompareScreen]]:
    """The app on a comparison of these runs, all of them read and drawn."""
    app = RunApp(ui=ui, actor=fakes.ACTOR, compare=runs)
    async with app.run_test(size=size) as pilot:
        await seen(pilot, lambda: isinstance(app.screen, CompareScreen))
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        await seen(pilot, lambda: all(each.model.is_live or each.link == "closed" for each in screen.sessions))
        screen.draw()
        await pilot.pause()
        yield pilot, screen


real = CompareScreen.lines


def two() -> tuple[OpenedRun, OpenedRun]:
    """Two runs that share their first 300 steps."""
    return opened(fakes.FakeSource(fakes.training()), "first"), opened(fakes.FakeSource(fakes.finished()), "second", OTHER)


@pytest.mark.parametrize("size", [(60, 20), (80, 24), (120, 40), (200, 60)])
async def test_two_runs_stand_side_by_side_at_any_size(size: tuple[int, int]) -> None:
    """Names with their signs, numbers, the first step that differs and what differs in the configuration, within the screen."""
    async with compared(*two(), size=size) as (pilot, screen):
        look = looks(["first", "second"], "braille")
        for words in ("compare", f"{look['first'].glyph} first", f"{look['second'].glyph} second", "1.755", "1.592"):
            assert words in screen_text(pilot.app)
        assert [len(line) for line in screen_lines(pilot.app)] == [size[0]] * size[1]
        await pilot.press("tab", "z", "end")
        await seen_text(pilot, "loss differs at", "step 301", "optim.lr", "0.003", "0.5")
        assert screen.table.has_focus


async def test_every_key_can_be_pressed() -> None:
    """Each entry of the table acts under each of its keys, and but for help and palette no other screen opens."""
    async with compared(*two()) as (pilot, screen):
        for key in (key for key in COMPARE_KEYS if key.id != "leave"):
            for pressed in key.keys.split(","):
                await pilot.press(pressed)
                await seen(pilot, lambda key=key: (pilot.app.screen is screen) != (key.id in ("help", "palette")))
                if key.id in ("help", "palette"):
                    await pilot.press("escape")
                    await seen(pilot, lambda: pilot.app.screen is screen)
        assert pilot.app.is_running


@pytest.mark.parametrize("key", ["q", "escape", "ctrl+q", "ctrl+c"])
async def test_it_is_left_by_each_of_its_keys(key: str) -> None:
    """Where it was the first screen the app ends."""
    async with compared(*two()) as (pilot, _):
        await pilot.press(key)
        await pilot.pause()
    assert pilot.app.return_value is LeaveChoice.DETACH


async def test_chart_keys_act_on_the_chart_wherever_the_focus_is() -> None:
    """Zoom, log axis, smoothing and the x axis, which goes through all that it can count."""
    async with compared(*two()) as (pilot, screen):
        await pilot.press("tab", "y", "s", "plus")
        assert (screen.chart.log_y, screen.chart.smoothing > 0) == (True, True)
        assert screen.chart.viewport.span is not None
        counted = []
        for _ in AXES:
            await pilot.press("x")
            await pilot.pause()
            counted.append(screen.chart.axis_name)
            await seen_text(pilot, AXES[screen.chart.axis_name].title)
        assert sorted(counted) == sorted(AXES)


async def test_evaluations_can_be_hidden() -> None:
    """Eight curves are easier to tell apart without them."""
    async with compared(*two()) as (pilot, screen):
        assert len(screen.chart._curves) == 4
        await pilot.press("e")
        await seen_text(pilot, "evaluations hidden")
        assert [curve.style for curve in screen.chart._curves] == ["line", "line"]
        await pilot.press("e")
        assert len(screen.chart._curves) == 4


async def test_a_live_run_is_followed() -> None:
    """New steps come into the curve and the table; a rewind takes the left steps out of both."""
    source = fakes.FakeSource(fakes.training())
    async with compared(opened(source, "live"), two()[1]) as (pilot, screen):
        source.feed(*fakes.steps(601, 640))
        await seen(pilot, lambda: screen.sessions[0].model.state.step == 640)
        screen.draw()
        await seen_text(pilot, "640 / 1,000")
        assert len(screen.chart._curves[0].series) == 640
        source.feed(*scenes.rewind("r", 500, 640))
        await seen(pilot, lambda: screen.sessions[0].model.state.step == 500)
        screen.draw()
        await seen_text(pilot, "500 / 1,000")
        assert len(screen.chart._curves[0].series) == 500
        assert source.sent == []


async def test_a_comparison_that_stands_still_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ticks without news look at no line and repaint nothing."""
    async with compared(*two()) as (_, screen):
        looked_at: list[str] = []
        monkeypatch.setattr(CompareScreen, "lines", lambda self: looked_at.append("all") or real(self))
        screen.draw()
        assert looked_at == []
        screen.sessions[0].model.fold(fakes.steps(601, 601)[0])
        screen.draw()
        assert looked_at == ["all"]


async def test_a_run_alone_is_shown_with_its_branches() -> None:
    """Each branch is a curve with a sign of its own, beginning where it left; on the time axis too."""
    async with compared(opened(fakes.FakeSource(scenes.rewound()), "sky")) as (pilot, screen):
        await seen_text(pilot, "branches of  sky", "branch 1", "left behind")
        lines = screen.lines()
        branch = lines[1].branch
        assert branch is not None
        curve = next(curve for curve in screen.chart._curves if curve.name == "branch 1")
        assert curve.series.x[0] == branch.first
        await pilot.press("x", "x")
        await pilot.pause()
        lane, main = (next(c for c in screen.chart._curves if c.name == name).lane for name in ("branch 1", "sky"))
        (left_at,) = main.place(curve.series.x[:1] - 1).tolist()
        (begins_at,) = lane.place(curve.series.x[:1]).tolist()
        assert begins_at >= left_at > 0


async def test_a_run_that_cannot_be_read_does_not_hide_the_others() -> None:
    """It is said which and why, and the other is shown."""

    async def nobody() -> Source:
        raise HubUnreachable("nobody answers")

    broken = OpenedRun(name="broken", connect=nobody, config=RunConfig())
    async with compared(broken, two()[1]) as (pilot, _):
        await seen_text(pilot, "✖ broken: nobody answers", "1.592")


async def test_hostile_names_and_texts_do_not_reach_the_screen() -> None:
    """Whatever a rank said or a file was called."""
    text = "\x1b[2J\u202e[bold]"
    async with compared(opened(fakes.FakeSource(fakes.hostile(text)), text), two()[1]) as (pilot, _):
        await seen_text(pilot, "\\x1b[2J")
        assert not {"\x1b", "\u202e"} & set(screen_text(pilot.app))


@pytest.mark.parametrize("mode", ["braille", "block", "ascii"])
async def test_signs_tell_curves_apart_without_colour(mode: str) -> None:
    """Both curves carry their sign, in characters that the mode allows."""
    falling: list[Event] = [*fakes.opening(), *fakes.steps(1, 200)]
    runs = [opened(fakes.FakeSource(falling), "a"), opened(fakes.FakeSource(fakes.finished()), "b")]
    async with compared(*runs, ui=UiSection(chart=mode)) as (pilot, screen):  # type: ignore[arg-type]
        await pilot.press("e")
        await pilot.pause()
        look = looks(["a", "b"], mode)  # type: ignore[arg-type]
        region = screen.chart.content_region
        plot = "".join(line[region.x : region.right] for line in screen_lines(pilot.app)[region.y + 1 : region.bottom - 1])
        assert {look["a"].glyph, look["b"].glyph} <= set(plot)
        assert all(look[name].glyph in (GLYPHS_ASCII if mode == "ascii" else GLYPHS) for name in "ab")
        assert mode != "ascii" or plot.isascii()


def test_a_name_keeps_its_look_whatever_else_is_compared() -> None:
    """As far as colours suffice: only of two that would have the same one gives way, the same one each time."""
    names = [f"run-{number}" for number in range(40)]
    alone = {name: looks([name], "braille")[name] for name in names}
    kept = sum(looks(["run-0", name], "braille")[name] == alone[name] for name in names)
    assert kept >= 30
    together = looks(names[:8], "braille")
    assert len({look.color for look in together.values()}) == len({look.glyph for look in together.values()}) == 8
    assert looks(names[7::-1], "braille") == together
    assert math.isclose(len({look.color for look in alone.values()}), 8)


def many(number: int, config: RunConfig | None = None) -> list[OpenedRun]:
    """So many runs that differ in their last sign only."""
    return [opened(fakes.FakeSource(fakes.finished()), f"run-of-a-sweep-{place}", config) for place in range(1, number + 1)]


async def test_eight_runs_are_told_apart_on_a_small_screen() -> None:
    """Names and numbers are whole; the columns that have no room come with the arrow keys, and no line folds."""
    async with compared(*many(8), size=(80, 24)) as (pilot, screen):
        await pilot.press("tab")
        seen_numbers = set()
        for _ in range(8):
            await pilot.press("right")
            await pilot.pause()
            lines = screen_lines(pilot.app)
            heads = next(line for line in lines if "numbers" in line and "sweep" in line)
            seen_numbers |= {number for number in range(1, 9) if f"sweep-{number}" in heads}
            assert next(line for line in lines if " step " in line and "/" in line).count("1,000 / 1,000") == heads.count(
                "sweep"
            )
        assert seen_numbers >= {2, 3, 4, 5, 6, 7, 8}
        assert "← → columns 6–8 of 8" in screen_text(pilot.app)
        before = screen.chart.viewport
        await pilot.press("plus", "right")
        assert screen.chart.viewport.span != before.span
        for _ in range(8):
            await pilot.press("left")
        await seen_text(pilot, "← → columns 1–3 of 8", "sweep-1")
        block = screen.table.query_one("Block")
        assert block.size.height == len(block._parts)  # type: ignore[attr-defined]  # no line folds


async def test_where_all_columns_are_in_sight_the_arrows_are_the_charts() -> None:
    """Whatever has the focus."""
    async with compared(*two()) as (pilot, screen):
        await pilot.press("tab", "plus", "plus")
        assert screen.table.has_focus
        before = screen.chart.viewport
        await pilot.press("left")
        assert screen.chart.viewport != before


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_long_values_show_what_differs(size: tuple[int, int]) -> None:
    """Not their common beginning, and all of them where there is room."""
    paths = [f"data/corpora/wikipedia-english-2024-06/part-{number}.txt" for number in range(2)]
    data = RunConfig().data
    configs = [RunConfig().model_copy(update={"data": data.model_copy(update={"train": path})}) for path in paths]
    runs = [opened(fakes.FakeSource(fakes.training()), f"run-{place}", config) for place, config in enumerate(configs)]
    async with compared(*runs, size=size) as (pilot, _):
        await pilot.press("tab", "z", "end")
        await seen_text(pilot, *(paths if size == (200, 60) else ["…part-0.txt", "…part-1.txt"]))


@pytest.mark.parametrize(
    ("texts", "width", "shown"),
    [
        (["a", "bb"], 4, ["a   ", "bb  "]),
        (["abcdef", "xyzuvw"], 4, ["abc…", "xyz…"]),
        (["x/abc/one", "x/abc/two"], 6, ["…one  ", "…two  "]),
        (["abcdefg-1", "abcdefg-2"], 6, ["…efg-1", "…efg-2"]),
        (["abcdef-1-abcdefg", "abcdef-2-abcdefg", "short"], 6, ["…1-ab…", "…2-ab…", "short "]),
        (["a/x/1234567", "a/x/1234568", "b/1234567890"], 6, ["…34567", "…34568", "…67890"]),
        (["abcdefgh", "abcdefgh"], 4, ["abc…", "abc…"]),
        (["漢漢漢漢", "x"], 4, ["漢 …", "x   "]),
    ],
)
def test_different_texts_look_different(texts: list[str], width: int, shown: list[str]) -> None:
    """Ends are cut as long as that tells them apart, else what they have in common, else all but their ends."""
    assert told_apart(texts, width) == shown


async def test_a_metric_can_be_chosen() -> None:
    """Round and round, also those that only evaluations measure; the same part of the runs stays in sight."""
    async with compared(*two()) as (pilot, screen):
        await pilot.press("plus")
        view, titles = screen.chart.viewport, []
        for _ in METRICS:
            titles.append(screen.chart.render_line(0).text.split("  ")[0].strip())
            await pilot.press("right_square_bracket")
            await pilot.pause()
            assert screen.chart.viewport == view
        assert titles == [metric.title for metric in METRICS]
        assert screen.chart.metric is METRICS[0]
        await pilot.press("left_square_bracket")
        await seen_text(pilot, "bits per byte", "[ ] metric 9 of 9")
        assert [curve.style for curve in screen.chart._curves] == ["dots", "dots"]
        await pilot.press("right_square_bracket", "right_square_bracket")
        await seen_text(pilot, "learning rate", "[ ] metric 2 of 9")
        assert [curve.name for curve in screen.chart._curves] == ["first", "second"]
        assert screen.chart._curves[0].series.y[-1] == screen.sessions[0].model.steps.columns["lr"][-1]


async def test_a_branch_is_shown_with_its_evaluations() -> None:
    """As dots on its curve and as numbers in its column."""
    async with compared(opened(fakes.FakeSource(scenes.left_with_evaluations()), "sky")) as (pilot, screen):
        curves = [curve for curve in screen.chart._curves if curve.style == "dots"]
        assert [curve.series.x.tolist() for curve in curves] == [[100, 200, 300, 400, 500, 600], [300, 400]]
        left = screen.sessions[0].model.branch_evals[1][-1]
        await seen_text(pilot, f"{format_value(left.loss)} @400")


@pytest.mark.parametrize(("low_bandwidth", "at_most"), [(False, 7), (True, 3)])
async def test_frames_come_at_the_pace_of_the_terminal(
    low_bandwidth: bool, at_most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six seconds of ticks, a step between any two of them, and where bytes are dear two or three frames."""
    async with compared(*two(), ui=UiSection(low_bandwidth=low_bandwidth)) as (_, screen):
        drawn: list[int] = []
        monkeypatch.setattr(CompareTable, "show", lambda *_: drawn.append(1))
        for step in range(601, 601 + round(6 / TICK_S)):
            screen.sessions[0].model.fold(fakes.steps(step, step)[0])
            screen.tick()
        assert 1 <= len(drawn) <= at_most


async def test_what_never_changes_is_looked_up_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the configurations nor the steps that were compared."""
    async with compared(*two()) as (_, screen):
        for name in ("compare.flat", "tui.screens.compare.flat", "compare._go_on"):
            monkeypatch.setattr(f"plt_tui.views.{name}", None)
        screen.sessions[0].model.fold(fakes.steps(601, 601)[0])
        screen.draw()
        assert screen._drawn
