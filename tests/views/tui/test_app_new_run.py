"""Promises of the form for a new run: what is typed is checked, told, saved and started, by keys alone, and nothing waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from driving import screen_text
from textual import events
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from plt_tui.config.fields import describe
from plt_tui.errors import UsageError
from plt_tui.views.draft import FIRST_PAGE, Checked, Mistake, command_line, pages
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.form import FieldRow
from plt_tui.views.tui.new_run_keys import NEW_RUN_KEYS, form_bindings
from plt_tui.views.tui.screens.new_run import NewRunScreen

SIZES = [(80, 24), (120, 40), (200, 60)]
DEADLINE_S = 10.0
SUMMARY = {"model": "4 layers", "size": "850,000 parameters", "step": "2,048 tokens", "target": "1,000 steps"}


@dataclass
class FakePort:
    """Finds what the test tells it, and keeps what it was asked."""

    mistakes: tuple[Mistake, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    refusal: str = ""
    gate: threading.Event = field(default_factory=threading.Event)
    """Whoever checks or launches waits for it."""
    checked: list[dict[str, str]] = field(default_factory=list)
    launched: list[dict[str, str]] = field(default_factory=list)
    num_inside: int = 0
    was_crowded: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    def check(self, values: Mapping[str, str]) -> Checked:
        self.num_inside += 1
        self.was_crowded |= self.num_inside > 1
        self.checked.append(dict(values))
        self.gate.wait(DEADLINE_S)
        self.num_inside -= 1
        mistakes = tuple(mistake for mistake in self.mistakes if not mistake.key or mistake.key in values)
        return Checked(values=self.values, mistakes=mistakes, summary={} if mistakes else SUMMARY)

    def launch(self, values: Mapping[str, str]) -> str:
        self.gate.wait(DEADLINE_S)
        self.launched.append(dict(values))
        if self.refusal:
            raise UsageError(self.refusal)
        return "fresh"

    def save(self, values: Mapping[str, str], path: str, *, replace: bool) -> str:
        if path in self.files and not replace:
            raise FileExistsError
        if self.refusal:
            raise UsageError(self.refusal)
        self.files[path] = dict(values)
        return f"saved {path}"


class FormApp(App[str]):
    """The form alone; it returns what the form does, "nothing" for None."""

    def __init__(self, port: FakePort, values: Mapping[str, str]) -> None:
        super().__init__()
        self.form = NewRunScreen(port, values)

    def on_mount(self) -> None:
        self.push_screen(self.form, lambda name: self.exit(name or "nothing"))


def text_of(app: App[str]) -> str:
    """What is on the screen."""
    return screen_text(app)  # type: ignore[arg-type]  # any app has a screen


def lines_of(app: App[str]) -> list[str]:
    """The same by lines."""
    return text_of(app).split("\n")


async def until(pilot: Pilot[str], happens: Callable[[], object]) -> None:
    """Let the app run until `happens()`."""
    deadline = time.monotonic() + DEADLINE_S
    while not happens():
        assert time.monotonic() < deadline, f"waited in vain; the screen:\n{text_of(pilot.app)}"
        await asyncio.sleep(0.005)
        await pilot.pause()


async def until_seen(pilot: Pilot[str], text: str) -> None:
    """Wait until `text` is on the screen."""
    await until(pilot, lambda: text in text_of(pilot.app))


@asynccontextmanager
async def form(
    port: FakePort, values: Mapping[str, str] | None = None, *, size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[Pilot[str], FormApp]]:
    """The form as it is once its first draft is checked."""
    app = FormApp(port, values or {})
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: port.checked and "checking" not in text_of(app))
        yield pilot, app


def pointed_at(app: FormApp) -> tuple[str, str]:
    """The field that has the focus, and the label that the pointer on the screen stands before."""
    rest = text_of(app).partition("▸")[2]
    return focused_key(app), rest.lstrip(" ●✖").partition(" ")[0]


def focused_key(app: FormApp) -> str:
    """The field that has the focus; empty for none."""
    row = app.form.focused.parent if app.form.focused is not None else None
    return row.doc.name if isinstance(row, FieldRow) else ""


@pytest.mark.parametrize("size", SIZES, ids=lambda size: "x".join(map(str, size)))
async def test_the_form_says_what_would_be_trained(size: tuple[int, int]) -> None:
    """The first fields, the summary, the command, how to start, on every size; where there is room, what fields mean."""
    async with form(FakePort(), {"optim.lr": "3e-4"}, size=size) as (_, app):
        text = text_of(app)
        assert [key for key in pages()[FIRST_PAGE] if key not in text] == []
        assert [line for line in SUMMARY.values() if line not in text] == []
        assert "$ plt-tui run --set optim.lr=3e-4" in text
        assert "^r start" in lines_of(app)[-1]
        assert "esc leave" in lines_of(app)[-1]
        assert (describe()["parallel.device"].doc in text) == (size[1] >= 30)


async def test_only_what_is_typed_is_in_the_draft() -> None:
    """An emptied field is the default again; the check sees the last draft, the command shows it at once."""
    port = FakePort()
    async with form(port) as (pilot, app):
        await pilot.press("a", "b", "down", "x", "backspace")
        assert "$ plt-tui run --set run.name=ab" in text_of(app)
        await until(pilot, lambda: port.checked[-1] == {"run.name": "ab"})
        await until_seen(pilot, "no mistakes found · 1 changed")


async def test_a_mistake_stands_beside_its_field_or_below() -> None:
    """Those of fields in sight beside them; all others, and those of no field, at the bottom; the sections count them."""
    mistakes = (Mistake("run.name", "odd name"), Mistake("guard.z", "odd z"), Mistake("", "no such plug-in"))
    async with form(FakePort(mistakes), {"guard.z": "1"}) as (pilot, app):
        await pilot.press("x")
        await until_seen(pilot, "3 mistakes")
        lines = [line.rstrip(" │") for line in lines_of(app)]
        name = next(place for place, line in enumerate(lines) if "✖ run.name" in line)
        assert lines[name + 1].endswith("✖ odd name")
        below = "\n".join(lines[lines.index(next(line for line in lines if "3 mistakes" in line)) :])
        assert "guard.z: odd z" in below
        assert "✖ no such plug-in" in below
        assert "odd name" not in below
        assert any("run " in line and "✖1" in line for line in lines)


async def test_what_counts_without_a_value_is_shown() -> None:
    """A preset's value stands in the empty field, and where it comes from below it."""
    async with form(FakePort(values={"model.layers": "12", "run.name": ""})) as (pilot, app):
        await pilot.press("down", "down", "down")
        assert focused_key(app) == "model.layers"
        assert any("model.layers" in line and "12" in line for line in lines_of(app))
        assert "12 · default" in text_of(app)


async def test_every_field_is_reached_and_in_sight() -> None:
    """Page down goes from section to section, and down from its first field to its last, each seen on the smallest screen."""
    async with form(FakePort()) as (pilot, app):
        for title, keys in list(pages().items())[1:]:
            await pilot.press("pagedown")
            assert title in lines_of(app)[0]
            assert [row.doc.name for row in app.form.query(FieldRow)] == list(keys)
            await until(pilot, lambda: pointed_at(app) == (keys[0], keys[0].partition(".")[2]))  # noqa: B023  (awaited here)
            await app.form.action_field(len(keys) - 1)  # as many presses as that would take long
            await until(pilot, lambda: pointed_at(app) == (keys[-1], keys[-1].partition(".")[2]))  # noqa: B023


async def test_what_is_typed_behind_a_key_goes_where_it_leads() -> None:
    """However many keys come at once, as from a person who is ahead of a busy machine: each text is in its own field."""
    port = FakePort()
    async with form(port) as (pilot, app):
        for key in ["a", "down", "b", "tab", "c", "enter", "3", "pagedown", "d", "ctrl+f", *"warmup", "enter", "7", "ctrl+r"]:
            character = key if len(key) == 1 else None
            app.post_message(events.Key(key, character))
        await until(pilot, lambda: app.return_value is not None)
    typed = {"run.name": "ad", "data.train": "b", "model.preset": "c", "model.layers": "3", "optim.warmup": "7"}
    assert port.launched == [typed]


async def test_tab_goes_through_all_and_up_leads_to_the_search() -> None:
    """Search, sections, fields: the order in which they stand."""
    async with form(FakePort()) as (pilot, app):
        await pilot.press("shift+tab")
        assert isinstance(app.form.focused, OptionList)
        await pilot.press("shift+tab")
        assert app.form.query_one("#search").has_focus
        await pilot.press("tab", "tab", "tab")
        assert focused_key(app) == "data.train"
        await pilot.press("up", "up")
        assert app.form.query_one("#search").has_focus


async def test_the_list_of_sections_opens_pages() -> None:
    """Moving in it shows a page, enter goes into its fields; a click does as well."""
    async with form(FakePort()) as (pilot, app):
        await pilot.press("shift+tab", "down", "down")
        assert "data" in lines_of(app)[0]
        await pilot.press("enter")
        assert focused_key(app) == "data.train"
        sections = app.form.query_one("#sections")
        await pilot.click(sections, offset=(3, list(pages()).index("optim")))
        await until_seen(pilot, "betas")


async def test_a_search_shows_what_it_finds() -> None:
    """With the values of the draft; enter goes to the first, escape back to the page; what is typed there counts."""
    port = FakePort()
    async with form(port, {"optim.warmup": "7"}) as (pilot, app):
        await pilot.press("ctrl+f", *"warmup")
        assert "2 fields with “warmup”" in lines_of(app)[0]
        await pilot.press("enter", "7")
        assert focused_key(app) == "optim.warmup"
        await until(pilot, lambda: port.checked[-1] == {"optim.warmup": "77"})
        await pilot.press("escape")
        assert FIRST_PAGE in lines_of(app)[0]
        assert app.form.query_one("#search", Input).value == ""


async def test_many_hits_are_cut_and_said() -> None:
    """A search for everything stays quick."""
    async with form(FakePort()) as (pilot, app):
        await pilot.press("ctrl+f", "e")
        assert "the first 20 of them here" in lines_of(app)[0]
        assert len(app.form.query(FieldRow)) == 20


async def test_typing_never_waits_for_a_check() -> None:
    """A check that takes long blocks nothing, no second one begins beside it, and the last draft is checked in the end."""
    port = FakePort()
    async with form(port) as (pilot, app):
        port.gate.clear()
        await pilot.press("a")
        await until(pilot, lambda: {"run.name": "a"} in port.checked)
        await pilot.press(*"bcd", "down", "e")
        assert "--set run.name=abcd" in text_of(app)
        assert "checking" in text_of(app)
        port.gate.set()
        await until(pilot, lambda: port.checked[-1] == {"run.name": "abcd", "data.train": "e"})
        await until_seen(pilot, "no mistakes found")
        assert not port.was_crowded
        assert {"run.name": "ab"} not in port.checked


async def test_starting_opens_the_new_run() -> None:
    """The form returns the name; while the run starts nothing else can be done to it."""
    port = FakePort()
    async with form(port) as (pilot, app):
        port.gate.clear()
        await pilot.press("a", "ctrl+r", "ctrl+r", "escape")
        await until_seen(pilot, "starting")
        port.gate.set()
        await until(pilot, lambda: app.return_value is not None)
    assert app.return_value == "fresh"
    assert port.launched == [{"run.name": "a"}]


async def test_a_refused_start_is_told_and_can_be_repeated() -> None:
    """What went wrong stands below until something changes."""
    port = FakePort(refusal="runs/a is in\nuse")
    async with form(port) as (pilot, app):
        await pilot.press("ctrl+r")
        await until_seen(pilot, "not started: runs/a is in use")
        port.refusal = ""
        await pilot.press("ctrl+r")
        await until(pilot, lambda: app.return_value == "fresh")


async def test_a_draft_with_mistakes_is_not_started() -> None:
    """The first mistake's field gets the focus, on whichever page it is."""
    port = FakePort((Mistake("guard.z", "odd"),))
    async with form(port, {"guard.z": "x"}) as (pilot, app):
        await pilot.press("ctrl+r")
        await until(pilot, lambda: focused_key(app) == "guard.z")
        assert "not started: 1 mistake first" in text_of(app)
        assert port.launched == []


async def test_saving_asks_where_and_before_it_overwrites() -> None:
    """The name of the run is offered; a file that is there stays unless one says otherwise."""
    port = FakePort(files={"ab.toml": {}})
    async with form(port) as (pilot, app):
        await pilot.press("a", "b", "ctrl+s")
        await until_seen(pilot, "ab.toml")
        await pilot.press("enter")
        await until_seen(pilot, "There is a file ab.toml already.")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert port.files == {"ab.toml": {}}
        await pilot.press("ctrl+s", "enter")
        await until_seen(pilot, "There is a file")
        await pilot.press("down", "enter")
        await until_seen(pilot, "saved ab.toml")
        assert port.files == {"ab.toml": {"run.name": "ab"}}


async def test_a_refused_save_is_told() -> None:
    """The draft stays as it is."""
    async with form(FakePort(refusal="no room")) as (pilot, _):
        await pilot.press("a", "ctrl+s")
        await until_seen(pilot, "a.toml")
        await pilot.press("enter")
        await until_seen(pilot, "not saved: no room")


class _Unlaunchable(FakePort):
    """Starts and saves nothing."""

    def launch(self, values: Mapping[str, str]) -> str:
        raise ValueError("embedded null byte")

    def save(self, values: Mapping[str, str], path: str, *, replace: bool) -> str:
        raise ValueError("embedded null byte")


async def test_a_path_that_no_file_can_have_ends_nothing() -> None:
    """It may be typed and started before it was checked."""
    async with form(_Unlaunchable()) as (pilot, _):
        await pilot.press("a", "ctrl+r")
        await until_seen(pilot, "not started: embedded null byte")
        await pilot.press("ctrl+s", "enter")
        await until_seen(pilot, "not saved: embedded null byte")


@pytest.mark.parametrize("key", ["escape", "ctrl+c"])
async def test_leaving_asks_only_for_what_would_be_lost(key: str) -> None:
    """Nothing typed, or all of it saved: the form goes at once; else it asks, and staying is the default."""
    async with form(FakePort(), {"run.dir": "other"}) as (pilot, app):
        await pilot.press(key)
        await until(pilot, lambda: app.return_value == "nothing")
    async with form(FakePort()) as (pilot, app):
        await pilot.press("a", key)
        await until_seen(pilot, "1 changed field is not saved.")
        await pilot.press("enter")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press("ctrl+s", "enter")
        await until_seen(pilot, "saved a.toml")
        await pilot.press(key)
        await until(pilot, lambda: app.return_value == "nothing")


async def test_a_draft_can_be_forgotten() -> None:
    """Two downs and enter."""
    async with form(FakePort()) as (pilot, app):
        await pilot.press("a", "escape")
        await until_seen(pilot, "Forget it")
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: app.return_value == "nothing")


async def test_the_command_is_copied() -> None:
    """Whole, also where it does not fit on the screen."""
    values = {"sample.prompt": "long " * 60, "run.name": "a"}
    async with form(FakePort(), values) as (pilot, app):
        assert "… ^y copies all of it" in text_of(app)
        await pilot.press("ctrl+y")
        await until_seen(pilot, "the command is copied")
        assert app.clipboard == command_line(values)


async def test_slash_and_question_mark_count_where_nothing_is_typed() -> None:
    """In a field they are characters."""
    port = FakePort()
    async with form(port) as (pilot, app):
        await pilot.press("down", "/", "?")
        await until(pilot, lambda: port.checked[-1] == {"data.train": "/?"})
        await pilot.press("shift+tab", "shift+tab")
        assert isinstance(app.form.focused, OptionList)
        await pilot.press("slash")
        assert app.form.query_one("#search").has_focus
        await pilot.press("f1")
        await until_seen(pilot, "Write what was changed into a TOML file.")


async def test_a_click_on_the_key_bar_is_a_press() -> None:
    """The form works with the mouse alone."""
    async with form(FakePort()) as (pilot, app):
        await pilot.click("#keys", offset=(lines_of(app)[-1].index("search"), 0))
        await until(pilot, lambda: app.form.query_one("#search").has_focus)


def test_ids_and_keys_are_unique() -> None:
    """No entry hides another, each has an action and a sentence that fits the help, and none is a letter."""
    assert max(Counter(key.id for key in NEW_RUN_KEYS).values()) == 1
    assert max(Counter(one for key in NEW_RUN_KEYS for one in key.keys.split(",")).values()) == 1
    assert {binding.id for binding in form_bindings()} - {None} == {key.id for key in NEW_RUN_KEYS}  # type: ignore[union-attr]
    for key in NEW_RUN_KEYS:
        of_app, _, action = key.action.split("(")[0].rpartition(".")
        assert hasattr(RunApp if of_app else NewRunScreen, f"action_{action}")
        assert key.help.endswith(".")
        assert len(key.help) <= 64
        assert min(map(len, key.keys.split(","))) > 1
