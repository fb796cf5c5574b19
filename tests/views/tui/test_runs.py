"""The list of runs as values: order, filter, cells, and where the columns are."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time

import fakes
import pytest
from rich.cells import cell_len
from run_fakes import NOW, STORIES, row, stories

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Step
from plt_tui.views.tui.keys import Key
from plt_tui.views.tui.panes.run_table import cell_text, places, small_curve, started_words
from plt_tui.views.tui.runs import ORDER, Order, RunRow, arranged, counted_words, matches, to_compare
from plt_tui.views.tui.runs_keys import COMPARE_KEYS, RUNS_KEYS
from plt_tui.views.tui.screens.help import help_text
from plt_tui.views.tui.screens.runs import LONGEST_LOOK_S, LOOK_S, pause_s

ROWS = [row(name, events) for name, events in stories().items()]
BY_NAME = {each.name: each for each in ROWS}


def with_loss(name: str, loss: float) -> RunRow:
    """A row of which only name and loss matter."""
    last = Step(step=1, loss=loss, lr=0.1, grad_norm=1.0, tokens=1, tokens_per_s=1.0, step_ms=1.0)
    return RunRow(name=name, state=RunState(phase="running", step=1, last_step=last))


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (Order("name"), ["big-live", "big-paused", "done", "gone", "never-begun", "out-of-memory"]),
        (Order("name", is_reversed=True), ["out-of-memory", "never-begun", "gone", "done", "big-paused", "big-live"]),
        (Order("loss"), ["done", "big-live", "big-paused", "out-of-memory", "gone", "never-begun"]),
        (Order("loss", is_reversed=True), ["gone", "out-of-memory", "big-live", "big-paused", "done", "never-begun"]),
        (Order("step"), ["done", "big-live", "big-paused", "out-of-memory", "gone", "never-begun"]),
        (Order("state"), ["big-live", "big-paused", "done", "out-of-memory", "gone", "never-begun"]),
        (Order("took"), ["done", "big-live", "big-paused", "out-of-memory", "gone", "never-begun"]),
    ],
)
def test_rows_are_ordered_by_a_column(order: Order, names: list[str]) -> None:
    """Both ways; equal ones stay as they were, and those without a value come last either way."""
    assert [each.name for each in arranged(ROWS, "", order, NOW)] == names


def test_a_nan_is_the_worst_loss() -> None:
    """It stands neither first nor anywhere by chance."""
    rows = [with_loss("nan", math.nan), with_loss("good", 1.0), with_loss("bad", 9.0)]
    assert [each.name for each in arranged(rows, "", Order("loss"), NOW)] == ["good", "bad", "nan"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", list(STORIES)),
        ("BIG", ["big-live", "big-paused"]),
        ("live", ["big-live", "big-paused"]),
        ("failed", ["out-of-memory", "gone", "never-begun"]),
        ("training", ["big-live"]),
        ("over mem", ["out-of-memory"]),
        ("over big", []),
        ("nothing", []),
    ],
)
def test_words_filter_names_and_states(query: str, names: list[str]) -> None:
    """Every word has to be in the name or in a word for the state."""
    assert [each.name for each in ROWS if matches(each, query)] == names


def test_the_order_goes_through_all_columns_and_says_how() -> None:
    """The key comes round, and no order is told in the same words as another."""
    order, seen = Order(), []
    for _ in ORDER:
        seen += [order.words, order.reversed().words]
        order = order.next()
    assert order == Order()
    assert len(set(seen)) == 2 * len(ORDER)


@pytest.mark.parametrize(
    ("marked", "current", "names"),
    [
        ({"a", "c"}, "b", ["a", "c"]),
        (set(), "b", ["b", "a"]),
        (set(), "a", ["a"]),
        ({"b"}, "a", ["b"]),
        (set(), "", []),
    ],
)
def test_what_is_compared(marked: set[str], current: str, names: list[str]) -> None:
    """The marked runs, else the one under the cursor with the newest; the newest alone with its own branches."""
    assert to_compare(["a", "b", "c"], marked, current) == names


def test_a_run_that_is_over_stands_still() -> None:
    """Its time ends with its last word; only a live one's goes on."""
    assert BY_NAME["done"].took_s(NOW) == BY_NAME["done"].took_s(NOW + 1e6)
    assert BY_NAME["gone"].took_s(NOW) == fakes.at(300) - fakes.START
    assert BY_NAME["big-live"].took_s(fakes.START + 60) == 60
    assert BY_NAME["never-begun"].took_s(NOW) is None
    assert counted_words(ROWS, 6) == "6 runs, 2 live"
    assert counted_words(ROWS[:1], 0) == "1 run, 1 live, 0 shown"


@pytest.mark.parametrize("width", [20, 40, 59, 60, 80, 100, 110, 120, 200, 400])
def test_columns_fit_and_state_and_name_always_stay(width: int) -> None:
    """Where room is short the least needed go; nothing overlaps, and from 80 cells on all that was asked for is there."""
    found = places(width, 30)
    assert {"state", "name"} <= {each.column for each in found}
    assert all(after.x > before.x + before.width for before, after in itertools.pairwise(found))
    if width >= 40:
        assert found[-1].x + found[-1].width <= width
    if width >= 80:
        assert {each.column for each in found} >= {"state", "name", "step", "loss", None, "started", "took"}


@pytest.mark.parametrize("width", [6, 8, 11, 12, 15, 30])
@pytest.mark.parametrize("step", [0, 7, 123_456, 123_456_789])
def test_progress_fits_its_column_where_numbers_can(width: int, step: int) -> None:
    """As exactly as there is room: a share is told where it fits."""
    base = BY_NAME["big-live"]
    assert base.state.run is not None
    run = dataclasses.replace(base.state.run, target_step=200_000_000)
    far = dataclasses.replace(base, state=dataclasses.replace(base.state, step=step, run=run))
    text = cell_text(far, "step", width, NOW)
    assert "/" in text
    assert len(text) <= max(width, 9)
    if width == 30:
        assert text == f"{step}/200000000 {step / 200_000_000:4.0%}"


def test_starts_are_told_as_short_as_they_are_near() -> None:
    """The clock of today, the day of this year, the month of others."""
    now = time.mktime((2026, 3, 14, 15, 9, 26, 0, 0, -1))
    assert started_words(now - 3600, now, is_short=True) == "14:09"
    assert started_words(now - 86400 * 3, now, is_short=True) == "03-11"
    assert started_words(now - 86400 * 300, now, is_short=True) == "25-05"
    assert started_words(now - 3600, now, is_short=False) == "03-14 14:09"
    assert started_words(now - 86400 * 300, now, is_short=False) == "2025-05-18"
    assert started_words(0.0, now, is_short=True) == "–"


@pytest.mark.parametrize("mode", ["braille", "block", "ascii"])
@pytest.mark.parametrize(
    "losses", [(), (1.0,), (2.0,) * 5, (3.0, 2.0, 1.0), (1.0, math.nan, 2.0), (math.inf, math.nan), tuple(range(300))]
)
def test_a_small_curve_has_its_width_and_shows_what_is_no_number(losses: tuple[float, ...], mode: str) -> None:
    """At any length, in every set of glyphs."""
    text = small_curve(losses, 10, mode)  # type: ignore[arg-type]
    assert cell_len(text) == 10
    assert (("x" if mode == "ascii" else "×") in text) == any(not math.isfinite(loss) for loss in losses)
    assert bool(text.strip()) == bool(losses)
    assert mode != "ascii" or text.isascii()


def test_looking_costs_a_hundredth_of_a_core_at_most() -> None:
    """The dearer a look, the longer until the next one, up to half a minute."""
    assert (pause_s(0.0), pause_s(0.05), pause_s(9.0)) == (LOOK_S, 5.0, LONGEST_LOOK_S)
    assert pause_s(0.0, is_frugal=True) > LOOK_S


@pytest.mark.parametrize("keys", [RUNS_KEYS, COMPARE_KEYS], ids=["runs", "compare"])
def test_the_key_tables_are_complete(keys: tuple[Key, ...]) -> None:
    """Ids, keys and footer places are unique; each has a sentence that fits and stands in the help."""
    pressed = [one for key in keys for one in key.keys.split(",")]
    ranks = [key.rank for key in keys if key.rank]
    assert len(pressed) == len(set(pressed))
    assert len({key.id for key in keys}) == len(keys)
    assert sorted(ranks) == list(range(1, len(ranks) + 1))
    for key in keys:
        assert key.help.endswith(".")
        assert len(key.help) <= 64
        assert f"{key.shown}  {key.help}" in help_text(keys).plain
