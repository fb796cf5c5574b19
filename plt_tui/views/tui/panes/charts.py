"""The chart pane: one metric large, or a grid of small charts, all over the same part of the run.

Chart keys and the mouse act on all of them. Invariant: charts in sight show the same steps in the same way, and one that is out
of sight costs nothing until it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from textual import on
from textual.app import ComposeResult
from textual.containers import Container
from textual.content import Content
from textual.message import Message
from textual.reactive import reactive

from plt_tui.views.model import RunModel
from plt_tui.views.tui.chart.lane import AXES, AxisName
from plt_tui.views.tui.chart.line_chart import LineChart
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.scene import DEFAULT_GUTTER, Curve, Mark
from plt_tui.views.tui.chart.smoothing import stepped
from plt_tui.views.tui.chart.viewport import Viewport
from plt_tui.views.tui.curves import RunCurves
from plt_tui.views.tui.marks import marks
from plt_tui.views.tui.metrics import GAP_CELLS, METRICS, Metric, grid_shape, known_metrics, page_of, page_words
from plt_tui.views.tui.panes.bars import Refused
from plt_tui.views.tui.person import page_keys

_WHOLE = "the whole run is shown"
GRID_GUTTER = 8
"""Cells left of a small plot: enough for the labels of every metric, so that all plots are equally wide."""


class Charts(Container, can_focus=True):
    """The charts of one run."""

    DEFAULT_CSS = """
    Charts { layout: grid; grid-size: 1 1; }
    Charts > LineChart { width: 100%; height: 100%; }
    """

    axis: reactive[AxisName] = reactive[AxisName]("step", repaint=False)
    """What the x axes count."""
    is_grid: reactive[bool] = reactive(False, repaint=False)
    """True: several small charts; False: one."""
    log_y: reactive[bool] = reactive(False, repaint=False)
    """True: powers of ten."""
    smoothing: reactive[float] = reactive(0.0, repaint=False)
    """Weight of the past in the smoothed lines, 0 (off) to below 1."""

    class Pointed(Message):
        """Somebody clicked at a step; None: that was no pointing after all."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(self, mode: Mode) -> None:
        super().__init__(id="chart", classes="pane")
        self._mode = mode
        self._curves = RunCurves()
        self._viewport = Viewport()
        self._pointed: int | None = None
        self._hovered: LineChart | None = None
        self._first = 0
        """Number of the first metric in sight."""
        self._known: tuple[Metric, ...] = ()
        """The metrics that there is something to see of, when charts were last chosen."""
        self._charts: dict[str, LineChart] = {}
        self._shown: dict[str, tuple[list[Curve], list[Curve]]] = {}
        """Curves and anchors that each chart has."""
        self._marks: list[Mark] = []
        self._story_seen = -1
        self._model: RunModel | None = None
        self._new_chart(METRICS[0])

    def compose(self) -> ComposeResult:
        """The loss; the others come when they are looked at."""
        yield self._charts[METRICS[0].id]

    def _new_chart(self, metric: Metric) -> LineChart:
        chart = LineChart(metric.title, y_format=metric.y_format, mode=self._mode, id=f"chart-{metric.id}")
        chart.can_focus = False  # the pane has the focus: its keys are for all of them
        self._charts[metric.id] = chart
        return chart

    @property
    def marks(self) -> list[Mark]:
        """Everything marked, by step."""
        return self._marks

    @property
    def in_sight(self) -> list[LineChart]:
        """The charts that are shown, the first one first."""
        return [self._charts[metric.id] for metric in METRICS if metric.id in self._charts and self._charts[metric.id].display]

    def show(self, model: RunModel) -> None:
        """Draw what is new in `model`, as far as it is in sight."""
        self._model = model
        if model.revisions["story"] != self._story_seen:
            self._story_seen = model.revisions["story"]
            self._marks = marks(model.happenings.values())
        if known_metrics(model) != self._known:
            self._arrange()
        self._draw()

    def point_at(self, step: int | None) -> None:
        """Draw a hairline at `step`, which comes into view, or none."""
        self._pointed = step
        for chart in self.in_sight:
            chart.pointed = step
        if step is not None:
            self._act(lambda chart: chart.reveal(step))

    # --- drawing -----------------------------------------------------------------------------------------------------------

    def on_resize(self) -> None:
        """Another size has room for more charts or fewer."""
        self._arrange()
        self._draw()

    def watch_is_grid(self) -> None:
        """Show other charts."""
        self._arrange()
        self._draw()

    def watch_axis(self) -> None:
        """Find the same steps on another axis."""
        self._draw()

    def watch_log_y(self) -> None:
        """Draw anew."""
        self._draw()

    def watch_smoothing(self) -> None:
        """Draw anew."""
        self._draw()

    def _arrange(self) -> None:
        """Show the charts of the page, and fill the room with them."""
        self._known, (rows, columns) = known_metrics(self._model), self._shape()
        first, stop = page_of(len(self._known), rows * columns, self._first)
        shown = self._known[first:stop]
        if any(metric.id not in self._charts for metric in shown):
            self.mount(*(self._new_chart(metric) for metric in METRICS if metric.id not in self._charts))
        self.styles.grid_size_columns, self.styles.grid_size_rows = columns, rows
        self.styles.grid_gutter_vertical = GAP_CELLS if columns > 1 else 0
        # Equally wide to the cell, so that the same steps lie in the same columns of all charts; the rest stays at the right.
        width = (self.content_size.width - GAP_CELLS * (columns - 1)) // columns
        self.styles.grid_columns = str(width) if columns > 1 else "1fr"
        for metric in METRICS:
            chart = self._charts.get(metric.id)
            if chart is not None:
                chart.display = metric in shown
                chart.label_cells = GRID_GUTTER if self.is_grid else DEFAULT_GUTTER
        self.border_subtitle = Content(page_words(first, stop, len(self._known), page_keys(self.app)))

    def _shape(self) -> tuple[int, int]:
        """Rows and columns of charts that there is room for."""
        size = self.content_size
        return grid_shape(size.width, size.height, len(known_metrics(self._model))) if self.is_grid else (1, 1)

    def _draw(self) -> None:
        """Bring the charts in sight up to date."""
        model, axis = self._model, AXES[self.axis]
        if model is None:
            return
        is_other_axis, self._curves.axis = axis is not self._curves.axis, axis
        self._curves.take(model)
        for metric in METRICS:
            chart = self._charts.get(metric.id)
            if chart is not None and chart.display:
                self._draw_chart(metric, chart, keeps_view=is_other_axis)
        if is_other_axis:
            self._follow(self.in_sight[0])

    def _draw_chart(self, metric: Metric, chart: LineChart, *, keeps_view: bool) -> None:
        """`keeps_view`: its part of the run is right, and is to be found on another axis."""
        found = self._curves.of(metric)
        if self._shown.get(metric.id) != found:
            self._shown[metric.id] = found
            chart.set_curves(found[0], axis=self._curves.axis, anchors=found[1])
        if not keeps_view:
            chart.show_part(self._viewport)
        chart.set_marks(self._marks)
        chart.smoothing, chart.log_y, chart.pointed = self.smoothing, self.log_y, self._pointed
        chart.refresh_data()

    def _act(self, act: Callable[[LineChart], None], refusal: str = "") -> None:
        """Let a chart do it, and the others follow. `refusal`: what to say where that changes nothing."""
        lead = self.in_sight[0]
        before = lead.viewport
        act(lead)
        self._follow(lead)
        if refusal and _is_same(lead.viewport, before):
            self.post_message(Refused(refusal))

    def _or_whole(self, refusal: str) -> str:
        return refusal if self._viewport.span is not None else _WHOLE

    def _follow(self, lead: LineChart) -> None:
        self._viewport = lead.viewport
        for chart in self.in_sight:
            chart.show_part(lead.viewport)

    @on(LineChart.Moved)
    def _moved(self, event: LineChart.Moved) -> None:
        event.stop()
        if event.chart.display:
            self._follow(event.chart)

    @on(LineChart.Hovered)
    def _hover(self, event: LineChart.Hovered) -> None:
        event.stop()
        if event.x is None and event.chart is not self._hovered:
            return  # the pointer went to another chart, which has told of itself already
        self._hovered = event.chart
        for chart in self.in_sight:
            chart.crosshair = event.x

    @on(LineChart.Clicked)
    def _clicked(self, event: LineChart.Clicked) -> None:
        event.stop()
        self.post_message(self.Pointed(event.step))

    # --- keys --------------------------------------------------------------------------------------------------------------

    def action_toggle_grid(self) -> None:
        """Show several small charts, or one."""
        self.is_grid = not self.is_grid

    def action_turn_page(self, pages: int) -> None:
        """Show other metrics, round and round."""
        rows, columns = self._shape()
        if rows * columns >= len(known_metrics(self._model)):
            self.post_message(Refused("all metrics are shown"))
        self._first, _ = page_of(len(known_metrics(self._model)), rows * columns, self._first, pages)
        self._arrange()
        self._draw()

    def action_next_axis(self) -> None:
        """Let the x axis count something else."""
        names = list(AXES)
        self.axis = names[(names.index(self.axis) + 1) % len(names)]

    def action_toggle_log(self) -> None:
        """Switch the y axes between linear and powers of ten."""
        self.log_y = not self.log_y

    def action_smoother(self) -> None:
        """Smooth the curves more."""
        self._smooth(1)

    def action_rougher(self) -> None:
        """Smooth the curves less, at last not at all."""
        self._smooth(-1)

    def _smooth(self, direction: int) -> None:
        before, self.smoothing = self.smoothing, stepped(self.smoothing, direction)
        if self.smoothing == before:
            self.post_message(Refused("not smoother" if direction > 0 else "not smoothed"))

    def action_zoom_in(self) -> None:
        """Show less of the run: its newest part when following, else the middle of the view."""
        self._act(LineChart.action_zoom_in, "no closer view")

    def action_zoom_out(self) -> None:
        """Show more of the run, at last all of it."""
        self._act(LineChart.action_zoom_out, _WHOLE)

    def action_pan_left(self) -> None:
        """Move the view to older points."""
        self._act(LineChart.action_pan_left, self._or_whole("no earlier steps"))

    def action_pan_right(self) -> None:
        """Move the view to newer points; at the newest it follows."""
        self._act(LineChart.action_pan_right, self._or_whole("no later steps"))

    def action_view_start(self) -> None:
        """Move the view to the oldest points."""
        self._act(LineChart.action_view_start, self._or_whole("no earlier steps"))

    def action_view_tail(self) -> None:
        """Move the view to the newest points and follow them."""
        self._act(LineChart.action_view_tail, "the newest steps are followed already")


def _is_same(one: Viewport, other: Viewport) -> bool:
    """Both show the same to the eye: a zoom that is at its end moves by roundings."""
    pairs = ((one.span, other.span), (one.left, other.left))
    return all(a == b or (a is not None and b is not None and math.isclose(a, b)) for a, b in pairs)
