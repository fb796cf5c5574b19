"""One line to type in, and screens around such lines, in which every key acts in the order in which it was typed.

Knows nothing of what is typed. Textual looks at bindings last, by a longer way than letters go: backspace, the arrows and Enter
would be overtaken by the letters behind them where many keys come at once, as over a slow connection, and a corrected value
would be sent as it was before. Invariant: what a field holds is what was typed, however fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from textual.events import Key
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Input


async def act(widget: Widget, event: Key) -> bool:
    """Let `widget` do at once what one of its own bindings says of this key; returns whether one did."""
    active = widget.screen.active_bindings.get(event.key)
    if active is None or active.node is not widget or not await widget.app.run_action(active.binding.action, widget):
        return False
    event.stop()
    event.prevent_default()
    return True


async def taken_in(widget: Widget | None) -> None:
    """Wait until `widget` has acted on the keys that were typed before; not to be awaited by itself."""
    done = asyncio.Event()
    if widget is not None and widget.call_later(done.set):
        await done.wait()


class Field(Input):
    """The line; `wishes` are keys that those around it have a use for, in their turn with what is typed."""

    def __init__(self, *args: Any, wishes: Mapping[str, Callable[[], object]] = {}, **options: Any) -> None:
        super().__init__(*args, **options)
        self._wishes = dict(wishes)

    async def _on_key(self, event: Key) -> None:
        """Called before the method of Input, not in its place."""
        is_open, wish = self.screen.is_active, self._wishes.get(event.key)
        if is_open and wish is None:
            await act(self, event)
            return
        event.stop()
        event.prevent_default()
        if is_open and wish is not None:  # else what was typed before has closed the dialog
            wish()


class TypingScreen(Screen[None]):
    """A screen whose keys are `keys.typing_bindings`: each acts before the next one is looked at."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What is typed into a field is that field's first."""
        return action != "perform_at_once" or not isinstance(self.focused, Field)

    async def action_perform_at_once(self, key_id: str) -> None:
        """A key that nothing which is typed behind it overtakes."""
        await self.action_perform(key_id)

    async def action_perform(self, key_id: str) -> None:
        """Do what the key called `key_id` is for."""
        raise NotImplementedError
