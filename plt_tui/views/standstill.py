"""Ranks that stand still: who keeps the others waiting, for how long, and when it ends by itself.

Pure, by what the ranks say of themselves; the hub's watchdog decides, by the same rule, and this counts down to it. Invariant:
nothing is said while any rank moves as usual, or while nobody is heard from whom it could be known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plt_tui.config.patience import SILENT_S, patience
from plt_tui.config.schema import ControlSection, ParallelSection
from plt_tui.control.state import RunState
from plt_tui.protocol.events import RankStatus

NOTICE_S = 5.0
"""No shorter standstill is worth a word."""
USUAL_STEPS = 2
"""Nor one of fewer steps than this, of which each part may take long."""
STARTING_S = 30.0
"""Nor a shorter one before the first step, which may compile the model."""
MAX_NAMED = 4
"""Ranks that are named one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standstill:
    """All ranks stand still, or one has fallen silent."""

    rank: int
    """The one that keeps the others."""
    is_silent: bool
    """It says nothing at all."""
    since_s: float
    waiting: tuple[int, ...]
    """Those that wait for it."""
    left_s: float
    """Until it ends by itself."""
    end: Literal["restart", "time-out"]
    """How: the hub starts all ranks again, or the collective that ranks wait in fails."""
    limit: str
    """The setting that says when."""


def standstill(state: RunState, now: float) -> Standstill | None:
    """What is to be said at Unix time `now`; None where all is as usual, or cannot be known."""
    ranks = [rank for _, rank in sorted(state.ranks.items()) if rank.doing != "ended"]
    if state.is_over or state.run is None or not ranks or now - heard_at(state) > SILENT_S:
        return None
    step_s = state.pace.seconds_per_step
    least_s = min(_idle_s(rank, now) for rank in ranks)
    quiet_s = max(now - rank.time for rank in ranks)
    usual_s = STARTING_S if step_s is None else max(NOTICE_S, USUAL_STEPS * step_s)
    if max(least_s, quiet_s) <= usual_s:
        return None
    control = _section(state.run.config, "control", ControlSection().model_dump())
    if control["hang_s"]:
        doings = [rank.doing for rank in ranks]
        limit_s, limit = patience(control["hang_s"], control["start_s"], step_s=step_s, doings=doings)
        return _standstill(ranks, now, limit_s - max(least_s, quiet_s), "restart", limit)
    timeout_s = _section(state.run.config, "parallel", ParallelSection().model_dump())["timeout_s"]
    waits_s = [_idle_s(rank, now) for rank in ranks if rank.waiting]
    if not waits_s:
        return None
    return _standstill(ranks, now, timeout_s - max(waits_s), "time-out", f"parallel.timeout_s is {timeout_s:g}")


def _standstill(
    ranks: Sequence[RankStatus], now: float, left_s: float, end: Literal["restart", "time-out"], limit: str
) -> Standstill:
    """The one to blame is silent; else it does not wait for others; else it is the furthest behind. As the watchdog has it."""
    silent = [rank for rank in ranks if now - rank.time > SILENT_S]
    busy = [rank for rank in ranks if not rank.waiting]
    if silent:
        found = min(silent, key=lambda rank: rank.time)
    elif busy:
        found = max(busy, key=lambda rank: rank.idle_s)
    else:
        found = min(ranks, key=lambda rank: rank.step)
    return Standstill(
        rank=found.rank,
        is_silent=bool(silent),
        since_s=now - found.time if silent else _idle_s(found, now),
        waiting=tuple(rank.rank for rank in ranks if rank.waiting and rank is not found),
        left_s=max(0.0, left_s),
        end=end,
        limit=limit,
    )


def standstill_words(found: Standstill) -> tuple[str, str]:
    """Who keeps whom, and what becomes of it when: two sentences for people."""
    what = "is silent" if found.is_silent else "stands still"
    if found.waiting:
        what = f"{'silent, ' if found.is_silent else ''}holds up {_named(found.waiting)}"
    since = f"rank {found.rank} {what} for {found.since_s:.0f} s"
    return since, f"{countdown_words(found)} ({found.limit})"


def countdown_words(found: Standstill) -> str:
    """What comes, and in how many seconds."""
    return f"{found.end} in {found.left_s:.0f} s"


def _named(ranks: Sequence[int]) -> str:
    if len(ranks) > MAX_NAMED:
        return f"{len(ranks)} ranks"
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _idle_s(rank: RankStatus, now: float) -> float:
    """Seconds that its main thread stands still, as far as is known."""
    return rank.idle_s + max(0.0, now - rank.time)


def heard_at(state: RunState) -> float:
    """When the hub last told of the machine or of any rank, Unix seconds; 0: never."""
    times = [rank.time for rank in state.ranks.values()]
    return max([*times, state.gauges.time if state.gauges is not None else 0.0], default=0.0)


def _section(config: Mapping[str, Any], name: str, defaults: Mapping[str, Any]) -> Mapping[str, Any]:
    """A section of a session's configuration; a record of an older version may lack it, or keys of it."""
    return {**defaults, **config.get(name, {})}
