"""The keys that take something out of the view: P a picture, E the numbers, Y a line."""

import base64
import csv
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import fakes
import pytest
import scenes
from driving import WIDE, run_screen, screen_text, until, until_seen
from textual.pilot import Pilot
from textual.selection import SELECT_ALL

from plt_tui.config.schema import UiSection
from plt_tui.errors import StorageError
from plt_tui.protocol.events import Event
from plt_tui.views.files import RunFiles
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.panes.bars import Answer
from plt_tui.views.tui.takeaway import offline, osc52


class Shelf:
    """Where the view's files go."""

    def __init__(self) -> None:
        self.kept: list[tuple[str, str]] = []
        self.trouble = ""

    def keep(self, name: str, pieces: Iterable[str]) -> Path:
        """Take a file, or fail as a disk does."""
        if self.trouble:
            raise StorageError(self.trouble)
        self.kept.append((name, "".join(pieces)))
        return Path("runs/quickstart/exports", name)


@asynccontextmanager
async def watched(events: list[Event], *, has_files: bool = True) -> AsyncIterator[tuple[Pilot[object], Shelf]]:
    """The app on `events`, with a shelf for what is taken out."""
    shelf, source = Shelf(), fakes.FakeSource(events)
    files = RunFiles(last_words=lambda *_: None, texts=None, keep=shelf.keep, save_as=shelf.keep)  # type: ignore[arg-type]
    app = RunApp(
        source.connect,
        name="quickstart",
        ui=UiSection(),
        config=fakes.CONFIG,
        files=files if has_files else None,
        clock=lambda: fakes.at(600) + 30,
    )
    async with app.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: len(app.screen_stack) > 1 and run_screen(app).session.model.is_live)
        yield pilot, shelf


async def test_p_keeps_a_picture() -> None:
    """An SVG of what is on the screen, that asks no server for a font; the answer tells where it is."""
    async with watched(fakes.training()) as (pilot, shelf):
        await until_seen(pilot, "evaluated at step 600")
        await pilot.press("P")
        await until_seen(pilot, "picture kept: runs/quickstart/exports/screen.svg")
        ((name, svg),) = shelf.kept
        assert name == "screen.svg"
        text = "".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
        assert "quickstart" in text
        assert "evaluated at step 600" in text
        assert "@font-face" not in svg
        assert "url(http" not in svg


async def test_e_keeps_all_numbers() -> None:
    """A CSV with a row for each step."""
    async with watched(fakes.training(250)) as (pilot, shelf):
        await pilot.press("E")
        await until_seen(pilot, "numbers kept: runs/quickstart/exports/steps.csv")
        ((name, text),) = shelf.kept
        assert name == "steps.csv"
        assert [row["step"] for row in csv.DictReader(text.splitlines())] == [str(step) for step in range(1, 251)]


async def test_the_command_line_exports_where_it_is_told() -> None:
    """`export csv PATH` hands the path on as it was typed."""
    async with watched(fakes.training(20)) as (pilot, shelf):
        await pilot.press("colon")
        for char in "export csv numbers.csv":
            await pilot.press("space" if char == " " else "full_stop" if char == "." else char)
        await pilot.press("enter")
        await until(pilot, lambda: shelf.kept)
        assert shelf.kept[0][0] == "numbers.csv"


@pytest.mark.parametrize("key", ["P", "E"])
async def test_what_cannot_be_kept_is_told(key: str) -> None:
    """A full disk is a sentence, and the view goes on."""
    async with watched(fakes.training(20)) as (pilot, shelf):
        shelf.trouble = "runs/quickstart/exports: cannot be written (No space left on device)"
        await pilot.press(key)
        await until_seen(pilot, "not kept: runs/quickstart/exports: cannot be written (No space left on device)")
    async with watched(fakes.training(20), has_files=False) as (pilot, _):
        await pilot.press(key)
        await until_seen(pilot, "this view has no place for files")


async def test_y_copies_the_run_in_a_line() -> None:
    """Nothing is selected and no step is pointed at: state, step and newest values."""
    async with watched(fakes.training()) as (pilot, _):
        await pilot.press("Y")
        await pilot.pause()
        assert pilot.app.clipboard.startswith("quickstart: running, step 600 of 1,000, loss ")
        assert f"copied: {pilot.app.clipboard}"[:60] in screen_text(pilot.app)


async def test_y_copies_the_step_pointed_at() -> None:
    """All its numbers, exactly."""
    async with watched(fakes.training()) as (pilot, _):
        run_screen(pilot.app).board.point_at(200)
        await pilot.pause()
        await pilot.press("Y")
        loss = run_screen(pilot.app).session.model.steps.columns["loss"][199]
        assert pilot.app.clipboard.startswith(f"quickstart step 200: loss={loss!r} lr=")
        run_screen(pilot.app).board.point_at(None)
        await pilot.press("Y")
        assert pilot.app.clipboard.startswith("quickstart: running")


async def test_y_copies_a_spike_from_the_branch_that_it_was_on() -> None:
    """Not the numbers of the step that took its place."""
    async with watched(scenes.rewound()) as (pilot, _):
        run_screen(pilot.app).board.point_at(scenes.SPIKED_AT)
        await pilot.pause()
        await pilot.press("Y")
        model = run_screen(pilot.app).session.model
        loss = model.branches[1].columns["loss"][-1]
        assert pilot.app.clipboard.startswith(f"quickstart step {scenes.SPIKED_AT} on branch 1: loss={loss!r} lr=")


async def test_y_copies_what_is_selected_first() -> None:
    """A selection wins over the step pointed at; its text is not repeated, it may be long."""
    async with watched(fakes.training()) as (pilot, _):
        run_screen(pilot.app).board.point_at(200)
        await pilot.pause()
        pilot.app.screen.selections = {pilot.app.screen.query_one(Answer): SELECT_ALL}
        await pilot.pause()
        await pilot.press("Y")
        await pilot.pause()
        selected = pilot.app.clipboard
        assert selected
        assert not selected.startswith("quickstart step")
        assert f"copied: the selected text, {len(selected)} characters" in screen_text(pilot.app)


def test_the_clipboard_sequence_holds_nothing_but_base64() -> None:
    """Whatever is copied: OSC 52, its text, BEL."""
    sequence = osc52("ä\x1b]0;x\x07\n")
    assert sequence.startswith("\x1b]52;c;")
    assert sequence.endswith("\x07")
    assert base64.b64decode(sequence[7:-1]).decode() == "ä\x1b]0;x\x07\n"


def test_an_offline_picture_loses_its_fonts_only() -> None:
    """Other rules of its style sheet stay."""
    svg = '<style>@font-face { src: url("https://x/y.woff2"); }\n@font-face {\n a: b;\n}\n.one { fill: red }</style>'
    assert offline(svg) == "<style>.one { fill: red }</style>"
