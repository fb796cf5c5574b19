"""The line chart: curves of a run as they grow, to zoom, pan, smooth and read off.

Shows what it is given and changes nothing in it; reads no event and owns no key (the app's binding table does). Invariant:
after any change only the cells that look different are repainted.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.style import Style
from textual import events
from textual.geometry import Region
from textual.reactive import reactive
from textual.strip import Strip
from textual.widget import Widget

from plt_tui.views.axis import NumberFormat
from plt_tui.views.tui.chart.frame import Frame, compose, with_crosshair
from plt_tui.views.tui.chart.ink import Inks, ink_style, strip_of
from plt_tui.views.tui.chart.raster import Canvas, Mode
from plt_tui.views.tui.chart.scene import Curve, Mark, Scene
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
    """X of the hairline, None without one."""

    def __init__(
        self,
        title: str,
        *,
        y_format: NumberFormat | None = None,
        x_title: str = "step",
        mode: Mode = "braille",
        id: str | None = None,  # noqa: A002 - Textual's own name
        classes: str | None = None,
    ) -> None:
        super().__init__(id=id, classes=classes)
        self._title = title
        self._y_format = y_format
        self._x_title = x_title
        self._mode = mode
        self._curves: tuple[Curve, ...] = ()
        self._marks: tuple[Mark, ...] = ()
        self._means: dict[Series, Derived] = {}
        self._viewport = Viewport()
        self._drag: tuple[int, Window] | None = None
        self._inks = Inks()
        self._styles: dict[int, Style] = {}
        self._drawn: tuple[object, ...] = ()
        self._scene: Scene | None = None
        self._frame: Frame | None = None
        self._shown: Canvas | None = None
        self._strips: dict[int, Strip] = {}

    def set_curves(self, curves: Sequence[Curve]) -> None:
        """Show these curves; a later one lies on top."""
        self._curves = tuple(curves)
        self._means = {series: mean for series, mean in self._means.items() if any(c.series is series for c in curves)}
        self._draw()

    def set_marks(self, marks: Sequence[Mark]) -> None:
        """Show these marks; of several in one column the heaviest is seen, of equal ones the last."""
        if tuple(marks) != self._marks:
            self._marks = tuple(marks)
            self._draw()

    def refresh_data(self) -> None:
        """Show what the series hold now; costs next to nothing when nothing was added or the chart cannot be seen."""
        if self._drawn != self._content():
            extent = self._extent()
            newest = extent[1] if extent is not None else 0.0
            if self._viewport.left is not None and self._viewport.left >= newest:
                self._show_part(self._viewport.at_tail())  # the points in view were cut
            self._draw()

    def render_line(self, y: int) -> Strip:
        """Row `y` of the content, from the newest frame."""
        if self._shown is None or self._shown.size != tuple(self.size):
            self._shown = self._composed()
            self._strips.clear()
        if y not in self._strips:
            self._strips[y] = strip_of(self._shown, y, self._style)
        return self._strips[y]

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
            self._show_part(self._viewport.at_start(extent))

    def action_view_tail(self) -> None:
        """Move the view to the newest points and follow them."""
        self._show_part(self._viewport.at_tail())

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
        if self._frame is not None and self._scene is not None:
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
        if event.button == 1 and (window := self._window()) is not None:
            self._drag = (event.x, window)
            self.capture_mouse()

    def on_mouse_up(self) -> None:
        """Let go of the view."""
        self._drag = None
        self.release_mouse()

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Drag the view along, or read values off."""
        extent = self._extent()
        if self._drag is None or extent is None:
            self.crosshair = self._x_under(event)
            return
        grabbed_at, window = self._drag
        distance = (grabbed_at - event.x) * (window[1] - window[0]) / self._cells()
        self._show_part(self._viewport.panned(window, extent, distance))

    def on_leave(self) -> None:
        """Take the hairline away."""
        self.crosshair = None

    def on_click(self, event: events.Click) -> None:
        """Double click: show the whole run again."""
        if event.chain == 2:
            self._show_part(Viewport())

    def _zoom(self, factor: float, at: float | None = None) -> None:
        extent, window = self._extent(), self._window()
        if extent is not None and window is not None:
            points = max(len(curve.series) for curve in self._curves if not curve.left_behind)
            finest = (extent[1] - extent[0]) * _FEWEST_POINTS / points
            self._show_part(self._viewport.zoomed(window, extent, factor, at, finest))

    def _pan(self, share: float) -> None:
        extent, window = self._extent(), self._window()
        if extent is not None and window is not None:
            self._show_part(self._viewport.panned(window, extent, share * (window[1] - window[0])))

    def _show_part(self, viewport: Viewport) -> None:
        if viewport != self._viewport:
            self._viewport = viewport
            self.following = viewport.follows
            self._draw()

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
        return tuple((id(curve.series), curve.series.generation, len(curve.series)) for curve in self._curves)

    def _new_scene(self) -> Scene:
        return Scene(
            title=self._title,
            x_title=self._x_title,
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
            before = self._shown
            self._swap(before, self._composed())
        else:
            self._shown = None
            self.refresh()

    def _composed(self) -> Canvas:
        self._scene = self._new_scene()
        self._frame = compose(self._scene, self.size.width, self.size.height, self._inks)
        self._drawn = self._content()
        return self._overlaid(self._scene, self._frame)

    def _overlaid(self, scene: Scene, frame: Frame) -> Canvas:
        return frame.canvas if self.crosshair is None else with_crosshair(frame, scene, self.crosshair, self._inks)

    def _present(self) -> None:
        assert self._scene is not None
        assert self._frame is not None
        if self._shown is not None:
            self._swap(self._shown, self._overlaid(self._scene, self._frame))

    def _swap(self, before: Canvas | None, canvas: Canvas) -> None:
        """Show `canvas`, repainting only what differs from `before`."""
        self._shown = canvas
        if before is None or before.size != canvas.size:
            self._strips.clear()
            self.refresh()
            return
        regions = []
        for y, start, stop in canvas.changes(before):
            self._strips.pop(y, None)
            regions.append(Region(start, y, stop - start, 1))
        if regions:
            self.refresh(*regions)

    def _style(self, number: int) -> Style:
        if number not in self._styles:
            _, _, background, foreground = self.colors
            self._styles[number] = ink_style(self._inks.all[number], self.app.theme_variables, background, foreground)
        return self._styles[number]

    def _forget_colors(self) -> None:
        self._styles.clear()
        self._strips.clear()
        self.refresh()
