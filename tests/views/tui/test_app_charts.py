"""The chart pane in the app: axes, the grid and its pages, and what is never hidden in any chart."""

from __future__ import annotations

import dataclasses
import math

import fakes
import pytest
import scenes
from charting import HUGE, charts, press, titles, windows
from driving import COMPACT, WIDE, driven, run_screen, screen_text, until

from plt_tui.protocol.events import Event, Step
from plt_tui.views.tui.chart import line_chart as chart_module
from plt_tui.views.tui.chart.lane import AXES
from plt_tui.views.tui.metrics import METRICS


async def test_x_goes_through_all_axes_and_back() -> None:
    """Each axis is named below the chart, in its own unit, and the fourth press is the first axis again."""
    async with driven(fakes.training()) as (pilot, _):
        named = []
        for _ in range(5):
            bottom = charts(pilot).in_sight[0].render_line(charts(pilot).in_sight[0].size.height - 1).text
            named.append(bottom.split()[:2])
            await press(pilot, "x")
        assert [name for name, _ in named] == [*AXES, "step"]
        assert named[0] == named[4]
        assert named[2][1].endswith("s")


async def test_the_zoom_is_kept_from_axis_to_axis() -> None:
    """The steps in view stay in view, held or following."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "plus", "plus", "left", "left")
        before = charts(pilot).in_sight[0].viewport
        assert not before.follows
        for _ in AXES:
            await press(pilot, "x")
        after = charts(pilot).in_sight[0].viewport
        assert (after.span, after.left) == (pytest.approx(before.span), pytest.approx(before.left))


@pytest.mark.parametrize(
    ("size", "shown"), [(COMPACT, 2), ((120, 40), 2), (WIDE, 6), (HUGE, 9)], ids=["80x24", "120x40", "140x45", "200x60"]
)
async def test_m_shows_as_many_charts_as_fit_and_brackets_the_others(size: tuple[int, int], shown: int) -> None:
    """All metrics can be reached at any size, in their order, and m brings the one chart back."""
    async with driven(fakes.training(), size=size) as (pilot, _):
        await press(pilot, "m")
        seen = titles(pilot)
        assert len(seen) == shown
        assert all(chart.size.width >= 34 and chart.size.height >= 7 for chart in charts(pilot).in_sight)
        assert len({chart.size.width for chart in charts(pilot).in_sight}) == 1
        while len(seen) < len(METRICS):
            assert f"of {len(METRICS)}" in str(charts(pilot).border_subtitle)
            await press(pilot, "right_square_bracket")
            seen += titles(pilot)
        assert seen == [metric.title for metric in METRICS]
        await press(pilot, "right_square_bracket")
        assert titles(pilot)[0] == "loss"
        await press(pilot, "left_square_bracket", "right_square_bracket", "m")
        assert titles(pilot) == ["loss"]
        assert str(charts(pilot).border_subtitle) == ""


async def test_brackets_show_other_metrics_large() -> None:
    """Without the grid a page is one chart, and the grid opens where one was."""
    async with driven(fakes.training(), size=COMPACT) as (pilot, _):
        await press(pilot, "right_square_bracket", "right_square_bracket")
        assert titles(pilot) == ["gradient norm"]
        assert "metric 3 of 9" in screen_text(pilot.app)
        await press(pilot, "m")
        assert titles(pilot) == ["gradient norm", "tokens/s"]
        await press(pilot, "m", "left_square_bracket", "left_square_bracket", "left_square_bracket")
        assert titles(pilot) == ["bits per byte"]


async def test_keys_act_on_all_charts_of_the_grid() -> None:
    """Zoom, pan, tail, log axis, smoothing and x are those of the whole grid, also of pages that come into sight later."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "m")
        for keys in (["plus", "plus"], ["left"], ["home"], ["x"], ["minus"], ["end"], ["x", "plus"]):
            await press(pilot, *keys)
            assert len(windows(pilot)) == 1
        await press(pilot, "y", "s", "s")
        states = {(chart.log_y, chart.smoothing, chart.axis.name) for chart in charts(pilot).in_sight}
        assert states == {(True, 0.8, "wall")}
        window = windows(pilot)
        await press(pilot, "right_square_bracket")
        assert windows(pilot) == window
        assert {(chart.log_y, chart.smoothing, chart.axis.name) for chart in charts(pilot).in_sight} == states
        await press(pilot, "S", "S", "x", "minus", "left_square_bracket")
        assert len(windows(pilot)) == 1
        assert {(chart.smoothing, chart.axis.name) for chart in charts(pilot).in_sight} == {(0.0, "active")}


async def test_z_gives_the_grid_all_the_room() -> None:
    """A larger pane holds more charts, and they come back when it shrinks."""
    async with driven(fakes.training()) as (pilot, _):
        await press(pilot, "m")
        assert len(titles(pilot)) == 6
        await press(pilot, "z")
        assert len(titles(pilot)) == 9
        assert charts(pilot).region.width == WIDE[0]
        await press(pilot, "z")
        assert len(titles(pilot)) == 6


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_what_is_no_number_is_seen_in_every_chart_of_the_grid(value: float) -> None:
    """One bad step of six hundred has its red sign in each metric that it spoiled."""
    history: list[Event] = [
        dataclasses.replace(event, loss=value, grad_norm=value, step_ms=value, tokens_per_s=value)
        if isinstance(event, Step) and event.step == 333
        else event
        for event in fakes.training()
    ]
    async with driven(history, size=HUGE) as (pilot, _):
        await press(pilot, "m")
        sign = "×" if math.isnan(value) else "^"
        for chart in charts(pilot).in_sight:
            rows = [chart.render_line(y).text for y in range(1, chart.size.height - 1)]
            assert any(sign in row for row in rows) == (chart._title in ("loss", "gradient norm", "step time", "tokens/s"))


async def test_a_spike_of_one_step_reaches_the_top_of_every_chart() -> None:
    """However few cells a chart has, no step is skipped."""
    history: list[Event] = [
        dataclasses.replace(event, loss=99.0, grad_norm=99.0) if isinstance(event, Step) and event.step == 333 else event
        for event in fakes.training()
    ]
    async with driven(history) as (pilot, _):
        await press(pilot, "m")
        for chart in charts(pilot).in_sight:
            if chart._title in ("loss", "gradient norm"):
                frame = chart._frame
                assert frame is not None
                assert frame.plot is not None
                assert frame.plot.scale is not None
                assert frame.plot.scale.high >= 99.0
                cell = frame.plot.cell_of(333.0) or 0
                column = "".join(chart.render_line(y).text[cell] for y in range(2, 5))
                assert any("\u2800" < char <= "\u28ff" for char in column)


async def test_a_rewind_cuts_all_charts_and_leaves_dim_branches() -> None:
    """Every metric of the steps shows what was left behind, none of it among the live points."""
    async with driven(scenes.rewound()) as (pilot, _):
        await press(pilot, "m")
        heads = [chart.render_line(0).text for chart in charts(pilot).in_sight[1:]]
        assert all("branch" in head for head in heads)
        for chart in charts(pilot).in_sight:
            assert [curve.name for curve in chart._curves if curve.left_behind] == ["branch 1"]


async def test_charts_out_of_sight_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only charts of the page are drawn, whatever was looked at before."""
    drawn: list[str] = []
    compose = chart_module.compose
    monkeypatch.setattr(chart_module, "compose", lambda scene, *args: drawn.append(scene.title) or compose(scene, *args))
    async with driven(fakes.training(), size=COMPACT) as (pilot, source):
        await press(pilot, "m", "right_square_bracket", "right_square_bracket", "left_square_bracket")
        shown = titles(pilot)
        drawn.clear()
        source.feed(*fakes.steps(601, 604))
        await until(pilot, lambda: run_screen(pilot.app).session.model.state.step == 604 and drawn)
        assert set(drawn) == set(shown)


async def test_the_first_evaluation_brings_its_charts() -> None:
    """Until then there is nothing to show of them; then they are there without a key."""
    async with driven([*fakes.opening(), *fakes.steps(1, 90)], size=HUGE) as (pilot, source):
        await press(pilot, "m")
        assert len(titles(pilot)) == 6
        source.feed(*fakes.steps(91, 110))
        await until(pilot, lambda: len(titles(pilot)) == 9)
