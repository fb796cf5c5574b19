"""How all ranks learn of a command at the same step boundary.

Each optimizer step ends with one small sum over all ranks on the CPU's gloo group. It carries the step's statistics and, from
rank 0, the size of the commands that have arrived; only when that is not zero a broadcast of the commands follows. The sum is
posted after the backward pass and travels while the optimizer works. Nothing is agreed inside gradient accumulation, nothing is
pickled, and in a pause no rank is inside a collective for longer than a beat.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from plt_tui.protocol import commands
from plt_tui.protocol.commands import Command
from plt_tui.protocol.link import RankEnd
from plt_tui.training.ranks import PendingSum, Ranks


@dataclass(frozen=True, slots=True)
class PendingAgreement:
    """One boundary's exchange under way."""

    total: PendingSum
    content: bytes


class Agreement:
    """The exchange at step boundaries. All ranks call `post` and `settle` in turn, the same number of times."""

    def __init__(self, ranks: Ranks, link: RankEnd) -> None:
        self._ranks = ranks
        self._link = link

    def post(self, statistics: Sequence[float] = (), wait_s: float = 0.0) -> PendingAgreement:
        """Begin the exchange of `statistics` (the same length on every rank); rank 0 waits up to `wait_s` for a command."""
        taken = self._link.take(wait_s) if self._ranks.is_first else []
        content = json.dumps([commands.to_json(command) for command in taken]).encode() if taken else b""
        return PendingAgreement(self._ranks.post_sum([float(len(content)), *statistics]), content)

    def settle(self, pending: PendingAgreement) -> tuple[list[float], list[Command]]:
        """The statistics added over all ranks, and the commands that take effect at this boundary on every rank."""
        size, *sums = pending.total.wait()
        if size == 0:
            return sums, []
        content = self._ranks.broadcast(pending.content, int(size))
        return sums, [commands.from_json(value) for value in json.loads(content)]
