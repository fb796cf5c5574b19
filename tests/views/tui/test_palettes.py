"""Colours: the theme for a terminal, the palettes of the curves, and that words can be read."""

import pytest
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from plt_tui.config.schema import UiSection
from plt_tui.views.tui.chart.ink import GRAPHICS, TEXT
from plt_tui.views.tui.palettes import CURVES, Palette, curve_colors, legible_colors, suiting_theme

THEMES = {name: theme.to_color_system().generate() | theme.variables for name, theme in BUILTIN_THEMES.items()}


def contrast(one: Color, other: Color) -> float:
    """WCAG 2.1: from 1 to 21."""
    linear = [
        [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in c.normalized] for c in (one, other)
    ]
    lighter, darker = sorted((0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize(
    ("wanted", "has_few_colors", "is_dark", "theme"),
    [
        ("auto", False, True, "textual-dark"),
        ("auto", False, False, "textual-light"),
        ("nord", False, False, "nord"),
        ("auto", True, True, "ansi-dark"),
        ("auto", True, False, "ansi-light"),
        ("nord", True, True, "ansi-dark"),
    ],
)
def test_the_theme_follows_the_terminal(wanted: str, has_few_colors: bool, is_dark: bool, theme: str) -> None:
    """A chosen theme stays, but where there are no colours for it the terminal's own are used."""
    assert suiting_theme(wanted, has_few_colors=has_few_colors, is_dark=is_dark) == theme
    assert theme in BUILTIN_THEMES


def test_the_config_names_the_palettes_that_there_are() -> None:
    """Every palette of the schema has a colour for each curve, on every theme."""
    for palette in UiSection.model_json_schema()["properties"]["palette"]["enum"]:
        for variables in THEMES.values():
            colors = curve_colors(palette, variables)
            assert list(colors) == list(CURVES)
            assert all(Color.parse(color) for color in colors.values())


@pytest.mark.parametrize("palette", ["default", "okabe-ito"])
@pytest.mark.parametrize("theme", THEMES)
def test_two_curves_never_share_a_colour(palette: Palette, theme: str) -> None:
    """Also where a theme uses one colour twice."""
    colors = [Color.parse(color) for color in curve_colors(palette, THEMES[theme]).values()]
    assert len(set(colors)) == len(colors)


def test_mono_uses_the_foreground_alone() -> None:
    """What is left to tell curves apart are glyphs."""
    assert set(curve_colors("mono", THEMES["nord"]).values()) == {THEMES["nord"]["foreground"]}


@pytest.mark.parametrize("theme", [name for name, theme in BUILTIN_THEMES.items() if not theme.ansi])
def test_words_stand_out_on_every_theme(theme: str) -> None:
    """After the correction the colours that words are written in have the contrast that WCAG asks for, or the foreground's."""
    is_dark = BUILTIN_THEMES[theme].dark
    variables = THEMES[theme] | legible_colors(THEMES[theme], is_dark=is_dark)
    background, foreground = (Color.parse(variables[name]) for name in ("background", "foreground"))
    wanted = min(GRAPHICS if is_dark else TEXT, contrast(foreground, background))
    for name in ("accent", "secondary", "success", "warning", "error"):
        assert contrast(Color.parse(variables[name]), background) >= wanted - 0.05


def test_what_is_legible_stays() -> None:
    """The usual dark theme keeps its colours; the terminal's own are never touched."""
    assert set(legible_colors(THEMES["textual-dark"], is_dark=True)) <= {"secondary"}
    assert legible_colors(THEMES["ansi-light"], is_dark=False) == {}
