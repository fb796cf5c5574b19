"""How `plt-tui attach --stdio` introduces a run to the view that started it over ssh: one line of JSON.

Behind the introduction of a live run the bytes of the hub's socket follow, both ways; of one that has ended, its record as
events. A hub that goes without an End leaves a line that may be cut off: CUT ends that, and a second introduction says what has
become of the run. It is `live` (only this view was let go), or its record follows. Invariant: no line of a hub begins with
START, none ends in CUT.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from plt_tui.protocol.text import safe_line

VERSION = 1
"""Grows when a view of an older version would misread what comes, or the far side what the view sends."""
START = b'{"kind":"remote",'
CUT = b"\0\n"
MAX_BYTES = 1 << 20
"""Longest introduction; most of it is the configuration, a few kilobytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """Which run this is."""

    name: str
    config: str
    """As TOML."""
    live: bool
    """A hub holds the run."""
    program: str
    """Version of the plt-tui that says this."""


def encode(introduction: Introduction) -> bytes:
    """The introduction as a line, with its newline."""
    value = {"kind": "remote", "version": VERSION, **asdict(introduction)}
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> Introduction:
    """The introduction in a line. Raises: ValueError telling what is wrong with it, another version among that."""
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("its introduction nests too deeply") from None
    if not isinstance(value, dict) or value.get("kind") != "remote":
        raise ValueError("its introduction is none")
    if value.get("version") != VERSION:
        theirs = safe_line(f"version {value.get('version')!r} of attach --stdio (plt-tui {value.get('program')})", 80)
        raise ValueError(f"it speaks {theirs}, and this plt-tui version {VERSION}; install the same one on both machines")
    match value:
        case {"name": str(name), "config": str(config), "live": bool(live), "program": str(program)}:
            return Introduction(name=name, config=config, live=live, program=program)
        case _:
            raise ValueError("its introduction lacks a name, a configuration, a version, or whether the run is live")
