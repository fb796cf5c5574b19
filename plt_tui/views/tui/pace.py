"""How often the UI draws what changes all the time: as often as is pleasant, and as its budget of CPU time and bytes allows.

Pure but for the meter that it is given; draws nothing. Invariant: a stretch that has used more than its budget is followed by a
pause that pays for it, up to the longest one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

TICK_S = 0.25
"""The screen looks this often at what has happened; a steady frame comes every few ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What watching may cost, and the range of pauses between two steady frames."""

    cpu_share: float = 0.01
    """CPU seconds of this process a second: 0.01 is 1 % of one core."""
    bytes_per_s: float = math.inf
    """To the terminal."""
    shortest_s: float = 1.0
    longest_s: float = 5.0
    """However dear frames are."""
    longest_for_bytes_s: float = 5.0
    first_s: float = 1.0
    """Until it is known what a frame takes."""


PLAIN = Budget()
LOW_BANDWIDTH = Budget(bytes_per_s=3_500.0, shortest_s=2.0, longest_for_bytes_s=20.0, first_s=4.0)
"""At most 5 KB/s are promised; the rest is for the answers to keys and for what happens to the run."""
OPENING_FRAMES = 2
"""The first frames draw everything, once: they are not what watching costs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What the view has used since it began."""

    cpu_s: float
    """Of all its threads."""
    num_bytes: int
    """Written to the terminal."""
    num_inputs: int
    """Keys and movements of the mouse."""


def next_pause_s(budget: Budget, pause_s: float, before: Spent, after: Spent) -> float:
    """The pause from one steady frame to the next, after a stretch from `before` to `after` that began `pause_s` ago or more.

    It rises at once and falls by halves, so that one dear frame does not set the pace for long. CPU time of a stretch in which
    somebody typed is theirs: the budget is one for watching. Bytes always count, they all go through the same wire.
    """
    cpu_s = after.cpu_s - before.cpu_s if after.num_inputs == before.num_inputs else 0.0
    for_cpu_s = min(cpu_s / budget.cpu_share, budget.longest_s)
    for_bytes_s = min((after.num_bytes - before.num_bytes) / budget.bytes_per_s, budget.longest_for_bytes_s)
    needed_s = max(for_cpu_s, for_bytes_s, budget.shortest_s)
    return max(needed_s, (pause_s + needed_s) / 2)


class Pace:
    """The pauses of one screen, in ticks."""

    def __init__(self, budget: Budget = PLAIN, meter: Callable[[], Spent] | None = None) -> None:
        """`meter`: what has been used so far; None where nobody pays, and the pauses are as in the beginning."""
        self.is_frugal = budget.bytes_per_s < math.inf
        """True: nothing is drawn between two steady frames but the answers to keys."""
        self._budget = budget
        self._meter = meter
        self._pause_s = budget.first_s
        self._before: Spent | None = None
        self._num_frames = 0

    def next_ticks(self) -> int:
        """How many ticks the next steady frame is away, now that one is being drawn."""
        self._num_frames += 1
        if self._meter is not None and self._num_frames > OPENING_FRAMES:
            spent = self._meter()
            if self._before is not None:
                self._pause_s = next_pause_s(self._budget, self._pause_s, self._before, spent)
            self._before = spent
        return math.ceil(self._pause_s / TICK_S)
