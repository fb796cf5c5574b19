"""plt_tui.views.tui.chart.ink: curves can be seen on every theme."""

from __future__ import annotations

import pytest
from rich.color import ColorType
from textual.color import Color, ColorParseError
from textual.theme import BUILTIN_THEMES

from plt_tui.views.tui.chart import ink as ink_module
from plt_tui.views.tui.chart.ink import Ink, Inks, ink_style, strip_of
from plt_tui.views.tui.chart.raster import Canvas

BLACK, WHITE = Color.parse("#000000"), Color.parse("#ffffff")


@pytest.mark.parametrize("name", sorted(BUILTIN_THEMES))
@pytest.mark.parametrize("color", ["primary", "secondary", "warning", "error", "success", "accent"])
def test_every_color_of_every_theme_stands_out(name: str, color: str) -> None:
    """A line in a theme's colour has at least the contrast that WCAG asks of graphics, also where the theme's own has not."""
    variables = BUILTIN_THEMES[name].to_color_system().generate()
    background, foreground = Color.parse(variables["background"]), Color.parse(variables["foreground"])
    style = ink_style(Ink(color), variables, background, foreground)
    assert style.color is not None
    if background.ansi is not None:
        assert style.color.type in (ColorType.STANDARD, ColorType.DEFAULT)
        return
    seen = Color.from_rich_color(style.color)
    assert ink_module._contrast(seen, background) >= 2.95  # colours are rounded to whole numbers


def test_faint_inks_move_towards_the_background() -> None:
    """Half faint is half way to the background; on a terminal's own colours it is `dim`."""
    assert ink_style(Ink("#ffffff", 0.5), {}, BLACK, WHITE).color == Color(127, 127, 127).rich_color
    own = Color.parse("ansi_default")
    style = ink_style(Ink("ansi_blue", 0.5), {}, own, own)
    assert (style.dim, style.color) == (True, Color.parse("ansi_blue").rich_color)


def test_an_unknown_color_is_an_error() -> None:
    """A misspelt colour is our own mistake and does not pass silently."""
    with pytest.raises(ColorParseError):
        ink_style(Ink("priamry"), {"primary": "#ff0000"}, BLACK, WHITE)


def test_inks_keep_their_numbers() -> None:
    """The same ink has the same number in every frame."""
    inks = Inks()
    red = inks.of("red", 0.5)
    assert (inks.of("foreground"), inks.of("red"), inks.of("red", 0.5)) == (0, 2, red)


def test_a_strip_has_the_width_of_its_canvas() -> None:
    """Wide characters do not make a row longer."""
    canvas = Canvas(6, 1)
    canvas.text(1, 0, "語", 0)
    strip = strip_of(canvas, 0, lambda _: ink_style(Ink("red"), {}, BLACK, WHITE))
    assert (strip.cell_length, strip.text) == (6, " 語   ")
    assert sum(segment.cell_length for segment in strip) == 6
