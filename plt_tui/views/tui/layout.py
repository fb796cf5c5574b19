"""Which parts of the run screen are seen and how large, as pure functions of the terminal's size and what the user chose.

Moves no widget: the screen shows what `plan` and `weights` say. Invariant: at least the header and one pane are seen on every
terminal that is not "tiny", and on a tiny one nothing but the sentence that says so.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

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


# --- sizes -----------------------------------------------------------------------------------------------------------------

Axis = Literal["x", "y"]
BorderName = Literal["side", "bottom", "story", "events", "machine", "lower"]
LEAST: dict[Axis, int] = {"x": 20, "y": 4}
"""Fewest columns and rows of a part beside a border that is moved."""
WHOLE = 1_000_000
"""What the parts of a row or column are together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Share of the room that what lies behind each border has, 0 to 1; None: as the style sheet has it."""

    side: float | None = None
    """Of the width: trends and machine, beside the chart."""
    bottom: float | None = None
    """Of the height: the row of logs, samples and events."""
    story: float | None = None
    """Of that row: samples and events, together."""
    events: float | None = None
    """Of samples and events: the events, where both are seen."""
    machine: float | None = None
    """Of the column beside the chart: the machine, below the trends."""
    lower: float | None = None
    """Of the height of a compact screen: what stands below the chart."""


@dataclass(frozen=True, slots=True)
class Border:
    """A border that can be moved along `axis`; `before` and `behind`: ids of what lies to its left or above, and behind it."""

    name: BorderName
    axis: Axis
    before: tuple[str, ...]
    behind: tuple[str, ...]


_BESIDE: dict[tuple[str, Axis], tuple[tuple[BorderName, int], ...]] = {
    ("chart", "x"): (("side", -1),),
    ("trends", "x"): (("side", 1),),
    ("machine", "x"): (("side", 1),),
    ("logs", "x"): (("story", -1),),
    ("samples", "x"): (("events", -1), ("story", 1)),
    ("events", "x"): (("events", 1), ("story", 1)),
    ("chart", "y"): (("bottom", -1), ("lower", -1)),
    ("trends", "y"): (("machine", -1), ("bottom", -1), ("lower", 1)),
    ("machine", "y"): (("machine", 1), ("bottom", -1), ("lower", 1)),
    ("logs", "y"): (("bottom", 1), ("lower", 1)),
    ("samples", "y"): (("bottom", 1), ("lower", 1)),
    ("events", "y"): (("bottom", 1), ("lower", 1)),
}
"""For a pane and an axis the borders that make it larger or smaller, the nearest first, and by which sign of their share."""


def borders(plan: Plan) -> tuple[Border, ...]:
    """The borders between the parts that are seen."""
    side, stories = plan.shown & {"trends", "machine"}, plan.shown & set(STORY)
    bottom = plan.shown & {"logs", *STORY}
    has_chart = "chart" in plan.shown
    found: list[tuple[bool, Border]] = []
    if plan.mode == "compact":
        found = [
            (has_chart and bool(side), Border("lower", "y", ("chart",), ("side",))),
            (has_chart and bool(bottom), Border("lower", "y", ("top",), ("bottom",))),
        ]
    elif plan.mode == "wide":
        found = [
            (has_chart and bool(side), Border("side", "x", ("chart",), ("side",))),
            (bool(has_chart or side) and bool(bottom), Border("bottom", "y", ("top",), ("bottom",))),
            ("logs" in bottom and bool(stories), Border("story", "x", ("logs",), tuple(sorted(stories, reverse=True)))),
            (len(stories) == 2, Border("events", "x", ("samples",), ("events",))),
            (len(side) == 2, Border("machine", "y", ("trends",), ("machine",))),
        ]
    return tuple(border for is_there, border in found if is_there)


def border_beside(pane: str, axis: Axis, there: Sequence[Border]) -> tuple[Border, int] | None:
    """The border of `there` that `pane` grows by along `axis`, and whether its share grows too (1) or becomes smaller (-1)."""
    by_name = {border.name: border for border in there}
    return next(((by_name[name], sign) for name, sign in _BESIDE.get((pane, axis), ()) if name in by_name), None)


def share_at(start: int, end: int, at: int, before: int, behind: int) -> float | None:
    """The share behind a border whose first cell is `at`, of the cells `start` to `end`; None where it has no room to move.

    `before` and `behind`: fewest cells of what lies there.
    """
    if end - start < before + behind:
        return None
    return (end - min(max(at, start + before), end - behind)) / (end - start)


def weights(sizes: Sizes, plan: Plan) -> dict[tuple[str, Axis], int]:
    """For ids and their width ("x") or height ("y"): their parts of a row or column of WHOLE; the others are as styled.

    Whole numbers, and what lies behind a border rather smaller: then a border that was put at a cell is drawn at that cell.
    """
    found: dict[tuple[str, Axis], int] = {}
    names = set()
    for border in borders(plan):
        share = getattr(sizes, border.name)
        names.add(border.name)
        if share is not None and border.name not in ("story", "events"):
            found |= {(part, border.axis): WHOLE - int(share * WHOLE) for part in border.before}
            found |= {(part, border.axis): int(share * WHOLE) for part in border.behind}
    moved = {"story": sizes.story, "events": sizes.events}
    return found | _row(sizes, plan) if any(moved[name] is not None for name in names & moved.keys()) else found


def _row(sizes: Sizes, plan: Plan) -> dict[tuple[str, Axis], int]:
    """The parts of logs, samples and events, which stand in one row; equal ones where nobody has chosen."""
    has_both = set(STORY) <= plan.shown
    story = int((sizes.story or (2 / 3 if has_both else 1 / 2)) * WHOLE) if "logs" in plan.shown else WHOLE
    events = int((sizes.events or 1 / 2) * story)
    each = {"samples": story - events, "events": events} if has_both else dict.fromkeys(STORY, story)
    return {(pane, "x"): part for pane, part in {"logs": WHOLE - story, **each}.items() if pane in plan.shown}


# --- what is remembered ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a person has made of the run screen, kept from one session to the next."""

    hidden: frozenset[str] = frozenset()
    """Panes that they switched off."""
    sizes: Sizes = field(default_factory=Sizes)
    metrics: bool = False
    """A page of small charts in the place of the one."""
    x_axis: str = "step"
    """What the charts have on their x axis."""
    smoothing: float = 0.0
    """Weight of the past in the charts' smoothed lines."""


def to_json(layout: Layout) -> dict[str, Any]:
    """`layout` as JSON values."""
    return {**asdict(layout), "hidden": sorted(layout.hidden)}


def from_json(value: object) -> Layout:
    """What can be used of `value`, which somebody else may have written; the defaults for everything else."""
    told = value if isinstance(value, dict) else {}
    hidden, sizes, smoothing = told.get("hidden"), told.get("sizes"), told.get("smoothing")
    return Layout(
        hidden=frozenset(pane for pane in PANES[1:] if isinstance(hidden, list) and pane in hidden),
        sizes=Sizes(**{key.name: _share(sizes.get(key.name)) for key in fields(Sizes)} if isinstance(sizes, dict) else {}),
        metrics=told.get("metrics") is True,
        x_axis=str(told.get("x_axis", "step")),
        smoothing=smoothing if isinstance(smoothing, float) and 0.0 <= smoothing < 1.0 else 0.0,
    )


def _share(value: object) -> float | None:
    return value if isinstance(value, float) and 0.0 < value < 1.0 else None
