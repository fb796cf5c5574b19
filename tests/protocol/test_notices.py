"""Promises of `protocol.notices`: what calls a person, in what words, and never in a flood."""

from __future__ import annotations

import itertools
import math
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.alerts import ALERT_KINDS
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CheckpointFailed,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Phase,
    Spike,
    Step,
)
from plt_tui.protocol.notices import GAP_S, MAX_CHARS, Kind, Notice, Throttle, bounded, notice_of

FAR_OUT = "loss 8.21 is 9.3 standard deviations above the mean 2.1 of 128 steps"
FULL = "the next checkpoint needs 1 GiB, and 2 MiB are free"


def test_the_kinds_are_those_of_the_configuration() -> None:
    """Whatever can be switched in `alerts.on` can come, and nothing else."""
    assert get_args(Kind) == ALERT_KINDS


@pytest.mark.parametrize(
    ("event", "kind", "level", "text"),
    [
        (
            End(phase="finished", step=1000, exit_code=0, reason="target reached"),
            "finish",
            "info",
            "finished at step 1000: target reached",
        ),
        (
            End(phase="stopped", step=7, exit_code=143, reason="stopped by signal SIGTERM"),
            "finish",
            "info",
            "stopped at step 7: stopped by signal SIGTERM",
        ),
        (End(phase="finished", step=7, exit_code=0), "finish", "info", "finished at step 7"),
        (
            End(phase="failed", step=5, exit_code=4, reason="rank 0 failed: boom"),
            "crash",
            "error",
            "failed at step 5 (exit code 4): rank 0 failed: boom",
        ),
        (
            Phase(phase="restarting", step=5, reason="rank 1: killed by SIGKILL"),
            "crash",
            "warning",
            "ranks start again after step 5: rank 1: killed by SIGKILL",
        ),
        (
            Phase(phase="failed", step=5, reason="its hub is gone without a word"),
            "crash",
            "error",
            "failed at step 5: its hub is gone without a word",
        ),
        (
            Spike(step=9, what="loss", value=8.21, z=9.3, act="rewind", reason=FAR_OUT),
            "spike",
            "warning",
            f"step 9: {FAR_OUT}; rewound",
        ),
        (Spike(step=9, what="grad_norm", value=812.0, z=9.3, act="warn"), "spike", "warning", "step 9: grad_norm is 812"),
        (
            Spike(step=9, what="loss", value=math.nan, z=math.nan, act="stop", reason="loss is nan"),
            "nan",
            "error",
            "step 9: loss is nan; run stopped",
        ),
        (CheckpointFailed(step=9, reason="disk full"), "disk", "error", "step 9 not saved: disk full"),
        (Alert(topic="disk", text=FULL), "disk", "warning", FULL),
        (Alert(topic="record", text="in memory only", level="error"), "disk", "error", "in memory only"),
        (Alert(topic="plateau", text="no better"), "plateau", "warning", "no better"),
        (Alert(topic="gpu", text="slowed down by heat: gpu 0"), "gpu", "warning", "slowed down by heat: gpu 0"),
    ],
)
def test_what_calls_a_person(event: Event, kind: str, level: str, text: str) -> None:
    """Each kind, with how bad it is and what happened where."""
    notice = notice_of(event)
    assert notice is not None
    assert (notice.kind, notice.level, notice.text) == (kind, level, text)
    assert notice.is_last is (isinstance(event, End) or "hub is gone" in text)


@pytest.mark.parametrize(
    "event",
    [
        Phase(phase="running"),
        Phase(phase="stopped"),
        Failed(rank=1, message="boom", exit_code=4),  # the phase or the end that follows says what became of it
        Alert(topic="disk", text=""),
        Alert(topic="gpu", text="slowed down by power cap: gpu 0", level="info"),
        Alert(topic="metrics", text="port taken"),
        Checkpoint(step=5, path="c"),
        CommandStatus(id="a", name="set", args={}, actor="ana", status="refused"),
        Eval(step=5, loss=math.nan, perplexity=1.0, bits_per_byte=1.0, accuracy=0.5),
        Step(step=5, loss=math.nan, lr=0.1, grad_norm=1.0, tokens=1, tokens_per_s=1.0, step_ms=1.0),
    ],
)
def test_what_can_wait(event: Event) -> None:
    """Good news of a warning, and what people asked for themselves, call nobody; a step's NaN is the guard's to tell."""
    assert notice_of(event) is None


@given(st.text(max_size=2000))
def test_a_notice_is_one_harmless_line(text: str) -> None:
    """Whatever an exception says: no control character, no newline, no more than MAX_CHARS."""
    line = bounded(text)
    assert len(line) <= MAX_CHARS
    assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in line)
    assert len(line.splitlines()) <= 1


def spike(step: int) -> Notice:
    """A notice of a spike."""
    notice = notice_of(Spike(step=step, what="loss", value=8.0, z=9.0, act="warn"))
    assert notice is not None
    return notice


@given(gaps=st.lists(st.floats(0.0, 15.0), max_size=60))
def test_a_storm_of_one_kind_is_one_call_in_ten_seconds(gaps: list[float]) -> None:
    """Whenever they come: two calls are never closer, and every notice is either told or counted in a later one."""
    throttle, now, told_at, num_held = Throttle(), 0.0, [], 0
    for step, gap in enumerate(gaps):
        now += gap
        told = throttle.admit(spike(step), now)
        if told is None:
            num_held += 1
            continue
        told_at.append(now)
        assert told.text == f"step {step}: loss is 8" + (f" (and {num_held} more before)" if num_held else "")
        num_held = 0
    assert all(later - earlier >= GAP_S for earlier, later in itertools.pairwise(told_at))
    assert bool(told_at) is bool(gaps)


def test_kinds_do_not_hold_each_other_back_and_the_end_always_comes() -> None:
    """A spike just now is no reason to keep a full disk silent, and a failure none to keep the end silent."""
    throttle = Throttle()
    restart, end = Phase(phase="restarting", step=5, reason="boom"), End(phase="failed", step=5, exit_code=4, reason="boom")
    events = [restart, restart, CheckpointFailed(step=5, reason="full"), end, end]
    told = [throttle.admit(notice, 0.0) is not None for event in events if (notice := notice_of(event))]
    assert told == [True, False, True, True, True]
