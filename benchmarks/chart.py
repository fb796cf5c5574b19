"""The UI's chart over a million points: opened, and drawn again after a step has come, in a terminal of 120x30.

In this process and without a terminal: from the arrays of a run to finished rows of text and styles. Invariant: every row of
the widget is made in each measurement.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

import numpy as np
from textual.app import App, ComposeResult

from benchmarks.table import Row, row
from plt_tui.views.tui.chart.line_chart import Curve, LineChart
from plt_tui.views.tui.chart.series import Floats, Series

SIZE = (120, 30)
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
    return rows


class ChartApp(App[None]):
    """Nothing but a chart."""

    def compose(self) -> ComposeResult:
        """The chart fills the screen."""
        yield LineChart("loss")


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
