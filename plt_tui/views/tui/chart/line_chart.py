"""The line chart: curves of a run as they grow, to zoom, pan, smooth and read off.

Shows what it is given and changes nothing in it; reads no event and owns no key (the app's binding table does). What its user
does to the view it tells as messages, so that charts beside it can follow. Invariant: after any change only the cells that look
different are repainted.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from plt_tui.views.axis import NumberFormat
from plt_tui.views.tui.chart.frame import Frame, compose
from plt_tui.views.tui.chart.ink import Ink, ink_style
from plt_tui.views.tui.chart.lane import AXES, Axis
from plt_tui.views.tui.chart.overlay import overlaid, step_at
from plt_tui.views.tui.chart.picture import Picture
from plt_tui.views.tui.chart.raster import Canvas, Mode
from plt_tui.views.tui.chart.scene import DEFAULT_GUTTER, Curve, Mark, Scene
from plt_tui.views.tui.chart.series import Derived, Series
from plt_tui.views.tui.chart.smoothing import LADDER, Ema, stepped
from plt_tui.views.tui.chart.viewport import Viewport, Window

__all__ = ["Curve", "LineChart", "Mark"]

_KEY_ZOOM = 1.5
_WHEEL_ZOOM = 1.2
_KEY_PAN = 0.2
"""Share of the window that a pan key moves."""
_FEWEST_POINTS = 8
"""Average points in the narrowest window that zooming reaches."""


class LineChart(Widget, can_focus=True):
    """Curves over a common x axis, with marks for what happened on the way."""

    DEFAULT_CSS = """
    LineChart { height: 1fr; }
    """

    log_y: reactive[bool] = reactive(False, repaint=False)
    """True: powers of ten; values at or below zero become gaps with a mark."""
    smoothing: reactive[float] = reactive(0.0, repaint=False)
    """Weight of the past in the smoothed lines, 0 (off) to below 1."""
    following: reactive[bool] = reactive(True, repaint=False)
    """True: the right edge stays at the newest point."""
    crosshair: reactive[float | None] = reactive(None, repaint=False)
    """Position on the x axis of the hairline under the pointer, None without one."""
    pointed: reactive[float | None] = reactive(None, repaint=False)
    """Step of the hairline that stays, None without one."""

    class Moved(Message):
        """Another part of the run is shown."""

        def __init__(self, chart: LineChart) -> None:
            super().__init__()
            self.chart = chart

    class Hovered(Message):
        """The pointer is at position `x` of `chart`, or no more on it (None)."""

        def __init__(self, chart: LineChart, x: float | None) -> None:
            super().__init__()
            self.chart, self.x = chart, x

    class Clicked(Message):
        """Somebody clicked at a step; None: it was a double click, whose first click was no pointing."""

        def __init__(self, step: int | None) -> None:
            super().__init__()
            self.step = step

    def __init__(
        self,
        title: str,
        *,
        y_format: NumberFormat | None = None,
        mode: Mode = "braille",
        label_cells: int = DEFAULT_GUTTER,
        id: str | None = None,  # noqa: A002 - Textual's own name
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._title = title
        self._y_format = y_format
        self.axis: Axis = AXES["step"]
        """What the x axis counts; `set_curves` changes it."""
        self.label_cells = label_cells
        """Least cells left of the plot, from the next drawing on."""
        self._anchors: tuple[Curve, ...] = ()
        self._mode = mode
        self._curves: tuple[Curve, ...] = ()
        self._marks: tuple[Mark, ...] = ()
        self._means: dict[Series, Derived] = {}
        self._viewport = Viewport()
        self._drag: tuple[int, Window] | None = None
        self._was_dragged = False
        self._drawn: tuple[object, ...] = ()
        self._scene: Scene | None = None
        self._frame: Frame | None = None
        self._picture = Picture(self._style)

    def set_curves(self, curves: Sequence[Curve], *, axis: Axis | None = None, anchors: Sequence[Curve] = ()) -> None:
        """Show these curves; a later one lies on top.

        axis: what their lanes count, None: the same as before; where it is another one, the same steps stay in view.
        anchors: the curves that the x axis is made for, drawn or not; none: all live ones.
        """
        before = self._new_scene()
        extent = before.extent()
        self._curves, self._anchors = tuple(curves), tuple(anchors)
        self._means = {series: mean for series, mean in self._means.items() if any(c.series is series for c in curves)}
        if axis is not None and axis is not self.axis:
            self.axis = axis
            self.crosshair = None
            after = self._new_scene()
            if extent is not None:
                self._viewport = self._viewport.carried(extent, lambda x: after.place(before.lane.step_at(x)))
                self.following = self._viewport.follows
        self._draw()

    def set_marks(self, marks: Sequence[Mark]) -> None:
        """Show these marks; of several in one column the heaviest is seen, of equal ones the last."""
        if tuple(marks) != self._marks:
            self._marks = tuple(marks)
            self._draw()

    @property
    def viewport(self) -> Viewport:
        """Which part of the run is shown."""
        return self._viewport

    def show_part(self, viewport: Viewport) -> None:
        """Show that part of the run; nothing is told of it."""
        if viewport != self._viewport:
            self._viewport = viewport
            self.following = viewport.follows
            self._draw()

    def reveal(self, step: float) -> None:
        """Bring a step into view; where it is in view already, nothing moves."""
        extent, window = self._extent(), self._window()
        if extent is not None and window is not None:
            self._move(self._viewport.around(self._new_scene().place(step), window, extent))

    def refresh_data(self) -> None:
        """Show what the series hold now; costs next to nothing when nothing was added or the chart cannot be seen."""
        if self._drawn != self._content():
            extent = self._extent()
            newest = extent[1] if extent is not None else 0.0
            if self._viewport.left is not None and self._viewport.left >= newest:
                self._move(self._viewport.at_tail())  # the points in view were cut
            self._draw()

    def render_line(self, y: int) -> Strip:
        """Row `y` of the content, from the newest frame."""
        if self._picture.canvas is None or self._picture.canvas.size != tuple(self.size):
            self._picture.put(self._composed())
        return self._picture.strip(y)

    def action_zoom_in(self) -> None:
        """Show less of the run: its newest part when following, else the middle of the view."""
        self._zoom(1 / _KEY_ZOOM)

    def action_zoom_out(self) -> None:
        """Show more of the run, at last all of it."""
        self._zoom(_KEY_ZOOM)

    def action_pan_left(self) -> None:
        """Move the view to older points."""
        self._pan(-_KEY_PAN)

    def action_pan_right(self) -> None:
        """Move the view to newer points; at the newest it follows."""
        self._pan(_KEY_PAN)

    def action_view_start(self) -> None:
        """Move the view to the oldest points."""
        if (extent := self._extent()) is not None:
            self._move(self._viewport.at_start(extent))

    def action_view_tail(self) -> None:
        """Move the view to the newest points and follow them."""
        self._move(self._viewport.at_tail())

    def action_toggle_log(self) -> None:
        """Switch the y axis between linear and powers of ten."""
        self.log_y = not self.log_y

    def action_smoother(self) -> None:
        """Smooth the curves more."""
        self.smoothing = stepped(self.smoothing, 1)

    def action_rougher(self) -> None:
        """Smooth the curves less, at last not at all."""
        self.smoothing = stepped(self.smoothing, -1)

    def validate_smoothing(self, weight: float) -> float:
        """Keep the weight on the ladder's range."""
        return min(max(weight, 0.0), LADDER[-1])

    def validate_following(self, following: bool) -> bool:
        """Before the first point there is nothing to hold on to."""
        return following or self._extent() is None

    def watch_log_y(self) -> None:
        """Repaint."""
        self._draw()

    def watch_smoothing(self) -> None:
        """Start the smoothed curves again with the new weight."""
        self._means.clear()
        self._draw()

    def watch_following(self, following: bool) -> None:
        """Hold the view, or let it go to the newest points."""
        window = self._window()
        if following == self._viewport.follows or window is None:
            return
        self._viewport = self._viewport.at_tail() if following else self._viewport.held(window)
        self._draw()

    def watch_crosshair(self) -> None:
        """Repaint the hairline and the title row."""
        self._present()

    def watch_pointed(self) -> None:
        """Repaint the hairline and the title row."""
        self._present()

    def on_mount(self) -> None:
        """Take part in theme changes."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self._forget_colors())

    def notify_style_update(self) -> None:
        """Textual calls this when the widget's own style changed: faint inks are mixed with its background."""
        super().notify_style_update()
        self._forget_colors()

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in at the pointer."""
        self._zoom(1 / _WHEEL_ZOOM, self._x_under(event))
        event.stop()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out at the pointer."""
        self._zoom(_WHEEL_ZOOM, self._x_under(event))
        event.stop()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        """Take hold of the view."""
        is_inside = event.get_content_offset(self) is not None  # the frame is the board's to move
        if event.button == 1 and is_inside and (window := self._window()) is not None:
            self._drag = (event.x, window)
            self._was_dragged = False
            self.capture_mouse()

    def on_mouse_up(self) -> None:
        """Let go of the view."""
        self._drag = None
        self.release_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the view along, or read values off."""
        extent = self._extent()
        if self._drag is None or extent is None:
            self._hover(self._x_under(event))
            return
        grabbed_at, window = self._drag
        self._was_dragged = self._was_dragged or event.x != grabbed_at
        distance = (grabbed_at - event.x) * (window[1] - window[0]) / self._cells()
        self._move(self._viewport.panned(window, extent, distance))

    def on_leave(self) -> None:
        """Take the hairline away."""
        self._hover(None)

    def on_click(self, event: events.Click) -> None:
        """Tell which step was clicked at; double click: not that, but show the whole run again."""
        offset = event.get_content_offset(self)
        if event.chain == 2:
            self._move(Viewport())
            self.post_message(self.Clicked(None))
        elif event.button == 1 and not self._was_dragged and self._frame is not None and self._scene is not None and offset:
            step = step_at(self._frame, self._scene, offset.x)
            if step is not None:
                self.post_message(self.Clicked(step))

    def _zoom(self, factor: float, at: float | None = None) -> None:
        extent, window = self._extent(), self._window()
        if extent is not None and window is not None:
            points = max(len(curve.series) for curve in self._new_scene().made_for)
            finest = (extent[1] - extent[0]) * _FEWEST_POINTS / points
            self._move(self._viewport.zoomed(window, extent, factor, at, finest))

    def _pan(self, share: float) -> None:
        extent, window = self._extent(), self._window()
        if extent is not None and window is not None:
            self._move(self._viewport.panned(window, extent, share * (window[1] - window[0])))

    def _move(self, viewport: Viewport) -> None:
        """Show that part of the run, because its user wants it."""
        if viewport != self._viewport:
            self.show_part(viewport)
            self.post_message(self.Moved(self))

    def _hover(self, x: float | None) -> None:
        if x != self.crosshair:
            self.crosshair = x
            self.post_message(self.Hovered(self, x))

    def _extent(self) -> Window | None:
        return self._new_scene().extent()

    def _window(self) -> Window | None:
        extent = self._extent()
        return self._viewport.window(extent, self._cells()) if extent is not None else None

    def _cells(self) -> int:
        plot = self._frame.plot if self._frame is not None else None
        return plot.width if plot is not None else max(self.size.width, 1)

    def _x_under(self, event: events.MouseEvent) -> float | None:
        plot = self._frame.plot if self._frame is not None else None
        offset = event.get_content_offset(self)
        if plot is None or offset is None or not plot.left <= offset.x < plot.left + plot.width:
            return None
        return plot.x_at(offset.x)

    def _content(self) -> tuple[object, ...]:
        """What tells one state of the data from another."""
        curves = (*self._curves, *self._anchors)
        return tuple((id(curve.series), curve.series.generation, len(curve.series)) for curve in curves)

    def _new_scene(self) -> Scene:
        return Scene(
            title=self._title,
            axis=self.axis,
            anchors=self._anchors,
            gutter=self.label_cells,
            y_format=self._y_format,
            mode=self._mode,
            log_y=self.log_y,
            smoothing=self.smoothing,
            curves=self._curves,
            smoothed=tuple(self._mean(curve) for curve in self._curves),
            marks=self._marks,
            viewport=self._viewport,
        )

    def _mean(self, curve: Curve) -> Series | None:
        weight = self.smoothing
        if weight == 0 or not curve.smooth:
            return None
        if curve.series not in self._means:
            self._means[curve.series] = Derived(curve.series, lambda: Ema(weight))
        return self._means[curve.series].series()

    def _draw(self) -> None:
        """Bring the picture up to date, now if it can be seen, else when it is shown."""
        if self.size.area and self.is_on_screen:
            self._put(self._composed())
        else:
            self._picture.canvas = None
            self.refresh()

    def _composed(self) -> Canvas:
        self._scene = self._new_scene()
        self._frame = compose(self._scene, self.size.width, self.size.height, self._picture.inks)
        self._drawn = self._content()
        return self._overlaid(self._scene, self._frame)

    def _overlaid(self, scene: Scene, frame: Frame) -> Canvas:
        return overlaid(frame, scene, self._picture.inks, hover=self.crosshair, pointed=self.pointed)

    def _present(self) -> None:
        """Bring the hairlines up to date."""
        if self._picture.canvas is not None and self._scene is not None and self._frame is not None:
            self._put(self._overlaid(self._scene, self._frame))

    def _put(self, canvas: Canvas) -> None:
        """Show `canvas`, repainting only what looks different."""
        regions = self._picture.put(canvas)
        if regions is None or regions:
            self.refresh(*(regions or ()))

    def _style(self, ink: Ink) -> Style:
        _, _, background, foreground = self.colors
        return ink_style(ink, self.app.theme_variables, background, foreground)

    def _forget_colors(self) -> None:
        self._picture.forget_colors()
        self.refresh()
