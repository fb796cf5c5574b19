"""Colours of cells: named by what they mean, resolved by the theme of the moment, and turned into strips.

Pure; reads no app. Invariant: on every theme an ink without `faint` can be told from the background (contrast 3 to 1 at least).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.strip import Strip

if TYPE_CHECKING:
    from plt_tui.views.tui.chart.raster import Canvas

QUIET = 0.4
"""How far labels fade into the background, 0 to 1."""
BEHIND_FAINT = 0.55
"""The same for a line that the run has left behind."""

GRAPHICS, TEXT = 3.0, 4.5
"""Least contrasts: WCAG 2.1, success criteria 1.4.11 and 1.4.3."""
_LIGHTEN = 0.15


@dataclass(frozen=True, slots=True)
class Ink:
    """A colour as the theme will resolve it; `faint`: share of the background mixed in, 0 to 1."""

    color: str
    faint: float = 0.0
    bold: bool = False


class Inks:
    """Numbers for inks, the same for all frames of a widget, so that frames can be compared cell by cell."""

    def __init__(self) -> None:
        self.all: list[Ink] = []
        self._index: dict[Ink, int] = {}
        self.of("foreground")

    def of(self, color: str, faint: float = 0.0, *, bold: bool = False) -> int:
        """The number of this ink; 0 is the plain foreground."""
        ink = Ink(color, faint, bold)
        if ink not in self._index:
            self._index[ink] = len(self.all)
            self.all.append(ink)
        return self._index[ink]


def ink_style(ink: Ink, variables: Mapping[str, str], background: Color, foreground: Color) -> Style:
    """The style of `ink` on `background`: its colour is a theme variable or a CSS colour; "foreground" is the widget's own.

    Raises: textual.color.ColorParseError when it is neither.
    """
    color = foreground if ink.color == "foreground" else Color.parse(variables.get(ink.color, ink.color))
    if color.ansi is not None or background.ansi is not None:
        # The terminal owns these colours, so nothing can be mixed from them.
        return Style(color=color.rich_color, bgcolor=background.rich_color, bold=ink.bold, dim=ink.faint > 0)
    color = legible(color, background, foreground).blend(background, ink.faint)
    return Style(color=color.rich_color, bgcolor=background.rich_color, bold=ink.bold)


def strip_of(canvas: Canvas, y: int, style: Callable[[int], Style]) -> Strip:
    """Row `y` of `canvas`; `style` gives the style of an ink's number."""
    return Strip([Segment(text, style(ink)) for text, ink in canvas.runs(y)], canvas.size[0])


def legible(color: Color, background: Color, foreground: Color, contrast: float = GRAPHICS) -> Color:
    """`color` moved towards the foreground until it stands out from the background by `contrast`."""
    share = 0.0
    while share < 1.0 and _contrast(color.blend(foreground, share), background) < contrast:
        share += _LIGHTEN
    return color.blend(foreground, share)


def _contrast(one: Color, other: Color) -> float:
    lighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: Color) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.1)."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
