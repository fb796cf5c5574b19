"""The form for a new run: sections on the left, their fields on the right, and below what the draft would train.

Checks, saves and starts nothing itself: that is the port's work, in threads, so the form never waits. Invariant: what is told
to be wrong was found by the same check that `plt-tui run` makes, and only what a person changed is written or started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from textual import on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.screen import Screen
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from plt_tui.config.fields import describe
from plt_tui.errors import PltTuiError
from plt_tui.protocol.text import safe_line
from plt_tui.views.draft import FIRST_PAGE, Checked, NewRunPort, command_line, matching, pages
from plt_tui.views.rewind import counted
from plt_tui.views.tui.draft_words import about_field, about_page, command_words, section_prompt, verdict
from plt_tui.views.tui.field import Field, taken_in
from plt_tui.views.tui.form import FieldRow, Page, row_id
from plt_tui.views.tui.layout import WIDE_HEIGHT
from plt_tui.views.tui.new_run_keys import BY_NEW_ID, NEW_RUN_KEYS, form_bindings
from plt_tui.views.tui.panes.bars import KeyBar
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.person import keys_in_force, shown_key
from plt_tui.views.tui.screens.ask import AskDialog, PathDialog
from plt_tui.views.tui.screens.help import HelpScreen
from plt_tui.views.tui.words import Word, one_line

DEBOUNCE_S = 0.15
"""How long a draft waits for the next key before it is checked."""
MAX_FOUND = 20
"""Fields that a search shows at most."""
_STAY, _SAVE, _FORGET = "Stay", "Save", "Forget it"
_LEAVE_ANSWERS = ((_STAY, "go on with the form"), (_SAVE, "write a TOML file"), (_FORGET, "leave without a trace"))
_REPLACE = "Replace it"
_REPLACE_ANSWERS = (("Keep it", "choose another path"), (_REPLACE, "what is in the file now is lost"))


class NewRunScreen(Screen[str]):
    """Returns the name of the run that it started; None when it was left."""

    keys = NEW_RUN_KEYS
    BINDINGS = form_bindings()
    CSS_PATH = "new_run.tcss"
    AUTO_FOCUS = ""

    def __init__(self, port: NewRunPort, values: Mapping[str, str] = {}) -> None:
        """`values`: what the draft begins with."""
        super().__init__()
        self._port = port
        self._pages = pages()
        self._titles = tuple(self._pages)
        self._draft = dict(values)
        self._kept = dict(values)
        """The draft as it was last saved: leaving then loses nothing."""
        self._checked = Checked()
        self._checked_draft: dict[str, str] | None = None
        self._is_checking = False
        self._doing = ""
        """What cannot be interrupted: "starting", or empty."""
        self._said: Word | None = None
        """The outcome of the last save or start, until the draft changes."""
        self._prompted = self._prompts()
        self._place = 0
        self._query = ""
        """The search whose hits the page shows; empty: it shows the section at `_place`."""

    def compose(self) -> ComposeResult:
        """The sections, the page, and what there is to say."""
        with Horizontal(id="form"):
            with Vertical(id="left"):
                yield Field(id="search", placeholder=f"{shown_key(self.app, 'new_search', NEW_RUN_KEYS)} search", compact=True)
                yield OptionList(*map(Option, self._prompted), id="sections", markup=False)
            yield Page(id="page")
        yield Block(id="about")
        yield Block(id="verdict")
        yield Block(id="command")
        yield KeyBar(NEW_RUN_KEYS, id="keys")

    async def on_mount(self) -> None:
        """Show the first page, and check what is there."""
        self.query_one("#left").border_title = Content("new run")
        await self._open(0)
        self._focus_field(0)
        self.call_after_refresh(self.draw)
        self._check_soon()

    # --- what is shown -----------------------------------------------------------------------------------------------------

    async def _open(self, place: int) -> None:
        """Show the page at `place` of the list."""
        self._place, self._query = place, ""
        with self.prevent(Input.Changed, OptionList.OptionHighlighted):
            self._search_field.value = ""
            self._sections.highlighted = place
        title = self._titles[place]
        await self._page.turn(title, self._pages[title], self._take_in, is_mixed=title == FIRST_PAGE)
        self.draw()

    @property
    def _page(self) -> Page:
        return self.query_one(Page)

    @property
    def _search_field(self) -> Input:
        return self.query_one("#search", Input)

    @property
    def _sections(self) -> OptionList:
        return self.query_one("#sections", OptionList)

    def _prompts(self) -> list[Content]:
        return [section_prompt(title, keys, self._draft, self._checked) for title, keys in self._pages.items()]

    def draw(self) -> None:
        """Bring everything to the draft and to what is known of it."""
        is_roomy = self.size.height >= WIDE_HEIGHT
        if is_roomy != self.has_class("-roomy"):
            self.set_class(is_roomy, "-roomy")
            self.call_after_refresh(self.draw)  # with the room that the parts have then
        self._page.tell(self._checked, is_explained=is_roomy)
        for place, (before, prompt) in enumerate(zip(self._prompted, prompts := self._prompts(), strict=True)):
            if not prompt.is_same(before):
                self._sections.replace_option_prompt_at_index(place, prompt)
        self._prompted = prompts
        self._draw_about()
        keys = {key.id: key.shown for key in keys_in_force(self.app, NEW_RUN_KEYS)}
        block = self.query_one("#verdict", Block)
        is_current = self._checked_draft == self._draft
        block.put(
            verdict(
                self._checked,
                shown=self._page.keys,
                num_set=len(self._draft),
                said=self._said,
                doing=self._doing or ("" if is_current else "checking"),
                start_key=keys["new_start"],
                size=block.content_size,
            )
        )
        command = self.query_one("#command", Block)
        command.put(command_words(command_line(self._draft), keys["new_copy"], command.content_size))
        self.query_one(KeyBar).show(refused=frozenset(), is_held=False)

    def _draw_about(self) -> None:
        row, about = self._focused_row, self.query_one("#about", Block)
        if row is None:
            about.put(about_page("search" if self._query else self._titles[self._place]))
        else:
            about.put(about_field(row.doc, self._draft.get(row.doc.name, ""), self._checked))

    @on(Resize)
    def _resized(self) -> None:
        self.call_after_refresh(self.draw)

    @on(DescendantFocus)
    def _focus_moved(self) -> None:
        self._draw_about()

    # --- the draft ---------------------------------------------------------------------------------------------------------

    @on(FieldRow.Changed)
    def _changed(self) -> None:
        self._take_in()

    def _take_in(self) -> Mapping[str, str]:
        """Bring the draft to what the fields on the page hold."""
        draft = {key: text for key, text in {**self._draft, **self._page.texts}.items() if text}
        if draft != self._draft:
            self._draft, self._said = draft, None
            self.draw()
            self._check_soon()
        return self._draft

    def _check_soon(self) -> None:
        if not self._is_checking:
            self._is_checking = True
            self.run_worker(self._check(), group="check")

    async def _check(self) -> None:
        """Check the draft, again if it has changed meanwhile; never twice at once, however long a check takes."""
        while self._checked_draft != self._draft:
            draft = self._draft
            await asyncio.sleep(DEBOUNCE_S)
            if draft is not self._draft:
                continue
            checked = await asyncio.to_thread(self._port.check, draft)
            if not checked.values:  # nobody can tell: what was known before is still the best guess
                checked = replace(checked, values=self._checked.values, origins=self._checked.origins)
            self._checked, self._checked_draft = checked, draft
            self.draw()
        self._is_checking = False

    # --- ways through the form ---------------------------------------------------------------------------------------------

    async def action_perform(self, key_id: str) -> None:
        """Run the action of a key, pressed or clicked, once the focused field has taken in what was typed before it."""
        await taken_in(self.focused)
        self._take_in()
        await self.run_action(BY_NEW_ID[key_id].action)

    async def on_key_bar_pressed(self, event: KeyBar.Pressed) -> None:
        """A click on the key bar is a press."""
        await self.action_perform(event.key_id)

    @property
    def _focused_row(self) -> FieldRow | None:
        row = self.focused.parent if self.focused is not None else None
        return row if isinstance(row, FieldRow) else None

    def _focus_field(self, place: int) -> None:
        rows = self._page.rows
        if rows:
            self.set_focus(rows[max(0, min(place, len(rows) - 1))].editor)

    async def action_field(self, direction: int) -> None:
        """Go to the next field or to the one before, in the list to the next section; above the first field is the search."""
        row = self._focused_row
        if row is not None and self._page.rows.index(row) + direction < 0:
            self.action_search()
        elif row is not None:
            self._focus_field(self._page.rows.index(row) + direction)
        elif self.focused is self._sections:
            self._sections.action_cursor_down() if direction > 0 else self._sections.action_cursor_up()
        elif direction > 0:
            await self.action_enter()

    async def action_enter(self) -> None:
        """From the list or the search into the fields that it shows; from a field to the next one."""
        if self._focused_row is not None:
            await self.action_field(1)
            return
        if self.focused is self._search_field:
            await self._find(self._search_field.value)
        elif self._sections.highlighted not in (None, self._place):
            await self._open(self._sections.highlighted or 0)
        await self._page.turned()  # what was asked for just before may still be on its way
        self._focus_field(0)

    async def action_section(self, direction: int) -> None:
        """Go to the next section or to the one before, and stay in its fields."""
        await self._open((self._place + direction) % len(self._pages))
        self._focus_field(0)

    async def go_to(self, key: str) -> None:
        """Go to a field, on whichever page it is."""
        if key not in self._page.keys:
            await self._open(self._titles.index(describe()[key].section))
        self.set_focus(self.query_one(f"#{row_id(key)}", FieldRow).editor)

    @on(OptionList.OptionHighlighted)
    async def _highlighted(self, event: OptionList.OptionHighlighted) -> None:
        is_shown = event.option_index == self._place and not self._query
        if event.option_index == self._sections.highlighted and not is_shown:
            await self._open(event.option_index)

    @on(OptionList.OptionSelected)
    def _selected(self) -> None:
        self._focus_field(0)

    def action_search(self) -> None:
        """Go to the search field."""
        self.set_focus(self._search_field)

    @on(Input.Changed, "#search")
    async def _searched(self, event: Input.Changed) -> None:
        if self._search_field.value == event.value:  # else more has been typed, which is told next
            await self._find(event.value)

    async def _find(self, query: str) -> None:
        """Show the fields that a search finds; for none the section again."""
        query = query.strip()
        if query == self._query:
            return
        if not query:
            await self._open(self._place)
            return
        self._query, found = query, matching(query)
        more = f", the first {MAX_FOUND} of them here" if len(found) > MAX_FOUND else ""
        title = f"{counted(len(found), 'field', 'fields')} with “{query}”{more}"
        await self._page.turn(title, tuple(found[:MAX_FOUND]), self._take_in, is_mixed=True)
        self.draw()

    # --- what is done with it ----------------------------------------------------------------------------------------------

    def _say(self, word: Word) -> None:
        self._said = word
        self.draw()

    async def action_start(self) -> None:
        """Start the run, or go to what is wrong with it."""
        mistakes = self._checked.mistakes if self._checked_draft == self._draft else ()
        if mistakes:
            self._say(Word("✖", f"not started: {counted(len(mistakes), 'mistake', 'mistakes')} first", "bad"))
            key = next((mistake.key for mistake in mistakes if mistake.key), "")
            if key:
                await self.go_to(key)
        elif not self._doing:
            self._doing, self._said = "starting", None
            self.draw()
            self.run_worker(self._start(self._draft), group="start")

    async def _start(self, draft: Mapping[str, str]) -> None:
        try:
            name = await asyncio.to_thread(self._port.launch, draft)
        except (PltTuiError, OSError, ValueError) as error:  # ValueError: what no path can hold
            self._doing = ""
            self._say(Word("✖", f"not started: {_told(error)}", "bad"))
        else:
            self.dismiss(name)

    def action_save(self) -> None:
        """Ask where to, and write the draft there."""
        name = self._draft.get("run.name", "") or "config"
        words = "A TOML file with what was changed, each field below its meaning; plt-tui run FILE trains it."
        self.app.push_screen(PathDialog("save", words, f"{name}.toml"), self._save)

    async def _save(self, path: str | None) -> None:
        if path is not None:
            await self._write(path, is_replacing=False)

    async def _write(self, path: str, *, is_replacing: bool) -> None:
        draft = self._draft
        try:
            said = await asyncio.to_thread(self._port.save, draft, path, replace=is_replacing)
        except FileExistsError:
            question = safe_line(f"There is a file {path} already.")
            self.app.push_screen(AskDialog("save", question, _REPLACE_ANSWERS), lambda answer: self._replace(path, answer))
        except (PltTuiError, OSError, ValueError) as error:  # ValueError: what no path can hold
            self._say(Word("✖", f"not saved: {_told(error)}", "bad"))
        else:
            self._kept = draft
            self._say(Word("✔", said, "good"))

    async def _replace(self, path: str, answer: str | None) -> None:
        if answer == _REPLACE:
            await self._write(path, is_replacing=True)

    def action_copy(self) -> None:
        """Copy the command by the terminal's own means."""
        self.app.copy_to_clipboard(command_line(self._draft))
        self._say(Word("✔", "the command is copied", "good"))

    async def action_leave(self) -> None:
        """From a search back to the page; else leave, after a question where something would be lost."""
        if self._doing:
            return  # what is starting cannot be called back
        if self._query:
            await self._open(self._place)
            self._focus_field(0)
        elif self._draft in (self._kept, {}):
            self.dismiss(None)
        else:
            question = f"{counted(len(self._draft), 'changed field is', 'changed fields are')} not saved."
            self.app.push_screen(AskDialog("leave", question, _LEAVE_ANSWERS), self._leave)

    def _leave(self, answer: str | None) -> None:
        if answer == _FORGET:
            self.dismiss(None)
        elif answer == _SAVE:
            self.action_save()

    def action_help(self) -> None:
        """Show all keys."""
        self.app.push_screen(HelpScreen(NEW_RUN_KEYS))

    def action_palette(self) -> None:
        """Open the command palette."""
        self.app.action_command_palette()


def _told(error: Exception) -> str:
    return safe_line(one_line(str(error)))
