"""What a hub says to the headless views, written down."""

from __future__ import annotations

from array import array
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

from plt_tui.protocol.commands import Command
from plt_tui.protocol.events import STEP_COLUMNS, CommandStatus, End, Eval, Event, Run, Step, Steps
from plt_tui.views.console import session_events


class Script:
    """A source that says `events` and vanishes."""

    readonly = True

    def __init__(self, *events: Event) -> None:
        self.said = events

    async def events(self) -> AsyncIterator[Event]:
        for event in self.said:
            yield event

    async def send(self, command: Command) -> None:
        raise AssertionError(f"a headless view sent {command}")

    async def close(self) -> None:
        pass


def run(start_step: int = 0, target: int = 600) -> Run:
    """A session that begins."""
    return Run(name="demo", dir="runs/demo", world_size=2, params=1_234_567, target_step=target, start_step=start_step)


def step(number: int, *, attempt: int = 0, loss: float = 2.34561) -> Step:
    """Step `number`; `attempt` tells apart the times at which it was computed. One takes 0.25 s."""
    return Step(
        time=1000.0 * attempt + number / 4,
        step=number,
        loss=loss,
        lr=3e-3,
        grad_norm=0.812,
        tokens=number * 2048,
        tokens_per_s=41_234.0,
        step_ms=250.0,
        data_ms=1.0,
    )


def block(steps: Iterable[Step], branch: int = 0) -> Steps:
    """`steps` as the hub sends them; `branch`: the one that they lie on."""
    rows = list(steps)
    columns = {name: array("d", [getattr(row, name) for row in rows]) for name in STEP_COLUMNS}
    return replace(Steps.from_columns(columns, 0, len(rows)), branch=branch)


def end(at: int = 600, phase: str = "finished") -> End:
    """The end of a session."""
    return End(phase=phase, step=at, exit_code=0, weights_sha256="ab12", reason="target reached")  # type: ignore[arg-type]


def evaluation(at: int) -> Eval:
    """An evaluation."""
    return Eval(step=at, loss=2.0, perplexity=7.389, bits_per_byte=2.885, accuracy=0.4123)


def applied(name: str, at: int, /, **args: object) -> CommandStatus:
    """An applied command."""
    return CommandStatus(id="c1", name=name, args=args, actor="ctl ana@box", status="applied", step=at, reason="")


async def told(*events: Event) -> list[str]:
    """What the views are given, in short."""
    words = []
    async for event, _ in session_events(Script(*events)):
        number = getattr(event, "step", None)
        words.append(event.kind if number is None else f"{event.kind} {number}")
    return words
