"""A hub without ranks: a real Feed, whose events are numbered, and a list of the commands it was given."""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable

from plt_tui.control.admission import worded
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import STEP_COLUMNS, Run, Step
from tests.control.said import NumberedFeed

DEADLINE_S = 30.0


class FakeHub:
    """Applies every command at once, but has nothing to undo."""

    def __init__(self) -> None:
        self.feed = NumberedFeed()
        self.commands: list[Command] = []

    async def submit(self, command: Command) -> None:
        if command.name == "undo":
            raise UsageError("nothing to \x1b[31mundo")
        self.commands.append(command)
        self.feed.publish(status_of(worded(command), "applied", step=self.feed.state.step))

    def begin(self, start_step: int = 0) -> None:
        self.feed.publish(
            Run(time=1.0, name="demo", dir="runs/demo", world_size=2, params=10, target_step=600, start_step=start_step)
        )

    def train(self, first: int, last: int, loss: float = 2.5) -> None:
        for number in range(first, last + 1):
            self.feed.publish(
                Step(
                    time=10.0 + number,
                    step=number,
                    loss=loss,
                    lr=3e-3,
                    grad_norm=0.8,
                    tokens=number * 100,
                    tokens_per_s=4e4,
                    step_ms=20.0,
                )
            )

    def fill(self, rows: int) -> None:
        """A long history at once, without folding it into the state. Only where nothing has been recorded yet."""
        values = array("d", (0.1 * row for row in range(rows)))
        columns = dict.fromkeys(STEP_COLUMNS, values) | {"step": array("d", range(1, rows + 1))}
        self.feed.history.extend(columns, self.feed.last_seq + 1)
        self.feed.last_seq += rows


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` is true. Raises: TimeoutError at the deadline."""
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            raise TimeoutError(f"{condition} never came true")
        await asyncio.sleep(0.005)
