"""plt_tui.views.tui.metrics: which charts a run has, and how many of them fit."""

from __future__ import annotations

import dataclasses

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.protocol.events import STEP_COLUMNS, Eval
from plt_tui.views.model import RunModel
from plt_tui.views.tui.metrics import GAP_CELLS, METRICS, MIN_CELLS, Metric, grid_shape, known_metrics, page_of
from plt_tui.views.tui.palettes import CURVES


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.id)
def test_every_metric_is_measured(metric: Metric) -> None:
    """Its column and its score are among what steps and evaluations tell, it has a colour of the palette, and a unit."""
    assert metric.column or metric.score
    assert metric.column in ("", *STEP_COLUMNS)
    assert metric.score in ("", *(field.name for field in dataclasses.fields(Eval)))
    assert metric.color in CURVES
    assert metric.y_format(0.5)
    assert sum(other.id == metric.id for other in METRICS) == 1


def test_scores_are_offered_once_there_are_some() -> None:
    """A run that never evaluates has no empty charts."""
    model = RunModel()
    for event in fakes.training(90):
        model.fold(event)
    assert [metric.id for metric in known_metrics(model)] == [
        "loss",
        "lr",
        "grad_norm",
        "tokens_per_s",
        "step_ms",
        "data_ms",
    ]
    for event in fakes.steps(91, 100):
        model.fold(event)
    assert known_metrics(model) == METRICS
    assert known_metrics(None) == known_metrics(RunModel())


@pytest.mark.parametrize(
    ("width", "height", "count", "shape"),
    [
        (76, 8, 9, (1, 2)),
        (76, 18, 9, (2, 2)),
        (34, 8, 9, (1, 1)),
        (70, 8, 9, (1, 1)),
        (71, 8, 9, (1, 2)),
        (82, 25, 9, (3, 2)),
        (136, 40, 9, (3, 3)),
        (196, 58, 9, (3, 3)),
        (136, 40, 6, (3, 2)),
        (196, 30, 6, (2, 3)),
        (136, 9, 3, (1, 3)),
        (300, 90, 1, (1, 1)),
        (0, 0, 9, (1, 1)),
        (5, 2, 9, (1, 1)),
    ],
)
def test_the_grid_fits(width: int, height: int, count: int, shape: tuple[int, int]) -> None:
    """As many charts as can be read, and where there is room for all, in few empty places and good proportions."""
    assert grid_shape(width, height, count) == shape


@given(width=st.integers(0, 500), height=st.integers(0, 200), count=st.integers(1, 12))
def test_no_chart_of_the_grid_is_too_small(width: int, height: int, count: int) -> None:
    """At any size each chart has its least width and height, unless not even one has; and none is left out needlessly."""
    rows, columns = grid_shape(width, height, count)
    if columns > 1:
        assert (width - GAP_CELLS * (columns - 1)) // columns >= MIN_CELLS[0]
    if rows > 1:
        assert height // rows >= MIN_CELLS[1]
    most = max(1, (width + GAP_CELLS) // (MIN_CELLS[0] + GAP_CELLS)) * max(1, height // MIN_CELLS[1])
    assert rows * columns >= min(count, most)


@pytest.mark.parametrize(
    ("count", "per_page", "first", "turn", "page"),
    [
        (9, 4, 0, 0, (0, 4)),
        (9, 4, 0, 1, (4, 8)),
        (9, 4, 4, 1, (8, 9)),
        (9, 4, 8, 1, (0, 4)),
        (9, 4, 0, -1, (8, 9)),
        (9, 4, 5, 0, (4, 8)),
        (9, 9, 5, 1, (0, 9)),
        (9, 1, 3, 1, (3 + 1, 5)),
        (3, 2, 8, 0, (2, 3)),
        (0, 2, 0, 1, (0, 0)),
    ],
)
def test_pages_turn_round(count: int, per_page: int, first: int, turn: int, page: tuple[int, int]) -> None:
    """A page holds the metric that was looked at, the last may be short, and after it comes the first."""
    assert page_of(count, per_page, first, turn) == page
