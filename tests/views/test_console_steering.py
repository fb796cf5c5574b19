"""The headless views of a steered run: steps go on after a rewind, none is lost or told twice, and what happened is said."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import pytest
from console_fakes import Script, block, end, run, step, told
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.protocol.events import CaughtUp, CommandStatus, Event, Phase, Plan, Recent, Spike, Step
from plt_tui.server.stream import Reader
from plt_tui.views.console import follow_json, follow_plain, follow_progress, session_events
from tests.control.said import NumberedFeed, rewind

SPIKE = Spike(step=4, what="loss", value=9.87654, z=7.23, act="rewind", reason="2 of 10 acts used")
BROKEN = Spike(step=4, what="grad_norm", value=float("inf"), z=float("nan"), act="stop")


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        pytest.param(
            [
                CaughtUp(),
                run(),
                block([step(1), step(2), step(3)]),
                block([step(1)]),
                block([step(2), step(3)], branch=1),
                rewind(1, 3),
                block([step(2, attempt=1)]),
            ],
            ["caught_up", "run", "step 1", "step 2", "step 3", "command 1", "step 2"],
            id="rewound: lower numbers go on, the branch is not told again",
        ),
        pytest.param(
            [
                CaughtUp(),
                run(),
                block([step(1), step(2)]),
                block([step(1), step(2), step(3)]),
                block([step(4)], branch=1),
                rewind(3, 4),
            ],
            ["caught_up", "run", "step 1", "step 2", "step 3", "step 4", "command 3"],
            id="a slow view: steps that it had not seen, also those that are on the branch now",
        ),
        pytest.param(
            [run(), block([step(1)]), block([step(2)], branch=1), rewind(1, 2), block([step(2, attempt=1)]), CaughtUp()],
            ["run", "step 1", "command 1", "step 2", "caught_up"],
            id="attached late: the line, and the rewind",
        ),
        pytest.param(
            [
                run(),
                block(step(number) for number in range(1, 5)),
                end(4, "stopped"),
                CaughtUp(),
                Phase(phase="starting"),
                run(4),
                block([step(5)]),
                block([step(1), step(2)]),
                block([step(3), step(4), step(5)], branch=1),
                rewind(2, 5),
                block([step(3, attempt=1)]),
            ],
            ["phase 0", "run", "step 5", "command 2", "step 3"],
            id="rewound before the session's first step: those steps are the session's now",
        ),
    ],
)
async def test_steps_after_a_rewind(events: list[Event], expected: list[str]) -> None:
    """Every step of the session once, also where one of the same number was told before."""
    assert await told(*events) == expected


@given(
    actions=st.lists(
        st.one_of(st.integers(1, 4), st.just("look"), st.tuples(st.just("rewind"), st.integers(0, 12))), max_size=30
    )
)
async def test_a_live_view_is_told_every_step_that_was_computed(actions: list[int | str | tuple[str, int]]) -> None:
    """Over rewinds of all kinds and however seldom it looks; between two rewinds the numbers grow."""
    feed = NumberedFeed()
    reader, said, computed = Reader(feed), list[Event]([CaughtUp()]), list[Step]()
    feed.publish(run())
    for place, action in enumerate(actions):
        at = feed.state.step
        match action:
            case int():
                for number in range(at + 1, at + 1 + action):
                    computed.append(step(number, attempt=place + 1))
                    feed.publish(computed[-1])
            case "look":
                said.extend(reader.read())
            case (_, int(back)):
                feed.publish(rewind(min(at, back), at, id_=str(place)))
    said.extend(reader.read())
    steps, last = list[Step](), 0
    async for event, _ in session_events(Script(*said)):
        match event:
            case Step():
                assert event.step > last
                last = event.step
                steps.append(event)
            case CommandStatus():
                last = 0
    assert sorted(steps, key=lambda one: (one.time, one.step)) == sorted(computed, key=lambda one: (one.time, one.step))


async def test_json_lines_of_a_steered_run() -> None:
    """The guard's findings have a line of their own; a command's keys stay as they are; nothing else is new."""
    out = io.StringIO()
    plan = Plan(step=2, target_step=9, tokens_per_step=8, steps_per_epoch=2.0)
    recent = Recent(steps=[1], bytes=3, seconds=0.1)
    said = [SPIKE, rewind(1, 4, skip=2, actor="guard"), plan, recent, Phase(phase="hibernated"), BROKEN]
    await follow_json(Script(CaughtUp(), run(), *said), out)
    assert out.getvalue().splitlines()[1:] == [
        '{"kind": "spike", "step": 4, "what": "loss", "value": 9.87654, "z": 7.23, "act": "rewind", '
        '"reason": "2 of 10 acts used"}',
        '{"kind": "command", "id": "r", "name": "rewind", "args": {"step": 1, "skip": 2}, "actor": "guard", '
        '"status": "applied", "step": 1}',
        '{"kind": "spike", "step": 4, "what": "grad_norm", "value": "inf", "z": "nan", "act": "stop", "reason": ""}',
    ]


async def test_json_steps_go_on_after_a_rewind() -> None:
    """A script sees the numbers fall at the rewind and then rise again."""
    out = io.StringIO()
    before, after = block([step(1), step(2), step(3)]), block([step(2, attempt=1), step(3, attempt=1)])
    await follow_json(Script(CaughtUp(), run(), before, block([step(2), step(3)], branch=1), rewind(1, 3), after), out)
    lines = [json.loads(line) for line in out.getvalue().splitlines()[1:]]
    assert [(line["kind"], line["step"]) for line in lines] == [
        ("step", 1),
        ("step", 2),
        ("step", 3),
        ("command", 1),
        ("step", 2),
        ("step", 3),
    ]


async def test_plain_lines_of_a_steered_run() -> None:
    """What the guard found and did, which steps became which branch, and the hibernation."""
    out = io.StringIO()
    await follow_plain(
        Script(
            CaughtUp(),
            run(),
            block([step(4)]),
            SPIKE,
            rewind(2, 4, skip=3, actor="guard"),
            replace(BROKEN, step=3),
            replace(rewind(2, 2, id_="s", skip=5), reason="no earlier state"),
            block([step(3, attempt=1)]),
            replace(rewind(1, 3, id_="t"), reason="from memory"),
            replace(rewind(9, id_="u"), status="refused", reason="the run is at step 1"),
            Phase(phase="hibernated", reason="by ana", step=1),
        ),
        out,
    )
    numbers = "loss 2.3456  lr 3.00e-3  grad 0.81  41.2k tok/s"
    assert out.getvalue().splitlines() == [
        "run      0/600  demo: 1.2M parameters, 2 x cpu, in runs/demo",
        f"step     4/600  {numbers}",
        "spike    4/600  loss 9.877  z 7.2  rewind: 2 of 10 acts used",
        "cmd      2/600  rewound to step 2; steps 3 to 4 are branch 1; 3 batches left out  (guard)",
        "spike    3/600  grad_norm inf  z nan  stop",
        "cmd      2/600  rewound to step 2; 5 batches left out; no earlier state  (me)",
        f"step     3/600  {numbers}  ETA 2:29",
        "cmd      1/600  rewound to step 1; steps 2 to 3 are branch 2; from memory  (me)",
        "cmd      9/600  rewind step=9  refused: the run is at step 1  (me)",
        "run      1/600  hibernated: by ana",
    ]


async def test_a_branch_has_its_number_also_in_a_resumed_run() -> None:
    """What earlier sessions left is counted, though nothing of them is told."""
    out = io.StringIO()
    past = [run(), block([step(1), step(2)]), rewind(1, 2, id_="old"), end(1, "stopped")]
    await follow_plain(
        Script(*past, CaughtUp(), Phase(phase="starting"), run(1), block([step(2, attempt=1)]), rewind(1, 2)), out
    )
    lines = out.getvalue().splitlines()
    assert (len(lines), lines[0]) == (4, "run    starting")
    assert lines[3] == "cmd      1/600  rewound to step 1; steps 2 to 2 are branch 2  (me)"


async def test_no_control_character_of_a_spike_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guard's words come from a rank like all others."""
    monkeypatch.setenv("TERM", "xterm-256color")
    hostile = "a\x1b]2;owned\x07b\x9b1m\u202e"
    script = Script(
        CaughtUp(),
        run(),
        replace(SPIKE, reason=hostile),
        replace(rewind(0, 4), reason=hostile, actor=hostile),
    )
    for follow in (follow_json, follow_plain, follow_progress):
        out = io.StringIO()
        await follow(script, out)
        assert "owned" in out.getvalue()
        assert not set(out.getvalue()) & {"\x07", "\x9b", "\u202e"}
