"""plt_tui.views.tui.chart.sparkline: name, newest value and every spike in one or two rows."""

from __future__ import annotations

import numpy as np
import pytest
from textual.app import App, ComposeResult

from plt_tui.views.formats import format_value
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.sparkline import Sparkline


class SparkApp(App[None]):
    CSS = "Sparkline { width: 1fr; }"

    def __init__(self, values: list[float], mode: Mode = "braille", height: int = 1, label: str = "lr") -> None:
        super().__init__()
        self.spark = Sparkline(label, color="success", value_format=format_value, mode=mode)
        self.spark.styles.height = height
        self.spark.set_values(np.array(values))

    def compose(self) -> ComposeResult:
        yield self.spark


async def rows(app: SparkApp, width: int = 30) -> list[str]:
    """The rows of the widget on a terminal `width` cells wide."""
    async with app.run_test(size=(width, 4)):
        return [app.spark.render_line(y).text for y in range(app.spark.size.height)]


@pytest.mark.parametrize(
    ("mode", "height", "values", "expected"),
    [
        ("block", 1, [0, 1, 2, 3, 4, 5, 6, 7], ["lr            7.000 ▁▂▃▄▅▆▇█  "]),
        ("ascii", 1, [0, 1, 2, 3, 4, 5, 6, 7], ["lr            7.000 _.-=+*%#  "]),
        ("braille", 1, [0, 1, 2, 3], ["lr            3.000 ⡠⠊        "]),
        ("block", 2, [0, 15], ["lr         █                  ", "15.00     ▁█                  "]),
        ("block", 1, [], ["lr                -           "]),
        ("block", 1, [5, 5], ["lr            5.000 ▄▄        "]),
    ],
)
async def test_rows(mode: Mode, height: int, values: list[float], expected: list[str]) -> None:
    """Label left, newest value beside or below it, then the curve: character by character."""
    assert [row.rstrip() for row in await rows(SparkApp(values, mode, height))] == [row.rstrip() for row in expected]


@pytest.mark.parametrize("mode", ["braille", "block", "ascii"])
@pytest.mark.parametrize("spike", [9.0, -9.0])
async def test_a_spike_stands_out_among_many_values(mode: Mode, spike: float) -> None:
    """One step of five thousand, up or down, changes the picture in its column."""
    calm = [1.0, 1.1] * 2500
    loud = calm.copy()
    loud[2500] = spike
    (row,) = await rows(SparkApp(loud, mode))
    curve = row[20:].rstrip()
    odd_ones = [index for index, char in enumerate(curve) if curve.count(char) <= 2]
    assert 1 <= len(odd_ones) <= 3
    assert abs(odd_ones[0] - len(curve) // 2) <= 1


@pytest.mark.parametrize(("mode", "sign"), [("braille", "×"), ("block", "×"), ("ascii", "x")])
async def test_nan_is_marked(mode: Mode, sign: str) -> None:
    """A non-finite value is a red sign, not a gap; and all of them NaN is no error."""
    (row,) = await rows(SparkApp([1.0, 2.0, float("nan"), 3.0], mode))
    assert row[20:].count(sign) == 1
    (row,) = await rows(SparkApp([float("nan")] * 3, mode))
    assert "NaN" in row


@pytest.mark.parametrize("width", [1, 2, 5, 11, 19, 20, 21, 22])
@pytest.mark.parametrize("height", [1, 2])
async def test_no_width_raises(width: int, height: int) -> None:
    """However narrow, the rows have the width of the widget."""
    app = SparkApp([1.0, float("inf"), 2.0], height=height, label="a rather long name")
    assert {len(row) for row in await rows(app, width)} == {width}


async def test_new_values_replace_the_old_picture() -> None:
    """Setting values repaints; the newest one is shown; the caller's array is not kept."""
    app = SparkApp([1.0, 2.0], "block")
    async with app.run_test(size=(30, 4)) as pilot:
        values = np.array([1.0, 8.0])
        app.spark.set_values(values)
        values[1] = 3.0
        await pilot.pause()
        assert "8.000" in app.spark.render_line(0).text
