"""Much text on a page: wrapped whole, drawn in parts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.geometry import Offset
from textual.selection import Selection

from plt_tui.views.tui.panes.text_view import Passage, TextView, laid_out, wrapped


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("", [""]),
        ("short", ["short"]),
        ("exactly ten", ["exactly ", "ten"]),
        ("abcdefghijklm", ["abcdefghij", "klm"]),
        ("a bcdefghijklm", ["a bcdefghi", "jklm"]),
        ("日本語日本語", ["日本語日本", "語"]),
    ],
)
def test_a_long_line_is_cut_at_a_blank_near_the_end_of_a_part(line: str, parts: list[str]) -> None:
    """Else where the width ends; a wide character counts two."""
    assert list(wrapped(line, 10)) == parts


@given(st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=300), st.integers(2, 40))
def test_nothing_is_lost_and_nothing_is_too_wide(line: str, width: int) -> None:
    """Whatever the text."""
    parts = list(wrapped(line, width))
    assert "".join(parts) == line
    assert all(cell_len(part) <= width for part in parts)


def test_a_line_of_a_million_characters_is_wrapped_in_one_go() -> None:
    """Each part is looked at once: the parts before it are not copied again."""
    assert sum(1 for _ in wrapped("x" * 1_000_000, 80)) == 12_500


def test_passages_have_a_heading_and_an_empty_line_between_them() -> None:
    """Tabs take cells of their own, newlines stay."""
    lines = list(laid_out([Passage("one", "a\n\tb"), Passage("two", "")], 20))
    assert [line.text for line in lines] == ["one", "a", "    b", "", "two"]
    assert [line.text for line in lines if line.style] == ["one", "two"]


class _Page(App[None]):
    """A view of its own."""

    def compose(self) -> ComposeResult:
        """The view alone."""
        yield TextView()


async def test_only_lines_in_sight_are_drawn_and_all_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand lines cost a screen full of them."""
    drawn: list[int] = []
    render = TextView.render_line
    monkeypatch.setattr(TextView, "render_line", lambda self, y: drawn.append(y) or render(self, y))  # type: ignore[func-returns-value]
    app = _Page()
    app.animation_level = "none"
    async with app.run_test(size=(40, 12)) as pilot:
        view = app.query_one(TextView)
        view.show([Passage(f"passage {number}", "text") for number in range(33_334)])
        view.focus()
        await pilot.pause()
        assert view.max_scroll_y > 99_000
        drawn.clear()
        await pilot.press("end")
        await pilot.pause(0.2)
        last = [strip.text.rstrip() for strip in view.render_lines(view.size.region)]
        assert last[-2:] == ["passage 33333", "text"]
        assert len(drawn) <= 3 * 12


async def test_what_is_selected_has_no_line_breaks_of_the_page() -> None:
    """Across headings, wrapped lines and empty ones; all of it where nothing is selected."""
    app, text = _Page(), " ".join(f"word{number}" for number in range(30))
    async with app.run_test(size=(40, 12)) as pilot:
        view = app.query_one(TextView)
        view.show([Passage("head", f"{text}\n\n  end"), Passage("tail", "日本語")])
        await pilot.pause()
        assert view.text == f"head\n{text}\n\n  end\n\ntail\n日本語"
        app.screen.selections = {view: Selection(Offset(2, 0), Offset(5, 2))}
        first = view._lines[1].text
        assert app.screen.get_selected_text() == f"ad\n{text[: len(first) + 5]}"
        app.screen.selections = {view: Selection(None, None)}
        assert app.screen.get_selected_text() == view.text


async def test_the_mouse_selects_text() -> None:
    """From the character under it when it was pressed to that under it when it is let go; drawn as selected."""
    app = _Page()
    async with app.run_test(size=(40, 12)) as pilot:
        view = app.query_one(TextView)
        view.show([Passage("", "one two\n日本語 three\nfour")])
        await pilot.pause()
        plain = [strip.text for strip in view.render_lines(view.size.region)]
        await pilot.mouse_down(view, offset=(4, 0))
        await pilot.hover(view, offset=(2, 1))
        await pilot.mouse_up(view, offset=(2, 1))
        await pilot.pause()
        assert app.screen.get_selected_text() == "two\n日本"
        assert [strip.text for strip in view.render_lines(view.size.region)] == plain
        backgrounds = {segment.style.bgcolor for segment in view.render_line(0) if segment.style is not None}
        assert len(backgrounds) == 2
        await pilot.resize_terminal(30, 12)
        await pilot.pause()
        assert not app.screen.get_selected_text()
