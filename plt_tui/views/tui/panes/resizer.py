"""Moving the borders between panes, with the mouse and with keys, and letting the widgets have the sizes that were chosen.

Decides nothing: where borders are and how far they may go is `layout`'s. Invariant: what nobody has moved is as the style sheet
has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from textual.containers import Vertical
from textual.css.scalar import Scalar, Unit
from textual.geometry import Region
from textual.widget import Widget

from plt_tui.views.tui.layout import LEAST, Axis, Border, Plan, Sizes, border_beside, borders, share_at, weights

_DIMENSIONS: dict[Axis, tuple[str, str, str]] = {
    "x": ("width", "min_width", "max_width"),
    "y": ("height", "min_height", "max_height"),
}


class Resizer:
    """The borders of a board."""

    def __init__(self, board: Vertical, sizes: Sizes, changed: Callable[[], None]) -> None:
        self.sizes = sizes
        self._board = board
        self._changed = changed
        self._plan = Plan("tiny", frozenset(), ())
        self._applied: dict[tuple[str, Axis], int] = {}
        self._held: Border | None = None
        self._grip = 0
        """Of its two rows or columns the one that is held: 0, or -1 for the first."""

    @property
    def is_dragging(self) -> bool:
        """True while somebody holds a border."""
        return self._held is not None

    def apply(self, plan: Plan) -> None:
        """Give every part its size on a screen of `plan`."""
        self._plan = plan
        wanted = weights(self.sizes, plan)
        for part, axis in self._applied.keys() - wanted.keys():
            self._size(part, axis, None)
        for (part, axis), weight in wanted.items():
            if self._applied.get((part, axis)) != weight:
                self._size(part, axis, weight)
        self._applied = wanted

    def _size(self, part: str, axis: Axis, weight: int | None) -> None:
        widget, (dimension, least, most) = self._widget(part), _DIMENSIONS[axis]
        unit = Unit.WIDTH if axis == "x" else Unit.HEIGHT
        setattr(widget.styles, dimension, None if weight is None else Scalar(float(weight), Unit.FRACTION, unit))
        setattr(widget.styles, least, None if weight is None else LEAST[axis])
        setattr(widget.styles, most, None if weight is None else Scalar(100.0, Unit.PERCENT, unit))
        widget.set_class(weight is not None, f"-sized-{axis}")

    def grab(self, x: int, y: int) -> bool:
        """Take hold of the border at a cell of the screen; False: there is none."""
        self._held = next((border for border in borders(self._plan) if self._line(border).contains(x, y)), None)
        if self._held is not None:
            self._grip = (x if self._held.axis == "x" else y) - self._first_behind(self._held)
        return self.is_dragging

    def drag(self, x: int, y: int) -> None:
        """Move the border that is held to a cell of the screen."""
        if self._held is not None:
            self._move(self._held, (x if self._held.axis == "x" else y) - self._grip)

    def drop(self) -> None:
        """Let go of the border."""
        self._held = None

    def nudge(self, pane: str, axis: Axis, cells: int) -> bool:
        """Make `pane` larger by `cells`, or smaller; False: no border beside it can be moved."""
        found = border_beside(pane, axis, borders(self._plan))
        return found is not None and self._move(found[0], self._first_behind(found[0]) - cells * found[1])

    def reset(self) -> None:
        """Every size as the style sheet has it."""
        self.sizes = Sizes()
        self.apply(self._plan)

    def _move(self, border: Border, at: int) -> bool:
        before, behind = self._region(border.before), self._region(border.behind)
        start, end = (before.x, behind.right) if border.axis == "x" else (before.y, behind.bottom)
        least = LEAST[border.axis]
        share = share_at(start, end, at, least * len(border.before), least * len(border.behind))
        if share is None:
            return False
        self.sizes = replace(self.sizes, **{border.name: share})
        self.apply(self._plan)
        self._changed()
        return True

    def _first_behind(self, border: Border) -> int:
        region = self._region(border.behind)
        return region.x if border.axis == "x" else region.y

    def _line(self, border: Border) -> Region:
        """The two rows or columns of frames that touch each other."""
        behind = self._region(border.behind)
        if border.axis == "x":
            return Region(behind.x - 1, behind.y, 2, behind.height)
        return Region(behind.x, behind.y - 1, behind.width, 2)

    def _region(self, parts: Sequence[str]) -> Region:
        regions = [self._widget(part).region for part in parts]
        return Region.from_union(regions)

    def _widget(self, part: str) -> Widget:
        return self._board.query_one(f"#{part}")
