"""The fields of a form: a name, something to type or choose in, and below what is wrong and what it means; and a page of them.

Validates nothing: whoever holds the form tells what is wrong. Invariant: a row whose text is empty shows the value that counts
without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Click, Key
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input

from plt_tui.config.fields import FieldDoc, describe
from plt_tui.protocol.text import safe_line
from plt_tui.views.draft import SECRETS, SUGGESTIONS, Checked, choices_of, value_text
from plt_tui.views.tui.field import Field, act
from plt_tui.views.tui.meters import lines
from plt_tui.views.tui.words import STYLES

MARK_CELLS = 3
"""Where the pointer and the mark of a row stand, and how far its notes are indented."""
_EMPTY = "empty"


class Choice(Widget, can_focus=True):
    """One of a few words, all of them in sight where there is room; none chosen: the one that counts without a choice."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "step(-1)", "word before", show=False),
        Binding("right,space", "step(1)", "next word", show=False),
        Binding("backspace,delete,ctrl+u", "clear", "default", show=False),
    ]
    DEFAULT_CSS = """
    Choice { height: 1; }
    Choice:focus { background: $accent 15%; }
    """
    text = reactive("")
    """What was chosen, or empty."""
    effective = reactive("")
    """What counts as long as nothing is chosen."""

    class Changed(Message):
        """Something else was chosen, or nothing any more."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def __init__(self, words: Sequence[str], *, text: str, effective: str) -> None:
        super().__init__()
        self._words = tuple(words)
        self.set_reactive(Choice.text, text)
        self.set_reactive(Choice.effective, effective)

    def render(self) -> Content:
        """The words, or the chosen one alone where they do not fit."""
        chosen = self.text or self.effective
        style = f"bold {STYLES['accent']}" if self.text else STYLES["normal"]
        parts = [
            (word, style if word == f"‹{chosen}›" else STYLES["muted"])
            for word in choice_words(self._words, chosen, self.content_size.width)
        ]
        return Content.assemble(*parts)

    def action_step(self, direction: int) -> None:
        """Choose the next word, or the one before."""
        chosen = self.text or self.effective
        place = self._words.index(chosen) if chosen in self._words else -1
        self._choose(self._words[(place + direction) % len(self._words)])

    def action_clear(self) -> None:
        """Leave the choice to the default."""
        self._choose("")

    async def on_key(self, event: Key) -> None:
        """A letter chooses the next word that begins with it; other keys act in their turn."""
        if await act(self, event):
            return
        start = self._words.index(self.text) + 1 if self.text in self._words else 0
        around = [*self._words[start:], *self._words[:start]]
        found = next((word for word in around if event.character and word.startswith(event.character)), None)
        if found is not None:
            event.stop()
            self._choose(found)

    def on_click(self, event: Click) -> None:
        """Choose the word under the pointer, or the next one where only one is seen."""
        offset = event.get_content_offset(self)
        words = choice_words(self._words, self.text or self.effective, self.content_size.width)
        left = offset.x if offset is not None else -1
        if left < 0:
            return
        if len(words) != len(self._words):
            self.action_step(1)
            return
        for word, cells in zip(self._words, words, strict=True):
            left -= len(cells)
            if left < 0:
                self._choose(word)
                return

    def _choose(self, text: str) -> None:
        if text != self.text:
            self.text = text
            self.post_message(self.Changed(text))


def choice_words(words: Sequence[str], chosen: str, width: int) -> list[str]:
    """The words side by side, the chosen one between marks; where they are too long, that one and its place among them."""
    shown = [f"‹{word}›" if word == chosen else f" {word} " for word in words]
    if sum(map(len, shown)) <= width or chosen not in words:
        return shown
    return [f"‹{chosen}›", f" {words.index(chosen) + 1} of {len(words)}"]


class FieldRow(Widget):
    """One field of the configuration."""

    DEFAULT_CSS = """
    FieldRow { height: auto; width: 100%; layout: vertical; }
    FieldRow > Input, FieldRow > Input:focus { width: 1fr; background: $surface; background-tint: $foreground 0%; }
    FieldRow > Input:focus { background: $accent 15%; }
    FieldRow > Choice { width: 1fr; }
    """

    class Changed(Message):
        """Something else was typed or chosen; empty when it is left to the default."""

        def __init__(self, key: str, text: str) -> None:
            super().__init__()
            self.key = key
            self.text = text

    def __init__(self, doc: FieldDoc, *, label: str, label_cells: int, text: str, effective: str) -> None:
        super().__init__(id=row_id(doc.name))
        self.doc = doc
        self._label = label
        self._effective = effective
        self._mistakes: tuple[str, ...] = ()
        self._is_explained = False
        words = choices_of(doc)
        self.editor: Choice | Input = (
            Choice(words, text=text, effective=effective) if words else _input(doc, text=text, effective=effective)
        )
        self.editor.styles.margin = (0, 0, 0, MARK_CELLS + label_cells + 1)

    def compose(self) -> ComposeResult:
        """What is typed or chosen in."""
        yield self.editor

    @property
    def text(self) -> str:
        """What was typed or chosen here; empty: nothing."""
        return self.editor.text if isinstance(self.editor, Choice) else self.editor.value

    def show(self, *, effective: str, mistakes: Sequence[str], is_explained: bool) -> None:
        """Tell what counts when the field is empty, what is wrong, and, if `is_explained`, what the field means."""
        effective = safe_line(effective)
        if isinstance(self.editor, Choice):
            self.editor.effective = effective
        else:
            self.editor.placeholder = effective or _EMPTY
        told = (tuple(map(safe_line, mistakes)), is_explained)
        if told != (self._mistakes, self._is_explained):
            self._mistakes, self._is_explained = told
            self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The line of the field, and its notes."""
        return 1 + len(self._notes(width))

    def render(self) -> Content:
        """Everything but what is typed in."""
        pointer = Content.styled("▸" if self.editor.has_focus else " ", STYLES["accent"])
        mark = ("✖ ", STYLES["bad"]) if self._mistakes else ("● ", STYLES["accent"]) if self.text else ("  ", "")
        label = (self._label, "bold" if self.text else STYLES["normal"])
        return lines([pointer + Content.assemble(mark, label), *self._notes(self.content_size.width)])

    def _notes(self, width: int) -> list[Content]:
        """What is wrong, and what the field means, in lines of at most `width` cells."""
        told = [Content.styled(f"✖ {text}", STYLES["bad"]) for text in self._mistakes]
        if self._is_explained:
            told.append(Content.styled(f"{self.doc.doc} ({self.doc.type})", STYLES["muted"]))
        indent = Content(" " * MARK_CELLS)
        return [indent + line for note in told for line in note.wrap(max(1, width - MARK_CELLS))]

    def on_descendant_focus(self) -> None:
        """Point at the row, and bring its notes into sight."""
        self.refresh()
        self.scroll_visible(animate=False)

    def on_descendant_blur(self) -> None:
        """Point at it no more."""
        self.refresh()

    @on(Input.Changed)
    def _typed(self, event: Input.Changed) -> None:
        self._tell(event, event.value)

    @on(Choice.Changed)
    def _chosen(self, event: Choice.Changed) -> None:
        self._tell(event, event.text)

    def _tell(self, event: Message, text: str) -> None:
        event.stop()
        self.refresh()
        self.post_message(self.Changed(self.doc.name, text))


class Page(Vertical):
    """Some fields of the configuration, one below the other."""

    DEFAULT_CSS = """
    Page { overflow-y: auto; overflow-x: hidden; }
    """

    def __init__(self, *, id: str) -> None:  # noqa: A002
        super().__init__(id=id)
        self.keys: tuple[str, ...] = ()
        """The fields that it shows."""
        self._turning = asyncio.Lock()
        """Held by who changes the page, which keys, clicks and a search can do at one moment."""

    async def turn(
        self, title: str, keys: tuple[str, ...], take_in: Callable[[], Mapping[str, str]], *, is_mixed: bool
    ) -> None:
        """Show other fields; `take_in`: called before the present ones go, gives the texts of all fields that have one.

        is_mixed: the fields are of several sections, and called by their whole names.
        """
        labels = {key: key if is_mixed else describe()[key].key for key in keys}
        cells = max(map(len, labels.values()), default=0)
        async with self._turning:
            texts = take_in()
            self.border_title = Content(safe_line(title))
            self.keys = keys
            await self.remove_children()
            await self.mount_all(
                FieldRow(describe()[key], label=labels[key], label_cells=cells, text=texts.get(key, ""), effective="")
                for key in keys
            )
            self.scroll_home(animate=False)

    async def turned(self) -> None:
        """Wait until nobody is changing the page."""
        async with self._turning:
            pass

    @property
    def rows(self) -> list[FieldRow]:
        """The fields in their order."""
        return list(self.query_children(FieldRow))

    @property
    def texts(self) -> dict[str, str]:
        """What stands in each of them."""
        return {row.doc.name: row.text for row in self.rows}

    def tell(self, checked: Checked, *, is_explained: bool) -> None:
        """Tell every field what is known of it."""
        for row in self.rows:
            effective = checked.values.get(row.doc.name, value_text(row.doc.default))
            row.show(effective=effective, mistakes=checked.mistakes_of(row.doc.name), is_explained=is_explained)


def row_id(key: str) -> str:
    """Identifier of the row of a field."""
    return f"field-{key.replace('.', '-')}"


def _input(doc: FieldDoc, *, text: str, effective: str) -> Field:
    offered = SUGGESTIONS.get(doc.name)
    return Field(
        text,
        placeholder=safe_line(effective) or _EMPTY,
        suggester=SuggestFromList(offered) if offered else None,
        select_on_focus=False,
        compact=True,
        password=doc.name in SECRETS,
    )
