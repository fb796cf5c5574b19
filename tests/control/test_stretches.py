"""Promises of `control.stretches`: which session computed which step of a line, whatever faults and rewinds came between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from plt_tui.config.edits import Edit, edits_to
from plt_tui.config.load import resolve
from plt_tui.config.schema import RunConfig
from plt_tui.config.sources import options_layer
from plt_tui.control.stretches import Line, config_of, stretches
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.events import Checkpoint, CommandStatus, End, Event, Phase, Run, Step
from plt_tui.protocol.framing import decode, encode

OTHER = ("optim.lr=0.001", "optim.min_lr=0.0001")


def config(*sets: str) -> RunConfig:
    """A configuration from `--set` texts."""
    return resolve([options_layer((), sets)], weights=lambda _: {}).config


def session(start: int = 0, *sets: str, ranks: int = 2, device: str = "cpu", edits: Any = None, **environment: Any) -> Run:
    """A session that begins to train after `start` steps."""
    return Run(
        name="a",
        dir="runs/a",
        world_size=ranks,
        params=1,
        target_step=100,
        start_step=start,
        device=device,
        environment={"threads": 1, **environment},
        config=config(*sets).model_dump(mode="json"),
        edits=edits,
    )


def rewind(to: int, before: int | None = None, skip: int = 0) -> CommandStatus:
    """An applied rewind."""
    args = {"step": to, "skip": skip}
    return CommandStatus(id=f"r{to}", name="rewind", args=args, actor="ana", status="applied", step=to, before=before)


def lr(step: int, value: float = 0.5) -> CommandStatus:
    """An applied change of the learning rate."""
    args = {"name": "lr", "value": value, "mode": "set"}
    return CommandStatus(id=f"e{step}", name="set", args=args, actor="ana", status="applied", step=step)


def steps(first: int, last: int) -> list[Event]:
    """The steps of a record that holds them."""
    template = Step(step=0, loss=1.0, lr=0.1, grad_norm=1.0, tokens=1, tokens_per_s=1.0, step_ms=1.0)
    return [replace(template, step=step) for step in range(first, last + 1)]


def spans(line: Line) -> list[tuple[int, int, float, int]]:
    """First and last step, learning rate and ranks of each stretch."""
    return [(one.first, one.last, one.config.optim.lr, one.run.world_size) for one in line.stretches]


LINES: dict[str, tuple[list[Event], int, list[tuple[int, int, float, int]]]] = {
    "one session": ([session()], 20, [(1, 20, 3e-3, 2)]),
    "no step yet": ([session()], 0, []),
    "nothing": ([], 0, []),
    "a fault and a restart from a checkpoint": ([session(), session(10)], 20, [(1, 20, 3e-3, 2)]),
    "a fault before any checkpoint": ([session(), session(0)], 20, [(1, 20, 3e-3, 2)]),
    "resumed with another rate": ([session(), session(10, *OTHER)], 20, [(1, 10, 3e-3, 2), (11, 20, 1e-3, 2)]),
    "resumed, and back to an older rate": (
        [session(), session(10, *OTHER), session(15)],
        20,
        [(1, 10, 3e-3, 2), (11, 15, 1e-3, 2), (16, 20, 3e-3, 2)],
    ),
    "resumed by other ranks": ([session(), session(10, ranks=1)], 20, [(1, 10, 3e-3, 2), (11, 20, 3e-3, 1)]),
    "resumed on another device": ([session(), session(10, device="cuda:0")], 20, [(1, 10, 3e-3, 2), (11, 20, 3e-3, 2)]),
    "resumed with another torch": ([session(torch="1"), session(10, torch="2")], 20, [(1, 10, 3e-3, 2), (11, 20, 3e-3, 2)]),
    "resumed twice, no step between": ([session(), session(10, *OTHER), session(10)], 20, [(1, 20, 3e-3, 2)]),
    "rewound within a session": ([session(), rewind(5, 12)], 20, [(1, 20, 3e-3, 2)]),
    "rewound into an earlier session": (
        [session(), session(10, *OTHER), rewind(5, 12)],
        20,
        [(1, 5, 3e-3, 2), (6, 20, 1e-3, 2)],
    ),
    "rewound and nothing computed since": ([session(), session(10, *OTHER), rewind(5, 12)], 5, [(1, 5, 3e-3, 2)]),
    "a person chose an older checkpoint": (
        [session(), Phase(phase="starting", step=12), rewind(5), session(5, *OTHER)],
        20,
        [(1, 5, 3e-3, 2), (6, 20, 1e-3, 2)],
    ),
    "begun with another run's checkpoint": ([session(100)], 120, [(101, 120, 3e-3, 2)]),
}


@pytest.mark.parametrize(("events", "last", "expected"), LINES.values(), ids=LINES.keys())
def test_each_step_belongs_to_the_session_that_computed_it_last(
    events: list[Event], last: int, expected: list[tuple[int, int, float, int]]
) -> None:
    """Later sessions and rewinds cut off what was before; sessions that compute alike are one stretch."""
    line = stretches(events, last=last)
    assert spans(line) == expected
    assert line.last == last


def test_the_steps_of_the_metrics_say_where_the_line_ends() -> None:
    """A whole record needs no `last`, and gives the same line as the journal with one."""
    journal = [session(), session(10, *OTHER), rewind(5, 12)]
    whole = [journal[0], *steps(1, 11), journal[1], *steps(11, 12), journal[2], *steps(6, 8)]
    assert stretches(whole) == stretches(journal, last=8)
    assert spans(stretches(whole)) == [(1, 5, 3e-3, 2), (6, 8, 1e-3, 2)]


def test_a_branch_is_the_line_as_it_was_before_it_was_left() -> None:
    """With its steps, sessions and edits; rewinds that left nothing are not counted and drop no edit made before them."""
    events = [session(), lr(3), rewind(2, 2, skip=1), lr(7), rewind(5, 12), session(8, *OTHER), rewind(4, 9), lr(6)]
    first, second, now = (stretches(events, branch, last=30) for branch in (1, 2, 0))
    assert spans(first) == [(1, 12, 3e-3, 2)]
    assert [edit.id for edit in first.edits] == ["e3", "r2", "e7"]
    assert spans(second) == [(1, 8, 3e-3, 2), (9, 9, 1e-3, 2)]
    assert [edit.id for edit in second.edits] == ["e3", "r2"]
    assert spans(now) == [(1, 4, 3e-3, 2), (5, 30, 1e-3, 2)]
    assert [(edit.id, edit.name, edit.step) for edit in now.edits] == [("e3", "lr", 3), ("r2", "skip", 3), ("e6", "lr", 6)]


def test_an_unknown_branch_is_refused() -> None:
    """With the number of branches that there are."""
    with pytest.raises(UsageError, match="branch 2: this run has 1; see"):
        stretches([session(), rewind(5, 12)], 2)
    with pytest.raises(UsageError, match="branch 1: this run has none"):
        stretches([session()], 1)


def test_the_edits_are_those_that_the_last_session_went_on_with() -> None:
    """A hub that died may have lost one: a session says all that it has."""
    known = edits_to([Edit(id="x", step=4, name="lr", value=0.25)])
    assert [edit.id for edit in stretches([session(), lr(7), session(5, edits=known)], last=9).edits] == ["x"]


def test_hashes_of_the_weights_are_those_of_the_line() -> None:
    """Of checkpoints and of ends; what a rewind or a restart has left behind is forgotten."""
    events = [
        session(),
        Checkpoint(step=5, path="", weights_sha256="five"),
        Checkpoint(step=10, path="", weights_sha256="ten"),
        rewind(5, 12),
        Checkpoint(step=8, path="", weights_sha256="eight"),
        session(5),
        Checkpoint(step=9, path=""),
        End(phase="stopped", step=11, exit_code=0, weights_sha256="eleven"),
    ]
    assert stretches(events).weights == {5: "five", 11: "eleven"}
    assert stretches(events).last == 11
    assert stretches(events, 1).weights == {5: "five", 10: "ten"}


EVERY_KIND = (
    (),
    ("data.train=['a.txt', 'b.txt']", "data.weights=[3.0, 1.0]", "optim.betas=[0.8, 0.99]"),
    ("train.epochs=0.1", "optim.lr=0.1", "parallel.ranks=3", "parallel.threads=2", "run.seed=9223372036854775807"),
    ("sample.prompt=a\u2028\x1b[2J\U0001f600", "run.name=a", "guard.z=4.5", "train.init_from=x/y"),
)


@pytest.mark.parametrize("sets", EVERY_KIND)
def test_a_configuration_comes_back_from_the_record(sets: tuple[str, ...]) -> None:
    """Every value with its type, through the JSON of the journal."""
    written = session(0, *sets)
    read = decode(encode(written))
    assert isinstance(read, Run)
    assert config_of(read) == config(*sets)


def test_a_record_without_configurations_is_refused() -> None:
    """One of a version that did not record them, or that knew other keys."""
    with pytest.raises(StorageError, match="written by an older version"):
        stretches([replace(session(), config={})], last=3)
    with pytest.raises(StorageError, match=r"does not know its configuration \(run.colour\)"):
        stretches([replace(session(), config={"run": {"colour": "red"}})], last=3)
