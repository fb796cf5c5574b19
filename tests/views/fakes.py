"""A scripted run and a source that replays it: what the UI's tests and pictures look at. Deterministic, no clock."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import random
from collections.abc import AsyncIterator, Iterable

from plt_tui.config.schema import RunConfig
from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import (
    CaughtUp,
    Checkpoint,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Gauges,
    Logs,
    Phase,
    RankStatus,
    Run,
    Sample,
    Step,
)

START = 1_770_000_000.0
"""Unix time of the first event."""
STEP_S = 0.15
TARGET = 1000
TOKENS_PER_STEP = 2048
CONFIG = RunConfig()
ACTOR = "tui ana@box"
GPU = {
    "index": 0,
    "name": "NVIDIA H200",
    "utilisation": 93.0,
    "memory_used_bytes": 61 << 30,
    "memory_total_bytes": 141 << 30,
    "temperature_c": 64.0,
    "power_w": 612.0,
    "reason": "",
}
GPU_MIG = {
    "index": 1,
    "name": "NVIDIA H200 MIG 1g",
    "memory_used_bytes": 9 << 30,
    "memory_total_bytes": 16 << 30,
    "reason": "MIG",
}
SENTENCES = (
    "function returns the value of the argument, and an exception is raised when the name",
    "class definition is executed in a new namespace.\n\nThe object that is bound to the name",
    "statement is used to import a module from a package, with the same semantics as",
)


def at(step: int) -> float:
    """Unix time at which `step` ended."""
    return START + 5.0 + step * STEP_S


def step_event(step: int, rng: random.Random) -> Step:
    """A plausible step: falling noisy loss, warmup and cosine."""
    progress = step / TARGET
    lr = 3e-3 * step / 50 if step <= 50 else 3e-4 + 2.7e-3 * 0.5 * (1 + math.cos(math.pi * (step - 50) / (TARGET - 50)))
    return Step(
        time=at(step),
        step=step,
        loss=1.6 + 3.9 * math.exp(-6 * progress) + rng.gauss(0, 0.06),
        lr=lr,
        grad_norm=0.6 + 1.5 * math.exp(-4 * progress) + abs(rng.gauss(0, 0.12)),
        tokens=step * TOKENS_PER_STEP,
        tokens_per_s=13_600 + rng.gauss(0, 350),
        step_ms=1000 * STEP_S + rng.gauss(0, 2),
        data_ms=1.2,
    )


def opening(*, resumed: bool = False) -> list[Event]:
    """What comes before the first step."""
    run = Run(
        time=START + 5,
        name="quickstart",
        dir="runs/quickstart",
        world_size=2,
        params=820_224,
        target_step=TARGET,
        tokens_per_step=TOKENS_PER_STEP,
        flops_per_token=5.2e6,
        peak_flops=2.4e11,
        peak_source="matrix products measured at start",
        device="cpu",
    )
    logs = Logs(
        lines=[
            [START, "hub", "INFO", "run quickstart begins in runs/quickstart"],
            [START + 1, "hub", "INFO", "2 ranks on cpu, 1 thread each"],
            [START + 3, "rank 0", "INFO", "builtin:python-docs: 512,304 tokens for training, 26,963 held out"],
            [START + 4, "rank 1", "DEBUG", "joined the group"],
        ]
    )
    return [
        Phase(time=START, phase="starting"),
        Phase(time=START + 1, phase="preparing"),
        logs,
        run,
        Phase(time=at(0), phase="running"),
    ]


def steps(first: int, last: int, *, seed: int = 1) -> list[Event]:
    """Steps `first` to `last` with evaluations, samples, checkpoints, log lines in between."""
    rng = random.Random(seed)
    found: list[Event] = []
    for step in range(first, last + 1):
        found.append(step_event(step, rng))
        if step % 100 == 0:
            loss = 1.68 + 3.9 * math.exp(-6 * step / TARGET)
            found.append(
                Eval(
                    time=at(step),
                    step=step,
                    loss=loss,
                    perplexity=math.exp(loss),
                    bits_per_byte=loss / math.log(2),
                    accuracy=1 / loss,
                )
            )
            found.append(Logs(lines=[[at(step), "rank 0", "INFO", f"evaluated at step {step}: loss {loss:.4f}"]]))
        if step % 200 == 0:
            found.append(Sample(time=at(step), step=step, prompt="The ", text=SENTENCES[step // 200 % len(SENTENCES)]))
            path = f"checkpoints/step-{step:08d}"
            found.append(Checkpoint(time=at(step), step=step, path=path, bytes=9_900_000, seconds=0.21))
            found.append(Logs(lines=[[at(step) + 0.2, "hub", "INFO", f"{path} verified"]]))
    return found


def command(
    identity: str, name: str, args: dict[str, object], step: int, *, reason: str = "", actor: str = ACTOR
) -> list[Event]:
    """The three words of a command that is applied at `step`."""
    words = ("requested", "agreed", "applied")
    return [
        CommandStatus(
            time=at(step),
            id=identity,
            name=name,
            args=args,
            actor=actor,
            status=status,
            step=-1 if status == "requested" else step,
            reason=reason if status == "applied" else "",
        )
        for status in words
    ]


def machine(step: int, *, gpus: bool = False, late_rank: bool = False) -> list[Event]:
    """Gauges and rank reports of this moment."""
    gauges = Gauges(
        time=at(step),
        cores=[97.0, 88.5],
        memory_used_bytes=int(3.1 * 2**30),
        memory_total_bytes=int(7.8 * 2**30),
        gpus=[GPU, GPU_MIG] if gpus else [],
        gpu_reason="" if gpus else "no NVIDIA driver on this machine",
        disk_free_bytes=int(38.2 * 2**30),
    )
    ranks = [
        RankStatus(
            time=at(step) - 0.4 * rank,
            rank=rank,
            pid=4000 + rank,
            doing="training",
            step=step // 2 if rank == 2 and late_rank else step,
            step_ms=1000 * STEP_S,
            data_ms=1.2,
            forward_ms=310 * STEP_S,
            backward_ms=520 * STEP_S,
            comm_ms=60 * STEP_S,
            optim_ms=90 * STEP_S,
            memory_bytes=(412 + 3 * rank) << 20,
        )
        for rank in range(3 if late_rank else 2)
    ]
    return [gauges, *ranks]


def training(last: int = 600, *, gpus: bool = False) -> list[Event]:
    """A run in the middle of its work, with a past: an edit, a warning, a note."""
    half = last // 2
    events = [*opening(), *steps(1, half)]
    events += command("e1", "set", {"name": "lr", "value": 0.5, "mode": "scale"}, half + 1, reason="0.00258 -> 0.00129")
    events += command("n1", "note", {"text": "halved the rate: gradients were noisy"}, half + 10, actor="ctl bob@laptop")
    events.append(Logs(lines=[[at(half), "rank 1", "WARNING", "batch 301 was read late: 41 ms"]]))
    return [*events, *steps(half + 1, last, seed=2), *machine(last, gpus=gpus)]


def paused(last: int = 600) -> list[Event]:
    """The same run, held."""
    held = [
        RankStatus(time=at(last), rank=rank, pid=4000 + rank, doing="paused", step=last, memory_bytes=412 << 20)
        for rank in (0, 1)
    ]
    return [*training(last), *command("p1", "pause", {}, last), Phase(time=at(last), phase="paused", step=last), *held]


def failed(last: int = 420) -> list[Event]:
    """A run whose rank 1 died for good."""
    tail = ["loading batch 421", "Traceback (most recent call last):", "MemoryError: 3.2 GiB asked for, 0.4 GiB left"]
    failure = Failed(
        time=at(last), rank=1, message="MemoryError: 3.2 GiB asked for, 0.4 GiB left", exit_code=4, step=last, log_tail=tail
    )
    lines = Logs(lines=[[at(last), "rank 1", "ERROR", line] for line in tail])
    end = End(time=at(last) + 2, phase="failed", step=last, exit_code=4, reason="rank 1 failed and 3 restarts are used up")
    return [*opening(), *steps(1, last), *machine(last), lines, failure, end]


def finished() -> list[Event]:
    """A run that reached its target."""
    end = End(time=at(TARGET), phase="finished", step=TARGET, exit_code=0, weights_sha256="ab12" * 16)
    return [*opening(), *steps(1, TARGET), *machine(TARGET), end]


class FakeSource:
    """Gives a history, then whatever the test feeds; keeps what was sent."""

    def __init__(self, history: Iterable[Event], *, readonly: bool = False) -> None:
        self.readonly = readonly
        self.sent: list[Command] = []
        self.closed = False
        self._history = list(history)
        self._live: asyncio.Queue[Event | None] = asyncio.Queue()

    async def events(self) -> AsyncIterator[Event]:
        for event in self._history:
            yield event
        yield CaughtUp()
        while (event := await self._live.get()) is not None:
            yield event

    def feed(self, *events: Event) -> None:
        """Say something live."""
        for event in events:
            self._live.put_nowait(event)

    def hang_up(self) -> None:
        """The hub is gone."""
        self._live.put_nowait(None)

    async def send(self, command: Command) -> None:
        self.sent.append(command)

    async def close(self) -> None:
        self.closed = True

    async def connect(self) -> FakeSource:
        return self


def replace_status(status: Event, to: str, reason: str) -> CommandStatus:
    """`status` with another state and reason."""
    assert isinstance(status, CommandStatus)
    return dataclasses.replace(status, status=to, reason=reason)  # type: ignore[arg-type]


def hostile(text: str) -> list[Event]:
    """A run in which every text that a rank or a person chose is `text`."""
    run, phase = opening()[3], Phase(time=at(20), phase="paused", reason=text, step=20)
    sample = Sample(time=at(20), step=20, prompt=text, text=text)
    failure = Failed(time=at(20), rank=0, message=text, exit_code=4, step=20, traceback=text, log_tail=[text])
    gauges, *ranks = machine(20, gpus=True)
    return [
        dataclasses.replace(run, name=text, device=text, resumed_from=text),  # type: ignore[call-arg]
        *steps(1, 20),
        Logs(lines=[[at(20), text, "INFO", text]]),
        sample,
        Checkpoint(time=at(20), step=20, path=text, name=text),
        *command("x", "set", {"name": "prompt", "value": text}, 20, reason=text, actor=text),
        dataclasses.replace(gauges, gpus=[{**GPU, "name": text, "reason": text}], gpu_reason=text),  # type: ignore[call-arg]
        *(dataclasses.replace(rank, doing=text, device=text) for rank in ranks),  # type: ignore[call-arg]
        failure,
        phase,
    ]
