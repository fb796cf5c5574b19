"""Which steps of a run were computed under which session: what a replay has to do, and what a batch of long ago was made with.

Pure. A run goes on in sessions that can have another configuration, other ranks or another machine; faults and rewinds cut off
what was computed last. Invariant: the stretches of a line follow each other without a step left out or computed twice.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import TypeAlias

from plt_tui.config.edits import Edit
from plt_tui.config.schema import RunConfig
from plt_tui.control.state import RunState, apply
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.events import Checkpoint, CommandStatus, End, Event, Phase, Run, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Steps that follow each other and were computed in the same way."""

    first: int
    last: int
    """Its last step, itself part of it."""
    config: RunConfig
    run: Run
    """The first of the sessions that computed it: its ranks, device and environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a run: what it is on, or a branch that a rewind left."""

    stretches: tuple[Stretch, ...]
    """Oldest first; none where no step was computed."""
    edits: tuple[Edit, ...]
    last: int
    """Its last step."""
    weights: Mapping[int, str]
    """Hash of the weights after a step, for each step for which the record holds one."""


def stretches(events: Iterable[Event], branch: int = 0, *, last: int = 0) -> Line:
    """The line that a run is on after `events`, or its `branch`-th branch as it was just before it was left.

    events: the journal, oldest first, with or without the steps of the metrics. last: the run's newest step where `events` do
    not hold the steps (a branch needs none: a rewind says what it left).

    Raises: UsageError for a branch that there is not; StorageError for a record without its sessions' configurations.
    """
    walk, num_branches = _Walk(), 0
    for event in events:
        if isinstance(event, CommandStatus) and event.name == "rewind" and event.status == "applied":
            walk = replace(walk, step=event.before if isinstance(event.before, int) else walk.step)
            num_branches += walk.step > event.step
            if branch and num_branches == branch:
                return _line(walk)
        walk = _after(walk, event)
    if branch:
        raise UsageError(f"branch {branch}: this run has {num_branches or 'none'}; see plt-tui show")
    return _line(replace(walk, step=last) if last else walk)


def line_weights(events: Iterable[Event]) -> Mapping[int, str]:
    """Hash of the weights after a step of the line that the run is on, for each step for which `events` hold one."""
    return reduce(_after, events, _Walk()).weights


def config_of(run: Run) -> RunConfig:
    """The configuration of a session. Raises: StorageError when the record does not hold one that this version understands."""
    if not run.config:
        raise StorageError(
            f"{run.name}: written by an older version, which did not record its sessions' configurations; it cannot be replayed"
        )
    try:
        return RunConfig.model_validate_json(json.dumps(run.config))  # JSON's lists are its tuples
    except ValueError as error:
        key = str(error).split("\n")[1]  # pydantic's second line is the first key that is wrong
        written_by = run.environment.get("plt_tui", "another")
        raise StorageError(
            f"{run.name}: this version does not know its configuration ({key}); use the one that wrote it ({written_by})"
        ) from None


_Starts: TypeAlias = tuple[tuple[int, Run], ...]
"""First step of each piece and the session that computes it; a piece ends where the next one begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Walk:
    """How far the events were read."""

    step: int = 0
    starts: _Starts = ()
    weights: Mapping[int, str] = field(default_factory=dict)
    state: RunState = field(default_factory=RunState)
    """Only its edits are looked at."""


def _after(walk: _Walk, event: Event) -> _Walk:
    walk = replace(walk, state=apply(walk.state, event))
    match event:
        case Run(start_step=step):
            return _continued(walk, step, event)
        case CommandStatus(name="rewind", status="applied", step=step) if walk.starts:
            return _continued(walk, step, walk.starts[-1][1])
        case Checkpoint(step=step, weights_sha256=sha256):  # from a thread: the run may be further already
            return replace(walk, weights=_with(walk.weights, step, sha256))
        case End(step=step, weights_sha256=sha256):
            return replace(walk, step=step, weights=_with(walk.weights, step, sha256))
        case Step(step=step) | Phase(step=step):
            return replace(walk, step=step)
        case _:
            return walk


def _continued(walk: _Walk, step: int, session: Run) -> _Walk:
    """What came after `step` is cut off, and `session` computes from there on."""
    starts = tuple(start for start in walk.starts if start[0] <= step)
    weights = {at: sha256 for at, sha256 in walk.weights.items() if at <= step}
    return replace(walk, step=step, starts=(*starts, (step + 1, session)), weights=weights)


def _with(weights: Mapping[int, str], step: int, sha256: str) -> Mapping[int, str]:
    return {**weights, step: sha256} if sha256 else weights


def _line(walk: _Walk) -> Line:
    ends = [*(first - 1 for first, _ in walk.starts[1:]), walk.step]
    pieces = [
        Stretch(first=first, last=end, config=config_of(run), run=run)
        for (first, run), end in zip(walk.starts, (min(end, walk.step) for end in ends), strict=False)
        if first <= end
    ]
    return Line(stretches=tuple(_merged(pieces)), edits=walk.state.edits, last=walk.step, weights=walk.weights)


def _merged(pieces: Sequence[Stretch]) -> list[Stretch]:
    """Neighbours that were computed in the same way, as one."""
    merged: list[Stretch] = []
    for piece in pieces:
        if merged and _way(merged[-1]) == _way(piece):
            merged[-1] = replace(merged[-1], last=piece.last)
        else:
            merged.append(piece)
    return merged


def _way(stretch: Stretch) -> tuple[object, ...]:
    run = stretch.run
    return stretch.config, run.world_size, run.device, run.environment
