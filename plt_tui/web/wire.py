"""The two languages that a tab stands between: JSON texts from the page, packets from and to the view's process.

The page is textual-serve's terminal (1.1, static/js/textual.js): arrays whose first word says what they are. The process is a
Textual app under Textual's web driver (8.2, drivers/web_driver.py): a byte for the kind, four for the length (big end first),
the payload. Opens nothing. Invariant: whatever a page sends, what goes to the process are whole packets that its driver reads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from plt_tui.errors import UsageError

DATA, META = b"D", b"M"
"""Kinds of packets: what the terminal shows or a person types, and JSON between driver and server."""
HEAD_BYTES = 5
MAX_PACKET_BYTES = 16 << 20
"""Far more than a screen takes; a longer packet is none."""
READY = b"__GANGLION__\n"
"""The driver's first line; packets follow."""
MAX_LINES_BEFORE_READY = 10
NO_MESSAGE = "the page sent what is no message: reload it"

MAX_COLUMNS, MAX_ROWS = 1000, 400
"""A larger screen only costs memory and time; the view is as large as this then."""
DEFAULT_COLUMNS, DEFAULT_ROWS = 120, 40
_MAX_PING_CHARS = 64


@dataclass(frozen=True, slots=True)
class Size:
    """Of a terminal, in cells."""

    columns: int
    rows: int


@dataclass(frozen=True, slots=True)
class Heard:
    """What follows from a message of the page: bytes for the process, a text for the page; either may be empty."""

    for_process: bytes = b""
    for_page: str = ""


def packet(kind: bytes, payload: bytes) -> bytes:
    """A packet as its driver reads it."""
    return kind + len(payload).to_bytes(4, "big") + payload


def meta(kind: str, **values: int) -> bytes:
    """A packet that tells the driver of something."""
    return packet(META, json.dumps({"type": kind, **values}).encode())


QUIT = meta("quit")
"""Asks a view to leave in good order."""


def length_of(head: bytes) -> tuple[bytes, int]:
    """Kind and payload's length of the packet that begins with `head` (HEAD_BYTES of it). Raises: ValueError."""
    length = int.from_bytes(head[1:HEAD_BYTES], "big")
    if length > MAX_PACKET_BYTES:
        raise ValueError(f"a packet of {length:,} bytes")
    return head[:1], length


def is_exit(payload: bytes) -> bool:
    """True for the META packet with which a driver takes its leave. What else it tells of, this server has no use for."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.get("type") == "exit"


def size_of(query: Mapping[str, str]) -> Size:
    """The size that a page asks for in its URL, as far as it may have it."""
    return Size(
        _bounded(_number(query.get("width", "")), DEFAULT_COLUMNS, MAX_COLUMNS),
        _bounded(_number(query.get("height", "")), DEFAULT_ROWS, MAX_ROWS),
    )


def heard(text: str) -> Heard:
    """What a message of the page asks for. Raises: UsageError when no page of ours sends such a thing."""
    try:
        words = json.loads(text)
    except (ValueError, RecursionError):
        words = None
    match words:
        case ["stdin", str(typed)]:
            return Heard(for_process=packet(DATA, _utf8(typed)))
        case ["resize", {"width": int(columns), "height": int(rows)}] if bool not in (type(columns), type(rows)):
            size = _bounded(columns, 1, MAX_COLUMNS), _bounded(rows, 1, MAX_ROWS)
            return Heard(for_process=meta("resize", width=size[0], height=size[1]))
        case ["ping", str(mark)] if len(mark) <= _MAX_PING_CHARS:
            return Heard(for_page=json.dumps(["pong", mark]))
        case ["focus" | "blur" as kind]:
            return Heard(for_process=meta(kind))
    raise UsageError(NO_MESSAGE)


def _utf8(typed: str) -> bytes:
    """Half a surrogate pair, which JSON can hold and UTF-8 cannot, would end the view."""
    return typed.encode("utf-8", errors="replace")


def _number(text: str) -> Any:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else None


def _bounded(value: int | None, otherwise: int, most: int) -> int:
    """`value` within 1..most; `otherwise` where there is none."""
    return otherwise if value is None or value < 1 else min(value, most)
