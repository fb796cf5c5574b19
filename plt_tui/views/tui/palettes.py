"""Colours: which theme suits the terminal, which colours the curves take from a palette, and what makes both legible.

Pure; asks no terminal. Invariant: on a terminal of 16 colours or none, whatever theme is wished for, only the terminal's own
colours are used, because it has been set up so that they can be read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from textual.color import Color

from plt_tui.views.tui.chart.ink import GRAPHICS, TEXT, legible

Palette = Literal["default", "okabe-ito", "mono"]

AUTO = "auto"
"""The theme that follows the terminal."""
DARK, LIGHT = "textual-dark", "textual-light"
ANSI_DARK, ANSI_LIGHT = "ansi-dark", "ansi-light"
"""Textual's themes of the terminal's own colours."""

CURVES = tuple(f"curve-{number}" for number in range(1, 9))
"""Theme variables with the colours of curves; the first is the training loss, the second the evaluation."""

_OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#0072b2", "#f0e442")
"""Told apart with any colour vision: Okabe and Ito, "Color Universal Design", 2008; the order keeps neighbours apart."""
_MEANINGFUL = ("accent", "secondary", "success", "warning", "error")
_DEFAULT = ("#4e9bd1", "#b07aa1", "#76b7b2", "#9c755f", "#ff9da7", "#bab0ac")
"""After the theme's own two: of Tableau 10 those that are no red and no green."""


def suiting_theme(wanted: str, *, has_few_colors: bool, is_dark: bool) -> str:
    """The theme to use where `wanted` was asked for. `is_dark`: the background, as the terminal or a chosen theme has it."""
    if has_few_colors:
        return ANSI_DARK if is_dark else ANSI_LIGHT
    if wanted == AUTO:
        return DARK if is_dark else LIGHT
    return wanted


def legible_colors(variables: Mapping[str, str], *, is_dark: bool) -> dict[str, str]:
    """Those of a theme's meaningful colours that stand out too little, moved towards its foreground; the terminal's own stay.

    Textual's themes for a light background use them for areas; here they are words.
    """
    background, foreground = (Color.parse(variables[name]) for name in ("background", "foreground"))
    found = {}
    for name in _MEANINGFUL:
        color = Color.parse(variables[name])
        if None is color.ansi is background.ansi:
            found[name] = legible(color, background, foreground, GRAPHICS if is_dark else TEXT).hex
    return {name: color for name, color in found.items() if color != Color.parse(variables[name]).hex}


def curve_colors(palette: Palette, variables: Mapping[str, str]) -> dict[str, str]:
    """A colour for each of CURVES, on a theme with these `variables`."""
    foreground = variables["foreground"]
    colors: tuple[str, ...] = {
        "default": (variables["accent"], _other(variables), *_DEFAULT),
        "okabe-ito": (*_OKABE_ITO, foreground),
        "mono": (foreground,) * len(CURVES),
    }[palette]
    return dict(zip(CURVES, colors, strict=True))


def _other(variables: Mapping[str, str]) -> str:
    """The theme's colour beside its accent, which in some themes is that of success too."""
    return variables["success" if variables["success"] != variables["accent"] else "secondary"]


WITHOUT_COLORS = {
    "block-cursor-text-style": "bold underline",
    "block-cursor-blurred-text-style": "underline",
    "input-cursor-text-style": "reverse",
}
"""Theme variables where colours are not to be used: what stands under a cursor is seen all the same."""
