"""What another process said, with every text in it through the escape filter: for the doors of the hub and of the views.

Knows no event or verb by its meaning. Invariant: numbers and structure stay as they are, and cleaning twice changes nothing.
"""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from typing import Any, TypeVar

from plt_tui.protocol.events import Eval, Event, Step, Steps
from plt_tui.protocol.text import safe_text

_EventT = TypeVar("_EventT", bound=Event)


def cleaned(event: _EventT) -> _EventT:
    """`event` with its texts made safe; the very same object where nothing had to change."""
    if isinstance(event, Step | Steps | Eval):  # numbers only, and the most frequent ones
        return event
    values = {field.name: getattr(event, field.name) for field in dataclasses.fields(event)}
    changed = {name: clean for name, value in values.items() if (clean := _clean(value)) != value}
    return replace(event, **changed) if changed else event


def _clean(value: Any) -> Any:
    match value:
        case str():
            return safe_text(value)
        case list():
            return [_clean(item) for item in value]
        case dict():
            return {_clean(key): _clean(item) for key, item in value.items()}
        case _:
            return value
