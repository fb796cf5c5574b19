"""The metrics of a run that can be charted, as one table: where each comes from, its name, its unit and its colour.

Says nothing about when a chart is seen. Invariant: ids are unique, and a metric that a run has no value of yet is not offered.
"""

from __future__ import annotations

from dataclasses import dataclass

from plt_tui.views.axis import NumberFormat
from plt_tui.views.formats import format_count, format_duration, format_value
from plt_tui.views.model import RunModel

MIN_CELLS = (34, 8)
"""Least width and height of a small chart: below, its labels leave no room for a curve."""
GAP_CELLS = 3
"""Between two small charts side by side."""
_ASPECT = 4.5
"""Width to height, in cells, that a chart is read best at: about golden where a cell is twice as high as wide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One chart of a run."""

    id: str
    title: str
    column: str = ""
    """Of the steps, see STEP_COLUMNS; empty: it is measured by evaluations only."""
    score: str = ""
    """Field of `Eval`; empty: evaluations do not measure it."""
    y_format: NumberFormat
    color: str
    is_exact: bool = False
    """True: there is no noise in it to smooth."""


def _milliseconds(value: float) -> str:
    return f"{value:.3g}ms" if abs(value) < 99.5 else format_duration(value / 1e3)


def _percent(value: float) -> str:
    return f"{value:.1%}"


METRICS = (
    Metric(id="loss", title="loss", column="loss", score="loss", y_format=format_value, color="curve-1"),
    Metric(id="lr", title="learning rate", column="lr", y_format=format_value, color="curve-3", is_exact=True),
    Metric(id="grad_norm", title="gradient norm", column="grad_norm", y_format=format_value, color="curve-4"),
    Metric(id="tokens_per_s", title="tokens/s", column="tokens_per_s", y_format=format_count, color="curve-5"),
    Metric(id="step_ms", title="step time", column="step_ms", y_format=_milliseconds, color="curve-6"),
    Metric(id="data_ms", title="data wait", column="data_ms", y_format=_milliseconds, color="curve-7"),
    Metric(id="accuracy", title="accuracy", score="accuracy", y_format=_percent, color="curve-2"),
    Metric(id="perplexity", title="perplexity", score="perplexity", y_format=format_value, color="curve-2"),
    Metric(id="bits_per_byte", title="bits per byte", score="bits_per_byte", y_format=format_value, color="curve-2"),
)


def known_metrics(model: RunModel | None) -> tuple[Metric, ...]:
    """The metrics that there is something to see of, in the order of the table."""
    return metrics_with(has_evals=model is not None and bool(model.evals))


def metrics_with(*, has_evals: bool) -> tuple[Metric, ...]:
    """Those of steps, and where there are evaluations theirs too, in the order of the table."""
    return tuple(metric for metric in METRICS if metric.column or has_evals)


def grid_shape(width: int, height: int, count: int) -> tuple[int, int]:
    """Rows and columns of small charts on `width` x `height` cells: for `count` of them, or as many as fit, at least one.

    Of several ways that have room for all it is the one with the fewest empty places, then that of the most readable charts.
    """
    most_columns = max(1, (width + GAP_CELLS) // (MIN_CELLS[0] + GAP_CELLS))
    most_rows = max(1, height // MIN_CELLS[1])
    if most_rows * most_columns <= count:
        return most_rows, most_columns
    shapes = [(-(-count // columns), columns) for columns in range(1, most_columns + 1)]

    def looks(shape: tuple[int, int]) -> tuple[int, float]:
        rows, columns = shape
        aspect = (max(width, 1) / columns) / (max(height, 1) / rows)
        return rows * columns - count, max(aspect / _ASPECT, _ASPECT / aspect)

    return min((shape for shape in shapes if shape[0] <= most_rows), key=looks)


def page_of(count: int, per_page: int, first: int, turn: int = 0) -> tuple[int, int]:
    """The page of metrics that holds number `first`, or one `turn` pages on, round and round: its first and the next one's."""
    pages = max(1, -(-count // per_page))
    page = (min(first, max(0, count - 1)) // per_page + turn) % pages
    return page * per_page, min(count, (page + 1) * per_page)


def page_words(first: int, stop: int, count: int, keys: str) -> str:
    """Which metrics are seen, and which keys show others, where it is not the first one alone or all of them."""
    if (first, stop) in ((0, 1), (0, count)):
        return ""
    return f"{keys} metric {stop} of {count}" if stop - first == 1 else f"{keys} metrics {first + 1}–{stop} of {count}"
