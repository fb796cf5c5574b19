"""Which parts of the run screen are seen, as a pure function of the terminal's size and what the user chose.

Moves no widget: the screen shows what `plan` says. Invariant: at least the header and one pane are seen on every terminal
that is not "tiny", and on a tiny one nothing but the sentence that says so.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

Mode = Literal["wide", "compact", "tiny"]

MIN_WIDTH, MIN_HEIGHT = 60, 16
WIDE_WIDTH, WIDE_HEIGHT = 110, 30
BOTH_STORIES_WIDTH = 170
"""From here on samples and events stand side by side; below they share one place."""

PANES = ("chart", "trends", "machine", "logs", "samples", "events")
"""All panes in the order in which focus moves."""
STORY = ("samples", "events")
"""The panes behind key 4."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is seen. `reachable`: panes that focus can move to; a compact screen then brings them to light."""

    mode: Mode
    shown: frozenset[str]
    reachable: tuple[str, ...]


def plan(width: int, height: int, *, hidden: Set[str], front: str, story: str, maximised: str = "") -> Plan:
    """The plan for a terminal of `width` x `height` cells.

    hidden: panes that the user switched off; front: the pane last looked at beside the chart; story: the one of STORY last
    looked at; maximised: the pane that has the whole screen, or empty.
    """
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        return Plan("tiny", frozenset(), ())
    mode: Mode = "wide" if width >= WIDE_WIDTH and height >= WIDE_HEIGHT else "compact"
    reachable = tuple(pane for pane in PANES if pane not in hidden)
    if maximised:
        return Plan(mode, frozenset({maximised}), (maximised,))
    if mode == "wide":
        shared = width < BOTH_STORIES_WIDTH and all(pane in reachable for pane in STORY)
        out_of_sight = {pane for pane in STORY if pane != story} if shared else set()
        return Plan(mode, frozenset(reachable) - out_of_sight, reachable)
    return Plan(mode, frozenset({"chart", front} & {"chart", *reachable}), reachable)
