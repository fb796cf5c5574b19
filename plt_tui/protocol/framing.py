"""Events as lines of JSON: one object with its `kind`, the same on the link, in the record and on the socket.

Knows no event by its meaning. Non-finite floats are written as the strings "nan", "inf" and "-inf", because JSON has no word
for them, and half a surrogate pair (in a path that is no UTF-8) as its escape. Invariant: `decode(encode(event)) == event`, and
every float keeps its bits.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from plt_tui.protocol.events import Event

_EventT = TypeVar("_EventT", bound=Event)
_KINDS: Mapping[str, type[Event]] = {cls.kind: cls for cls in Event.__subclasses__()}
_FLOATS = ("float", "float | None")
_FLOAT_FIELDS: Mapping[str, Mapping[str, bool]] = {
    kind: {f.name: f.type != "float" for f in dataclasses.fields(cls) if f.type in _FLOATS} for kind, cls in _KINDS.items()
}
"""Of each kind the fields that hold a float, and whether they may hold None instead."""


def to_json(event: Event) -> dict[str, Any]:
    """The event as built-in values, `kind` first."""
    values = {f.name: getattr(event, f.name) for f in dataclasses.fields(event)}
    for name in _FLOAT_FIELDS[event.kind]:
        if values[name] is not None and not math.isfinite(values[name]):
            values[name] = repr(values[name])
    return {"kind": event.kind, **values}


def from_json(value: object) -> Event:
    """The event in `value`; fields that this version does not know are dropped.

    Raises: ValueError when it is no object, its kind is unknown, a field is missing, or a float is none.
    """
    if not isinstance(value, dict):
        raise ValueError(f"an event is a JSON object, not {type(value).__name__}")
    cls = _KINDS.get(str(value.get("kind")))
    if cls is None:
        raise ValueError(f"unknown event kind {value.get('kind')!r}")
    known = {f.name: value[f.name] for f in dataclasses.fields(cls) if f.name in value}
    try:
        for name, is_optional in _FLOAT_FIELDS[cls.kind].items():
            if name in known and not (is_optional and known[name] is None):
                known[name] = float(known[name])
        return cls(**known)
    except (TypeError, OverflowError) as error:
        raise ValueError(f"event {cls.kind!r}: {error}") from None


def encode(event: Event) -> bytes:
    """The event as one line of JSON without the newline."""
    text = json.dumps(to_json(event), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode(errors="backslashreplace")


def decode(line: bytes | str) -> Event:
    """The event in one line of JSON. Raises: ValueError."""
    return from_json(json.loads(line))


def decode_lines(lines: Iterable[bytes]) -> Iterable[Event]:
    """The events of a file of lines; a torn last line (the writer was killed in it) ends the sequence.

    Raises: ValueError for a broken line that is not the last.
    """
    broken: ValueError | None = None
    for line in lines:
        if broken is not None:
            raise broken
        try:
            yield decode(line)
        except ValueError as error:
            broken = error
