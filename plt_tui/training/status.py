"""A rank's word about itself: what it does, how far it is, how long a step takes, how much memory it holds."""

from __future__ import annotations

import os
import time

import torch

from plt_tui.protocol.events import RankStatus
from plt_tui.protocol.link import RankEnd

INTERVAL_S = 0.5
"""Least time between two reports of the same doing."""


class StatusReporter:
    """Sends `RankStatus`, at every change of doing and else at most every INTERVAL_S. Main thread only."""

    def __init__(self, link: RankEnd, rank: int, device: str) -> None:
        self._link = link
        self._last = RankStatus(rank=rank, pid=os.getpid(), doing="", device=device)
        self._sent_at = 0.0

    def say(self, doing: str, step: int = 0) -> None:
        """Report that this rank now does `doing`, after `step` completed steps."""
        if doing != self._last.doing or time.monotonic() - self._sent_at > INTERVAL_S:
            self._send(doing, step, self._last.step_ms, self._last.data_ms)

    def stepped(self, step: int, seconds: float, data_s: float) -> None:
        """Report a completed step."""
        if self._last.doing != "training" or time.monotonic() - self._sent_at > INTERVAL_S:
            self._send("training", step, seconds * 1e3, data_s * 1e3)

    def _send(self, doing: str, step: int, step_ms: float, data_ms: float) -> None:
        self._last = RankStatus(
            time=time.time(),
            rank=self._last.rank,
            pid=self._last.pid,
            doing=doing,
            step=step,
            step_ms=step_ms,
            data_ms=data_ms,
            memory_bytes=self._memory_bytes(),
            device=self._last.device,
        )
        self._sent_at = time.monotonic()
        self._link.send(self._last)

    def _memory_bytes(self) -> int:
        if self._last.device.startswith("cuda"):
            return torch.cuda.memory_allocated(self._last.device)
        return resident_bytes()


def resident_bytes() -> int:
    """Resident memory of this process by proc(5); 0 where there is no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (read twice a second: no Path objects)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
