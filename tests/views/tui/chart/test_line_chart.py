"""plt_tui.views.tui.chart.line_chart: the widget in an app, by keys' actions, mouse, sizes and themes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from textual.app import App, ComposeResult
from textual.geometry import Region

from plt_tui.views.tui.chart import line_chart as chart_module
from plt_tui.views.tui.chart.lane import AXES, Rows, Track
from plt_tui.views.tui.chart.line_chart import Curve, LineChart, Mark
from plt_tui.views.tui.chart.scene import Scene
from plt_tui.views.tui.chart.series import Series
from plt_tui.views.tui.chart.viewport import Viewport

POINTS = 1000


class ChartApp(App[None]):
    """One chart over a falling loss with ten evaluations and one mark."""

    CSS = """
    LineChart { width: 1fr; }
    .hidden { display: none; }
    """

    def __init__(self, points: int = POINTS) -> None:
        super().__init__()
        self.train, self.eval = Series(), Series()
        steps = np.arange(1.0, points + 1)
        self.train.extend(steps, 2 + 6 * np.exp(-steps / 100))
        self.eval.extend(steps[99::100], 2.2 + 6 * np.exp(-steps[99::100] / 100))
        self.chart = LineChart("loss")
        self.chart.set_curves(
            [Curve("train", self.train, "primary"), Curve("eval", self.eval, "warning", style="dots", smooth=False)]
        )
        self.chart.set_marks([Mark(500.0, "◆", "lr halved by ana", "success")])

    def compose(self) -> ComposeResult:
        yield self.chart

    def row(self, y: int) -> str:
        return self.chart.render_line(y).text

    def shown(self) -> list[str]:
        return [self.row(y) for y in range(self.chart.size.height)]

    def window(self) -> tuple[float, float]:
        plot = self.chart._frame.plot if self.chart._frame is not None else None
        assert plot is not None
        return plot.x0, plot.x1


@pytest.fixture
def app() -> ChartApp:
    """An app that has not started yet."""
    return ChartApp()


async def test_it_shows_the_run_and_its_newest_values(app: ChartApp) -> None:
    """Title, legend with newest values, evaluations as markers, the mark, labels of both axes."""
    async with app.run_test(size=(90, 20)):
        rows = app.shown()
        assert rows[0].startswith("loss")
        assert rows[0].endswith("━ train 2.000  ● eval 2.200")
        assert sum(row.count("●") for row in rows[1:]) == 10
        assert rows[1].count("◆") == 1
        assert rows[-1].split() == ["step", "200", "400", "600", "800", "1k"]
        assert app.window()[0] == 1.0


async def test_zoom_and_pan_by_actions(app: ChartApp) -> None:
    """Zooming while live keeps the newest point; panning back holds the view; the tail follows again; out gives all."""
    async with app.run_test(size=(90, 20)):
        chart = app.chart
        app.shown()
        chart.action_zoom_in()
        chart.action_zoom_in()
        zoomed = app.window()
        assert chart.following
        assert zoomed[1] - zoomed[0] < POINTS / 2
        assert zoomed[1] >= POINTS
        chart.action_pan_left()
        assert not chart.following
        assert app.window()[1] < POINTS
        assert "held" in app.row(0)
        chart.action_view_start()
        assert app.window()[0] == 1.0
        chart.action_view_tail()
        assert chart.following
        assert app.window() == pytest.approx(zoomed)
        for _ in range(5):
            chart.action_zoom_out()
        assert app.window()[0] == 1.0
        assert app.window()[1] >= POINTS
        chart.action_pan_left()
        chart.action_pan_right()
        assert chart.following


async def test_a_live_view_follows_and_a_held_one_stays(app: ChartApp) -> None:
    """New points move the tail; they do not move what someone is looking at."""
    async with app.run_test(size=(90, 20)):
        app.shown()
        app.chart.action_zoom_in()

        def grow() -> None:
            last = len(app.train)
            steps = np.arange(last + 1.0, last + 201.0)
            app.train.extend(steps, np.full(200, 2.0))
            app.chart.refresh_data()

        grow()
        assert app.window()[1] >= POINTS + 200
        app.chart.following = False
        held = app.window()
        grow()
        assert app.window() == held
        app.chart.following = True
        assert app.window()[1] >= POINTS + 400


async def test_a_view_of_abandoned_points_returns_to_the_tail(app: ChartApp) -> None:
    """After a rewind nobody is left looking at nothing."""
    async with app.run_test(size=(90, 20)):
        app.shown()
        app.chart.action_zoom_in()
        app.chart.action_zoom_in()
        app.chart.following = False
        app.train.cut(200.0)
        app.eval.cut(200.0)
        app.chart.refresh_data()
        assert app.chart.following
        assert app.window()[1] < 300


async def test_log_axis_and_smoothing(app: ChartApp) -> None:
    """Both are said in the title row and can be stepped through and back."""
    async with app.run_test(size=(90, 20)):
        chart = app.chart
        plain = app.shown()
        chart.action_toggle_log()
        chart.action_smoother()
        chart.action_smoother()
        assert "log  smooth 0.8" in app.row(0)
        assert app.shown()[1:-1] != plain[1:-1]
        for _ in range(3):
            chart.action_rougher()
        chart.action_toggle_log()
        assert (chart.smoothing, chart.log_y) == (0.0, False)
        assert app.shown() == plain


async def test_the_crosshair_follows_the_pointer(app: ChartApp) -> None:
    """Hovering shows the step and all values there; leaving brings the legend back."""
    async with app.run_test(size=(90, 20)) as pilot:
        legend = app.row(0)
        await pilot.hover(LineChart, offset=(48, 8))
        await pilot.pause()
        assert app.chart.crosshair is not None
        step = round(app.chart.crosshair)
        assert f"step {step}" in app.row(0)
        assert "train 2.0" in app.row(0)
        assert "eval 2.2" in app.row(0)
        assert "│" in app.row(8)
        app.chart.crosshair = 500.0
        assert "◆ lr halved by ana" in app.row(0)
        await pilot.hover(LineChart, offset=(2, 8))  # on the labels there is no x
        await pilot.pause()
        assert app.row(0) == legend


async def test_the_wheel_zooms_at_the_pointer(app: ChartApp) -> None:
    """The x under the pointer stays under it."""
    async with app.run_test(size=(90, 20)) as pilot:
        await pilot.hover(LineChart, offset=(30, 8))
        under = app.chart.crosshair
        assert under is not None
        for _ in range(4):
            await pilot._post_mouse_events([chart_module.events.MouseScrollUp], LineChart, offset=(30, 8), button=0)
        assert app.window()[1] - app.window()[0] < POINTS / 1.9
        plot = app.chart._frame.plot if app.chart._frame is not None else None
        assert plot is not None
        assert plot.x_at(30) == pytest.approx(under, abs=2.0)
        for _ in range(8):
            await pilot._post_mouse_events([chart_module.events.MouseScrollDown], LineChart, offset=(30, 8), button=0)
        assert app.window()[0] == 1.0


async def test_dragging_pans_and_a_double_click_resets(app: ChartApp) -> None:
    """The point grabbed stays under the pointer; two clicks show the whole run."""
    async with app.run_test(size=(90, 20)) as pilot:
        app.shown()
        app.chart.action_zoom_in()
        app.chart.action_zoom_in()
        before = app.window()
        cell = (before[1] - before[0]) / 84
        await pilot.mouse_down(LineChart, offset=(30, 8))
        await pilot.hover(LineChart, offset=(40, 8))
        await pilot.mouse_up(LineChart, offset=(40, 8))
        assert app.window()[0] == pytest.approx(before[0] - 10 * cell)
        assert not app.chart.following
        await pilot.hover(LineChart, offset=(50, 8))
        assert app.window()[0] == pytest.approx(before[0] - 10 * cell)
        await pilot.double_click(LineChart, offset=(40, 8))
        assert app.chart.following
        assert app.window()[0] == 1.0


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 3), (5, 2), (20, 4), (8, 30), (200, 60)])
async def test_any_size(app: ChartApp, size: tuple[int, int]) -> None:
    """From one cell up every action and the pointer work, and rows have the width of the widget."""
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.resize_terminal(*size)
        await pilot.pause()
        for act in actions(app.chart):
            act()
            assert {len(row) for row in app.shown()} == {size[0]}
        await pilot.hover(LineChart, offset=(size[0] - 1, size[1] - 1))
        assert {len(row) for row in app.shown()} == {size[0]}
        await pilot.resize_terminal(60, 12)
        await pilot.pause()
        assert app.row(0).startswith("loss")


def actions(chart: LineChart) -> list[Callable[[], None]]:
    """Every action, in an order that ends where it began."""
    return [
        chart.action_zoom_in,
        chart.action_zoom_in,
        chart.action_pan_left,
        chart.action_pan_right,
        chart.action_view_start,
        chart.action_view_tail,
        chart.action_toggle_log,
        chart.action_smoother,
        chart.action_rougher,
        chart.action_zoom_out,
    ]


async def test_before_the_first_step_everything_works() -> None:
    """Without a point the keys do nothing and the chart says what it waits for; the first point appears by itself."""
    app = ChartApp(points=0)
    async with app.run_test(size=(60, 12)) as pilot:
        for act in actions(app.chart):
            act()
        app.chart.following = False
        await pilot.hover(LineChart, offset=(30, 6))
        assert "waiting for the first step" in app.row(6)
        assert app.chart.following
        app.train.extend(np.array([1.0]), np.array([7.5]))
        app.chart.refresh_data()
        assert "train 7.500" in app.row(0)
        assert sum(row.count("●") for row in app.shown()[1:]) == 1


async def test_a_theme_change_recolors(app: ChartApp) -> None:
    """Colours are the new theme's at once, without new data."""

    def legend_colors() -> set[object]:
        return {segment.style.color for segment in app.chart.render_line(0) if segment.style is not None}

    async with app.run_test(size=(60, 12)) as pilot:
        dark = legend_colors()
        app.theme = "textual-light"
        await pilot.pause()
        assert legend_colors().isdisjoint(dark)
        app.theme = "ansi-dark"
        await pilot.pause()
        assert any(segment.style.dim for segment in app.chart.render_line(11) if segment.style is not None)


async def test_only_cells_that_look_different_are_repainted(app: ChartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new point repaints its cells and the value in the legend, not the chart; no new point repaints nothing."""
    async with app.run_test(size=(90, 20)) as pilot:
        app.shown()
        await pilot.pause()
        regions: list[tuple[Region, ...]] = []
        monkeypatch.setattr(app.chart, "refresh", lambda *args, **_: regions.append(args))
        app.chart.refresh_data()
        assert regions == []
        app.train.extend(np.array([POINTS + 1.0]), np.array([2.5]))
        app.chart.refresh_data()
        (changed,) = regions
        assert changed
        assert sum(region.area for region in changed) < 30
        regions.clear()
        app.chart.crosshair = 400.0
        (changed,) = regions
        assert sum(region.area for region in changed if region.y > 0) <= 18


async def test_a_hidden_chart_costs_nothing_and_is_right_when_shown(app: ChartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it cannot be seen no picture is made; once shown it has the newest data."""
    composed: list[Scene] = []
    compose = chart_module.compose
    monkeypatch.setattr(chart_module, "compose", lambda scene, *args: composed.append(scene) or compose(scene, *args))
    async with app.run_test(size=(90, 20)) as pilot:
        app.chart.add_class("hidden")
        await pilot.pause()
        composed.clear()
        for step in range(1, 6):
            app.train.extend(np.array([float(POINTS + step)]), np.array([3.0]))
            app.chart.refresh_data()
        await pilot.pause()
        assert composed == []
        app.chart.remove_class("hidden")
        await pilot.pause()
        assert len(composed) == 1
        assert "train 3.000" in app.row(0)


class ListeningApp(ChartApp):
    """Keeps what the chart tells."""

    def __init__(self) -> None:
        super().__init__()
        self.clicked: list[int] = []
        self.moved = self.hovered = 0

    def on_line_chart_clicked(self, event: LineChart.Clicked) -> None:
        self.clicked.append(event.step)

    def on_line_chart_moved(self) -> None:
        self.moved += 1

    def on_line_chart_hovered(self) -> None:
        self.hovered += 1


async def test_a_click_tells_the_step_and_a_drag_does_not() -> None:
    """Pointing and moving the view share a button; a click beside the plot, or with another button, points at nothing."""
    app = ListeningApp()
    async with app.run_test(size=(90, 20)) as pilot:
        app.shown()
        plot = app.chart._frame.plot if app.chart._frame is not None else None
        assert plot is not None
        mark = plot.cell_of(500.0) or 0
        await pilot.click(LineChart, offset=(mark, 8))
        await pilot.click(LineChart, offset=(2, 8))
        await pilot.click(LineChart, offset=(60, 8), button=3)
        await pilot.pause()
        assert app.clicked == [500]
        app.chart.action_zoom_in()
        await pilot.mouse_down(LineChart, offset=(30, 8))
        await pilot.hover(LineChart, offset=(40, 8))
        await pilot.mouse_up(LineChart, offset=(40, 8))
        await pilot.pause()
        assert app.clicked == [500]
        await pilot.click(LineChart, offset=(30, 8))
        await pilot.pause()
        assert len(app.clicked) == 2


async def test_only_what_its_user_did_is_told() -> None:
    """Charts that follow another one must not answer, or two of them would talk for ever."""
    app = ListeningApp()
    async with app.run_test(size=(90, 20)) as pilot:
        app.shown()
        app.chart.show_part(Viewport(span=100.0))
        app.chart.crosshair = 30.0
        app.chart.pointed = 40.0
        await pilot.pause()
        assert (app.moved, app.hovered) == (0, 0)
        app.chart.action_zoom_in()
        app.chart.reveal(10.0)
        await pilot.hover(LineChart, offset=(30, 8))
        await pilot.pause()
        assert (app.moved, app.hovered) == (2, 1)


async def test_another_axis_shows_the_same_steps(app: ChartApp) -> None:
    """Zoom, hairlines and live tail are a matter of steps, whatever x counts; and back is back."""
    async with app.run_test(size=(90, 20)):
        app.shown()
        chart, steps = app.chart, np.arange(1.0, POINTS + 1)
        track = Track("wall")
        track.extend(Rows(step=steps, time=1e9 + steps**2, tokens=steps, step_ms=np.full(POINTS, 1.0)))
        on_steps = chart._curves
        on_wall = [replace(curve, lane=track) for curve in on_steps]
        for viewport in (Viewport(span=200.0, left=300.0), Viewport(span=200.0), Viewport()):
            chart.show_part(viewport)
            chart.pointed = 600.0
            chart.set_curves(on_wall, axis=AXES["wall"])
            x0, x1 = app.window()
            first, last = track.step_at(x0), track.step_at(x1)
            assert first == pytest.approx(POINTS - 200.0 if viewport.follows and viewport.span else viewport.left or 1.0, abs=3)
            assert last == pytest.approx(500.0 if viewport.left else POINTS, abs=1)
            assert chart.following == viewport.follows
            assert app.row(19).split()[0] == "wall"
            chart.set_curves(on_steps, axis=AXES["step"])
            if viewport.span is not None:
                assert chart.viewport.span == pytest.approx(viewport.span)
            assert chart.viewport.left == (pytest.approx(viewport.left) if viewport.left else None)


async def test_a_step_is_brought_into_view(app: ChartApp) -> None:
    """Pointing at a step that is out of sight moves the view there, and one in sight moves nothing."""
    async with app.run_test(size=(90, 20)):
        app.shown()
        app.chart.show_part(Viewport(span=100.0))
        app.chart.reveal(950.0)
        assert app.chart.viewport == Viewport(span=100.0)
        app.chart.reveal(400.0)
        x0, x1 = app.window()
        assert x0 < 400.0 < x1
        assert not app.chart.following


async def test_setting_the_same_marks_repaints_nothing(app: ChartApp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A screen may set its marks at every tick."""
    async with app.run_test(size=(90, 20)):
        app.shown()
        calls: list[object] = []
        monkeypatch.setattr(app.chart, "refresh", lambda *args, **_: calls.append(args))
        app.chart.set_marks([Mark(500.0, "◆", "lr halved by ana", "success")])
        assert calls == []
        app.chart.set_marks([])
        assert len(calls) == 1
