"""What is said of a rank and of a step: what the rank does, how far it is, how long a step takes, how much memory it holds."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import torch

from plt_tui.protocol.events import RankStatus, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.training.clock import StepParts
from plt_tui.training.trainer import StepSums, Trainer

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
            self._send(replace(self._last, doing=doing, step=step))

    def stepped(self, step: int, seconds: float, parts: StepParts) -> None:
        """Report a completed step and where its time went."""
        if self._last.doing != "training" or time.monotonic() - self._sent_at > INTERVAL_S:
            timed = replace(
                self._last,
                step_ms=seconds * 1e3,
                data_ms=parts.data,
                forward_ms=parts.forward,
                backward_ms=parts.backward,
                comm_ms=parts.comm,
                optim_ms=parts.optim,
            )
            self._send(replace(timed, doing="training", step=step))

    def _send(self, status: RankStatus) -> None:
        self._last = replace(status, time=time.time(), memory_bytes=self._memory_bytes())
        self._sent_at = time.monotonic()
        self._link.send(self._last)

    def _memory_bytes(self) -> int:
        if self._last.device.startswith("cuda"):
            return torch.cuda.memory_allocated(self._last.device)
        return resident_bytes()


def step_said(trainer: Trainer, loss: float, sums: StepSums, lr: float, seconds: float, parts: StepParts) -> Step:
    """The step that `trainer` has just completed, as it is told; `loss`: over all ranks, `seconds`: that it took."""
    return Step(
        time=time.time(),
        step=trainer.step,
        loss=loss,
        lr=lr,
        grad_norm=sums.grad_norm,
        tokens=trainer.tokens,
        tokens_per_s=sums.num_targets / seconds,
        step_ms=seconds * 1e3,
        data_ms=parts.data,
    )


def resident_bytes() -> int:
    """Resident memory of this process by proc(5); 0 where there is no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (read twice a second: no Path objects)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
