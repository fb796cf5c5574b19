"""The UI's charts over a million points: opened, and drawn again after a step has come; one of 120x30, and the grid of all.

In this process and without a terminal: from the arrays of a run to finished rows of text and styles. Invariant: every row of
every widget is made in each measurement.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
from textual.app import App, ComposeResult

from benchmarks.table import Row, row
from plt_tui.protocol.events import Eval
from plt_tui.views.model import RunModel
from plt_tui.views.tui.chart.line_chart import Curve, LineChart
from plt_tui.views.tui.chart.series import Floats, Series
from plt_tui.views.tui.metrics import METRICS
from plt_tui.views.tui.palettes import curve_colors
from plt_tui.views.tui.panes.charts import Charts

SIZE = (120, 30)
GRID_SIZE = (140, 40)
"""As many cells as a maximised pane has in a terminal of 140x45: room for all metrics."""
NUM_EVALS = 200
SMOOTHING = 0.9
SEED = 6


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each measurement."""

    opened: list[float] = field(default_factory=list)
    redrawn: list[float] = field(default_factory=list)


def measure(*, quick: bool) -> list[Row]:
    """Opening and redrawing with their budgets, plain and smoothed."""
    points = 100_000 if quick else 1_000_000
    openings, redraws = (2, 5) if quick else (5, 40)
    plain, smoothed = asyncio.run(_measure(points, openings, redraws))
    rows = []
    for times, looks in ((plain, ""), (smoothed, ", smoothed")):
        rows.append(row(f"chart over {points:,} points{looks}: open", times.opened, "ms", at_most=500, budget="0.5 s"))
        rows.append(row(f"chart over {points:,} points{looks}: redraw", times.redrawn, "ms", at_most=10))
    grid = asyncio.run(_measure_grid(points, openings, redraws))
    what = f"grid of {len(METRICS)} charts over {points:,} points"
    rows.append(row(f"{what}: open", grid.opened, "ms", at_most=500, budget="0.5 s"))
    rows.append(row(f"{what}: redraw", grid.redrawn, "ms", at_most=10))
    return rows


class ChartApp(App[None]):
    """Nothing but a chart."""

    def compose(self) -> ComposeResult:
        """The chart fills the screen."""
        yield LineChart("loss")


class GridApp(App[None]):
    """Nothing but the chart pane."""

    def get_css_variables(self) -> dict[str, str]:
        """With the colours of the curves."""
        variables = super().get_css_variables()
        self.theme_variables = {**variables, **curve_colors("default", variables)}
        return self.theme_variables

    def compose(self) -> ComposeResult:
        """The pane fills the screen."""
        yield Charts("braille")


async def _measure_grid(points: int, openings: int, redraws: int) -> Times:
    times, app = Times(), GridApp()
    async with app.run_test(size=GRID_SIZE) as pilot:
        charts = app.query_one(Charts)
        charts.is_grid = True
        _draw_grid(charts, _model(100))
        await pilot.pause()
        assert len(charts.in_sight) == len(METRICS), f"only {len(charts.in_sight)} charts are in sight"
        for _ in range(openings):
            model = _model(points)
            times.opened.append(_draw_grid(charts, model))
        for _ in range(redraws):
            for name, values in model.steps.columns.items():
                values.append(values[-1] + (name == "step"))
            times.redrawn.append(_draw_grid(charts, model))
    return times


def _draw_grid(charts: Charts, model: RunModel) -> float:
    started_s = time.perf_counter()
    charts.show(model)
    for chart in charts.in_sight:
        _draw(chart)
    return (time.perf_counter() - started_s) * 1e3


def _model(points: int) -> RunModel:
    """A run of this many steps and some evaluations, as a view holds it."""
    model, noise = RunModel(), np.random.default_rng(SEED)
    steps, losses = _run(points)
    columns = {
        "time": 1.77e9 + steps / 10,
        "step": steps,
        "loss": losses,
        "lr": 3e-4 * np.cos(steps / points),
        "grad_norm": 1 + noise.normal(0.0, 0.1, points),
        "tokens": 2048 * steps,
        "tokens_per_s": 20_480 + noise.normal(0.0, 300.0, points),
        "step_ms": 100 + noise.normal(0.0, 2.0, points),
        "data_ms": np.ones(points),
    }
    for name, values in columns.items():
        model.steps.columns[name].frombytes(values.tobytes())
    for place in range(1, NUM_EVALS + 1):
        scores = {"loss": 2.0, "perplexity": 7.4, "bits_per_byte": 2.9, "accuracy": 0.5}
        model.evals.append(Eval(step=place * points // NUM_EVALS, **scores))
    model.revisions["evals"] += 1
    return model


async def _measure(points: int, openings: int, redraws: int) -> tuple[Times, Times]:
    steps, losses = _run(points + redraws)
    plain, smoothed = Times(), Times()
    app = ChartApp()
    async with app.run_test(size=SIZE):
        chart = app.query_one(LineChart)
        assert chart.size == SIZE, f"the chart has {chart.size}"
        for smoothing, times in ((0.0, plain), (SMOOTHING, smoothed)):
            chart.set_curves([])
            chart.smoothing = smoothing
            for _ in range(openings):
                series = Series()
                times.opened.append(_timed_open(chart, series, steps[:points], losses[:points]))
            for point in range(points, points + redraws):
                times.redrawn.append(_timed_redraw(chart, series, steps[point : point + 1], losses[point : point + 1]))
    return plain, smoothed


def _timed_open(chart: LineChart, series: Series, x: Floats, y: Floats) -> float:
    started_s = time.perf_counter()
    series.extend(x, y)
    chart.set_curves([Curve("train", series, "accent")])
    _draw(chart)
    return (time.perf_counter() - started_s) * 1e3


def _timed_redraw(chart: LineChart, series: Series, x: Floats, y: Floats) -> float:
    started_s = time.perf_counter()
    series.extend(x, y)
    chart.refresh_data()
    _draw(chart)
    return (time.perf_counter() - started_s) * 1e3


def _draw(chart: LineChart) -> None:
    for y in range(chart.size.height):
        chart.render_line(y)


def _run(points: int) -> tuple[Floats, Floats]:
    """Steps and losses that fall as a power and scatter, with a spike now and then."""
    noise = np.random.default_rng(SEED)
    steps = np.arange(1.0, points + 1)
    losses = 1.2 + 5 * steps**-0.3 + noise.normal(0.0, 0.05, points)
    losses[noise.integers(0, points, 50)] *= 3
    return steps, losses
