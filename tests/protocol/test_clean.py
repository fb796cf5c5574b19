"""Promises of `protocol.clean`: whatever text another process sends, no terminal acts on it, and nothing else changes."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.protocol.clean import cleaned
from plt_tui.protocol.events import CheckpointFailed, CommandStatus, Event, Failed, Gauges, Run, Sample, Step

BAD, GOOD = "a\x1b[2J\x9b\u202e", "a\\x1b[2J\\x9b\\u202e"
RUN = {"world_size": 1, "params": 1, "target_step": 1}


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        (Sample(step=1, prompt=BAD, text=f"x\n{BAD}"), Sample(step=1, prompt=GOOD, text=f"x\n{GOOD}")),
        (
            Run(name=BAD, dir=BAD, environment={BAD: [BAD, 1]}, **RUN),
            Run(name=GOOD, dir=GOOD, environment={GOOD: [GOOD, 1]}, **RUN),
        ),
        (CheckpointFailed(step=1, reason=BAD), CheckpointFailed(step=1, reason=GOOD)),
        (
            CommandStatus(id="1", name="note", args={"text": BAD, "now": True}, actor=BAD, status="applied", reason=BAD),
            CommandStatus(id="1", name="note", args={"text": GOOD, "now": True}, actor=GOOD, status="applied", reason=GOOD),
        ),
        (
            Failed(rank=0, message=BAD, exit_code=4, traceback=BAD, log_tail=[BAD]),
            Failed(rank=0, message=GOOD, exit_code=4, traceback=GOOD, log_tail=[GOOD]),
        ),
    ],
)
def test_every_text_of_an_event_is_made_safe(dirty: Event, clean: Event) -> None:
    """At any depth, and once is enough."""
    assert cleaned(dirty) == clean
    assert cleaned(clean) is clean


@given(number=st.floats(), text=st.text(st.characters(categories=["L", "N", "P", "Zs"])))
def test_what_is_safe_is_the_same_object(number: float, text: str) -> None:
    """Numbers keep their bits, and the usual event costs no copy."""
    values = {"lr": number, "grad_norm": number, "tokens_per_s": number, "step_ms": number}
    for event in (
        Step(step=1, loss=math.nan, tokens=1, **values),
        Gauges(cores=[number], memory_used_bytes=1, memory_total_bytes=1, gpus=[{"name": text, "power_w": None}]),
        Sample(step=1, prompt=text, text=text),
    ):
        assert cleaned(event) is event
