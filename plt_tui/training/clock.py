"""Where the time of a step goes: data, forward, backward, communication, optimizer.

One call per change of part and nothing else: on a CPU it reads a clock, on a GPU it records an event and never waits for it.
Each also shows that the rank lives. Main thread of a rank only. Invariant: the parts of a step add up to its length, less what
was marked as "other".
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from typing import Literal

import torch

from plt_tui.training.pulse import Pulse

Part = Literal["data", "forward", "backward", "comm", "optim", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepParts:
    """Milliseconds of one step, micro-steps added up."""

    data: float = 0.0
    forward: float = 0.0
    backward: float = 0.0
    comm: float = 0.0
    """Gradients on their way, and waiting for slower ranks. On a GPU the backward pass hides and includes it: 0."""
    optim: float = 0.0


class StepClock:
    """Adds up the time between marks. `close` ends a step. `pulse`: told of every mark."""

    def __init__(self, device: torch.device, pulse: Pulse) -> None:
        self._on_gpu = device.type == "cuda"
        # Gradients meet at the end of the backward pass; a GPU's CPU learns of it when it reads their norm.
        self._waits_in: Part = "optim" if self._on_gpu else "comm"
        self._pulse = pulse
        self._marks: list[tuple[Part, float]] = []
        self._events: list[tuple[Part, torch.cuda.Event]] = []
        self._closed_events: list[tuple[Part, torch.cuda.Event]] = []

    def mark(self, part: Part) -> None:
        """From now on this step is in `part`."""
        self._pulse.beat(is_waiting=part == self._waits_in)
        self._marks.append((part, time.perf_counter()))
        if self._on_gpu:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch leaves it untyped
            event.record()
            self._events.append((part, event))

    def close(self) -> StepParts:
        """End the step and return its parts; on a GPU those of the step before it, which has certainly been computed."""
        self.mark("other")
        if not self._on_gpu:
            sums = _sums([(part, stamp * 1e3) for part, stamp in self._marks])
        else:
            done = self._closed_events
            sums = _sums([(part, done[0][1].elapsed_time(event)) for part, event in done])
            # Reading a batch is the CPU's work: the GPU's events would not show it.
            sums["data"] = _sums([(part, stamp * 1e3) for part, stamp in self._marks])["data"]
            self._closed_events, self._events = self._events, []
        self._marks = []
        return StepParts(**{part: ms for part, ms in sums.items() if part != "other"})


def _sums(marks: list[tuple[Part, float]]) -> dict[str, float]:
    """Milliseconds of each part; `marks`: when each began, the last one ends the step."""
    sums = dict.fromkeys(("data", "forward", "backward", "comm", "optim", "other"), 0.0)
    for (part, start), (_, stop) in itertools.pairwise(marks):
        sums[part] += stop - start
    return sums
