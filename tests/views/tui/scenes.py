"""Scripted runs with a past that a plain one lacks: a spike, a branch, states in memory, hibernation."""

from __future__ import annotations

import dataclasses
import math
import random
from array import array

import fakes

from plt_tui.protocol.events import (
    STEP_COLUMNS,
    Checkpoint,
    CommandStatus,
    Eval,
    Event,
    Phase,
    RankStatus,
    Recent,
    Spike,
    Step,
    Steps,
    Viewers,
)

SPIKED_AT, BACK_AT = 523, 400
SKIP = 30
FAR_OUT = "loss 8.21 is 9.3 standard deviations above the mean 1.58 of 128 steps"
"""As the guard says it."""


def sky(first: int, last: int) -> list[Step]:
    """Steps whose loss leaves for the sky after three quarters of them."""
    rng = random.Random(3)
    knee = first + (last - first) * 3 // 4
    calm = [fakes.step_event(step, rng) for step in range(first, last + 1)]
    return [dataclasses.replace(step, loss=step.loss + math.exp(max(0, step.step - knee) / 8) - 1) for step in calm]


def as_block(steps: list[Step], branch: int) -> Steps:
    """Steps as the hub sends those of a branch."""
    columns = {name: array("d", [getattr(step, name) for step in steps]) for name in STEP_COLUMNS}
    return dataclasses.replace(Steps.from_columns(columns, 0, len(steps)), branch=branch)


def rewind(identity: str, step: int, before: int, *, skip: int = 0, actor: str = fakes.ACTOR) -> list[Event]:
    """A rewind from `before` to `step`."""
    args = {"step": step, **({"skip": skip} if skip else {})}
    reason = f"to the state of step {step} (memory)"
    words = fakes.command(identity, "rewind", args, before, reason=reason, actor=actor)
    told = [word for word in words if isinstance(word, CommandStatus)]
    return [
        dataclasses.replace(word, step=step, before=before, after=step) if word.status == "applied" else word for word in told
    ]


def rewound(last: int = 600) -> list[Event]:
    """A run whose guard has gone back from a spike, and which is past it now, 0.15 s a step."""
    branch = sky(BACK_AT + 1, SPIKED_AT)
    spike = Spike(
        time=fakes.at(SPIKED_AT), step=SPIKED_AT, what="loss", value=branch[-1].loss, z=9.3, act="rewind", reason=FAR_OUT
    )
    *asked, applied = rewind("g1", BACK_AT, SPIKED_AT, skip=SKIP, actor="guard")
    again = fakes.steps(BACK_AT + 1, last, seed=5)
    late = (SPIKED_AT - BACK_AT) * fakes.STEP_S
    return [
        *fakes.training(BACK_AT),
        *branch,
        spike,
        *asked,
        as_block(branch, 1),
        applied,
        *(dataclasses.replace(event, time=event.time + late) for event in again),  # type: ignore[type-var]
        *fakes.machine(last),
        Checkpoint(time=fakes.at(last) - 30, step=last - 20, path=f"checkpoints/step-{last - 20:08d}", name="best"),
        recent(last - 50, last - 25, last),
    ]


def recent(*steps: int) -> Recent:
    """States in memory."""
    return Recent(time=fakes.at(600), steps=list(steps), bytes=31 << 20, seconds=0.004)


def hibernated(last: int = 600) -> list[Event]:
    """A run whose ranks are gone."""
    gone = [RankStatus(time=fakes.at(last), rank=rank, pid=4000 + rank, doing="ended", step=last) for rank in (0, 1)]
    return [
        *fakes.training(last),
        *fakes.command("h1", "hibernate", {}, last),
        *gone,
        Phase(time=fakes.at(last), phase="hibernated", step=last),
    ]


def watched() -> list[Event]:
    """A run that others look at too, some of them in a browser."""
    people = [("tui ana@box", "socket", False), ("tui bob@box", "socket", True), ("http", "http", True)]
    viewers = [dict(zip(("actor", "door", "readonly"), one, strict=True), since=fakes.START) for one in people]
    return [*fakes.training(), Viewers(viewers=viewers)]


def left_with_evaluations() -> list[Event]:
    """A run of 600 steps that somebody took back to step 250 once, after two evaluations that the branch keeps."""
    left = [event for event in fakes.steps(251, 450, seed=7) if isinstance(event, Step | Eval)]
    return [
        *fakes.opening(),
        *fakes.steps(1, 250),
        *(dataclasses.replace(event, loss=event.loss + 0.5) for event in left),
        as_block([event for event in left if isinstance(event, Step)], 1),
        *rewind("r", 250, 450),
        *fakes.steps(251, 600, seed=2),
    ]
