"""Promises of the fields of a form: what is chosen, typed and seen in one of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from driving import screen_lines
from textual import on
from textual.app import App, ComposeResult
from textual.pilot import Pilot

from plt_tui.config.fields import describe
from plt_tui.views.tui.form import Choice, FieldRow, choice_words, row_id

SCHEDULES = ("cosine", "linear", "constant", "wsd")


class Form(App[None]):
    """Some rows below each other, and what they have told."""

    def __init__(self, *keys: str, text: str = "") -> None:
        super().__init__()
        self._keys, self._text = keys, text
        self.told: list[tuple[str, str]] = []

    def compose(self) -> ComposeResult:
        for key in self._keys:
            yield FieldRow(describe()[key], label=key, label_cells=18, text=self._text, effective="")

    @on(FieldRow.Changed)
    def _changed(self, event: FieldRow.Changed) -> None:
        self.told.append((event.key, event.text))


@asynccontextmanager
async def filled(*keys: str, text: str = "", effective: str = "", width: int = 80) -> AsyncIterator[tuple[Pilot[None], Form]]:
    """A form whose first field has the focus."""
    app = Form(*keys, text=text)
    async with app.run_test(size=(width, 12)) as pilot:
        for row in app.query(FieldRow):
            row.show(effective=effective, mistakes=(), is_explained=False)
        app.query_one(f"#{row_id(keys[0])}", FieldRow).editor.focus()
        await pilot.pause()
        app.told.clear()
        yield pilot, app


@pytest.mark.parametrize(
    ("chosen", "width", "shown"),
    [
        ("linear", 40, [" cosine ", "‹linear›", " constant ", " wsd "]),
        ("", 40, [" cosine ", " linear ", " constant ", " wsd "]),
        ("linear", 31, [" cosine ", "‹linear›", " constant ", " wsd "]),
        ("linear", 30, ["‹linear›", " 2 of 4"]),
        ("", 30, [" cosine ", " linear ", " constant ", " wsd "]),
    ],
)
def test_choices_stand_side_by_side_where_there_is_room(chosen: str, width: int, shown: list[str]) -> None:
    """The chosen one between marks, else it alone with its place."""
    assert choice_words(SCHEDULES, chosen, width) == shown


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["right"], "linear"),
        (["space", "space"], "constant"),
        (["left"], "wsd"),
        (["w"], "wsd"),
        (["c"], "cosine"),
        (["c", "c"], "constant"),
        (["w", "backspace"], ""),
        (["w", "delete"], ""),
        (["x"], ""),
    ],
)
async def test_keys_choose(keys: list[str], chosen: str) -> None:
    """From the one that counts, by arrows or first letters; backspace goes back to the default."""
    async with filled("optim.schedule", effective="cosine") as (pilot, app):
        await pilot.press(*keys)
        assert app.query_one(Choice).text == chosen
        assert (app.told[-1] if app.told else ("optim.schedule", "")) == ("optim.schedule", chosen)


@pytest.mark.parametrize("word", SCHEDULES)
async def test_a_click_chooses_the_word_under_it(word: str) -> None:
    """With the mouse alone."""
    async with filled("optim.schedule", effective="cosine") as (pilot, app):
        await pilot.click(offset=(screen_lines(app)[0].index(word) + 1, 0))
        assert app.query_one(Choice).text == ("" if word == "cosine" and not app.told else word)


async def test_a_click_goes_on_where_only_one_word_is_seen() -> None:
    """In a narrow window."""
    async with filled("optim.schedule", effective="cosine", width=45) as (pilot, app):
        assert "1 of 4" in screen_lines(app)[0]
        await pilot.click(Choice)
        assert "2 of 4" in screen_lines(app)[0]


async def test_what_is_typed_is_told() -> None:
    """Every key, and the emptied field too."""
    async with filled("optim.lr", effective="0.003") as (pilot, app):
        assert "0.003" in screen_lines(app)[0]
        await pilot.press("1", "backspace")
        assert app.told == [("optim.lr", "1"), ("optim.lr", "")]


async def test_a_text_is_completed() -> None:
    """Where some values are well known."""
    async with filled("model.preset") as (pilot, app):
        await pilot.press("g")
        await pilot.pause()
        await pilot.press("right")
        assert app.told[-1] == ("model.preset", "gpt2")


async def test_a_row_tells_with_glyphs_where_it_stands() -> None:
    """The focus, a change, a mistake and the meaning, none by colour alone."""
    async with filled("optim.warmup", "train.steps") as (pilot, app):
        first, second = app.query(FieldRow)
        assert screen_lines(app)[0].startswith("▸  optim.warmup")
        assert screen_lines(app)[1].startswith("   train.steps")
        await pilot.press("5")
        assert screen_lines(app)[0].startswith("▸● optim.warmup")
        first.show(effective="50", mistakes=["too\x1b[31m many", "and odd"], is_explained=False)
        second.show(effective="0", mistakes=(), is_explained=True)
        await pilot.pause()
        lines = [line.rstrip() for line in screen_lines(app)]
        assert lines[0].startswith("▸✖ optim.warmup")
        assert lines[1:3] == [r"   ✖ too\x1b[31m many", "   ✖ and odd"]
        assert lines[3].startswith("   train.steps")
        assert " ".join(" ".join(lines[4:6]).split()) == f"{describe()['train.steps'].doc} (a whole number >= 0)"


async def test_a_secret_is_not_shown() -> None:
    """Nor is anything typed there."""
    async with filled("alerts.webhook", text="https://example.org/token") as (_, app):
        assert "token" not in "".join(screen_lines(app))
        assert app.query_one(FieldRow).text == "https://example.org/token"
