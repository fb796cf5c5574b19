"""A run in which everything happened once, as its hub would have recorded it: what the lab log's tests read."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from plt_tui.control.feed import Cursor, Feed
from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CheckpointFailed,
    Done,
    End,
    Eval,
    Event,
    Failed,
    Phase,
    Plan,
    Run,
    Sample,
    Spike,
    Step,
    Steps,
)
from plt_tui.views.model import RunModel

START = 1_770_000_000.0
"""2026-02-02 02:40:00 UTC."""
ANA, BOB, GUARD = "tui ana@box", "ctl bob@box", "guard"
CONFIG = {
    "run": {"name": "big"},
    "data": {"train": "builtin:python-docs", "context": 128},
    "model": {"layers": 4, "width": 128, "heads": 4},
    "optim": {"lr": 3e-3, "betas": [0.9, 0.95]},
    "train": {"grad_clip": 1.0, "batch_size": 8},
}
ENVIRONMENT = {"python": "3.11.7", "torch": "2.12.0", "threads": 1}


def at(step: float) -> float:
    """Unix time of the moment after `step` steps."""
    return START + 10 + step


def steps(first: int, last: int, loss: float = 4.0) -> list[Event]:
    """Steps whose losses fall from about `loss`."""
    return [
        Step(
            time=at(step),
            step=step,
            loss=loss - 0.01 * step,
            lr=3e-3,
            grad_norm=1.0 + 0.01 * step,
            tokens=step * 2048,
            tokens_per_s=2000.0,
            step_ms=1000.0,
        )
        for step in range(first, last + 1)
    ]


def session(start_step: int, **changes: Any) -> Run:
    """A session that begins after `start_step` steps."""
    run = Run(
        time=at(start_step),
        name="big",
        dir="runs/big",
        world_size=2,
        params=820_224,
        target_step=60,
        start_step=start_step,
        train_tokens=1_000_000,
        eval_tokens=50_000,
        vocab_size=257,
        environment=ENVIRONMENT,
        config=CONFIG,
    )
    return replace(run, **changes)


def command(
    name: str,
    step: int,
    actor: str = ANA,
    *,
    id: str = "",  # noqa: A002  (the event's word)
    wait_s: float = 0.0,
    **said: Any,
) -> list[Event]:
    """A command from its request, `wait_s` before, to "applied" (or what `said` has for its status) at `step`."""
    args = said.pop("args", {})
    request = Command(id=id or f"{name}-{step}-{actor}", name=name, args=args, actor=actor)
    moment = said.pop("time", at(step))
    final = replace(status_of(request, said.pop("status", "applied"), step), time=moment, **said)
    return [replace(status_of(request, "requested"), time=moment - wait_s), final]


def evaluation(step: int, loss: float) -> Eval:
    """An evaluation after `step` steps."""
    return Eval(time=at(step), step=step, loss=loss, perplexity=math.exp(loss), bits_per_byte=loss / math.log(2), accuracy=0.5)


def story() -> list[Event]:
    """Two sessions of a run of 60 steps: edits, a spike, a rewind, a note, a killed rank, and the end."""
    killed = Failed(time=at(40.5), rank=1, message="ended by SIGKILL", exit_code=4, step=40, is_signal=True)
    torch_213 = {**ENVIRONMENT, "torch": "2.13.0"}
    lower_clip = {**CONFIG, "train": {"grad_clip": 0.5, "batch_size": 8}}
    return [
        Phase(time=START, phase="starting"),
        session(0),
        Phase(time=at(0), phase="running"),
        *steps(1, 10),
        evaluation(10, 3.8),
        Checkpoint(
            time=at(10), step=10, path="checkpoints/step-00000010", bytes=9_840_000, seconds=0.08, weights_sha256="a1b2"
        ),
        *command("set", 11, args={"name": "lr", "value": 0.5, "mode": "scale"}, id="e1", before=3e-3, after=1.5e-3, wait_s=2.0),
        *steps(11, 20),
        Spike(
            time=at(20), step=20, what="loss", value=8.2, z=9.3, act="lower", reason="loss 8.2 is 9.3 standard deviations up"
        ),
        *command(
            "set", 21, GUARD, args={"name": "lr", "value": 0.5, "mode": "scale"}, before=1.5e-3, after=7.5e-4, reason="loss 8.2"
        ),
        *steps(21, 30, loss=7.0),
        *command("rewind", 10, BOB, args={"step": 10, "skip": 5}, id="r1", before=30, after=10, time=at(30)),
        *steps(11, 40),
        killed,
        Phase(time=at(40.5), phase="restarting", reason="rank 1: ended by SIGKILL", step=40),
        session(10, resumed_from="step-00000010", environment=torch_213, config=lower_clip, time=at(45)),
        Phase(time=at(45), phase="running"),
        *steps(11, 50),
        *command("set", 51, BOB, args={"name": "grad_clip", "value": 0.3}, id="e2", before=0.5, after=0.3),
        *command("set", 51, args={"name": "betas", "value": [0.8, 0.95]}, id="e3", before=[0.9, 0.95], after=[0.8, 0.95]),
        *command("undo", 52, args={"edit": "e3"}, before=[0.8, 0.95], after=[0.9, 0.95], reason="betas 0.8 -> 0.9"),
        *command("set", 52, args={"name": "lr", "value": 99}, status="refused", reason="99 is outside 0 to 10"),
        *command("note", 52, args={"text": "looks <b>good</b> | so far\nreally"}),
        *command("pause", 52, BOB),
        Phase(time=at(52), phase="paused", reason="by bob"),
        *command("resume", 52, BOB),
        Phase(time=at(57), phase="running"),
        Plan(time=at(53), step=54, target_step=60, tokens_per_step=1024, steps_per_epoch=10.0),
        Alert(time=at(54), topic="record", text="No space left on device"),
        Alert(time=at(55), topic="record", text=""),
        CheckpointFailed(time=at(55), step=55, reason="No space left on device"),
        *steps(51, 60),
        evaluation(60, 3.2),
        Sample(time=at(60), step=60, prompt="The ", text="end | of *it*"),
        *command("stop", 60, args={"now": True}, status="requested"),
        Done(time=at(60), rank=0, step=60, finished=True),
        End(time=at(61), phase="finished", step=60, exit_code=0, weights_sha256="ffee", reason="target reached"),
    ]


def recorded(said: Iterable[Event]) -> tuple[list[Event], RunModel]:
    """The same as a view gets it from a hub or a record: without the steps, and folded with them."""
    feed = Feed()
    for event in said:
        feed.publish(event)
    events, _ = feed.read(Cursor())
    model = RunModel()
    for event in events:
        model.fold(event)
    return [event for event in events if not isinstance(event, Steps)], model
