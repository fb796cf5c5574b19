"""What is said of a rank and of a step: what the rank does, how far it is, how long a step takes, how much memory it holds.

Loads no torch: a rank says that it lives while torch is being loaded. Invariant: a rank whose threads can run at all is heard
about once in PULSE_S, also while its main thread hangs in a collective or in native code that lets other threads run.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from plt_tui.protocol.events import RankStatus, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.training.pulse import Pulse

if TYPE_CHECKING:
    from plt_tui.training.clock import StepParts
    from plt_tui.training.trainer import StepSums, Trainer

INTERVAL_S = 0.5
"""Least time between two reports of the same doing."""
PULSE_S = 1.0
"""How often a rank is heard whose main thread does not report."""


def resident_bytes() -> int:
    """Resident memory of this process by proc(5); 0 where there is no /proc."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  (read twice a second: no Path objects)
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


class StatusReporter:
    """Sends `RankStatus`, at every change of doing and else at most every INTERVAL_S. Main thread only.

    As a context manager it also reports, from a thread of its own, what the main thread cannot: for how long it has not moved.
    """

    def __init__(self, link: RankEnd, rank: int, device: str) -> None:
        self.pulse = Pulse()
        """To be touched wherever the main thread moves between two reports."""
        self.measure_memory: Callable[[], int] = resident_bytes
        """Bytes that this rank holds; a rank on a GPU replaces it once torch can tell."""
        self.step = 0
        """Completed steps, as last told."""
        self._link = link
        self._last = RankStatus(rank=rank, pid=os.getpid(), doing="", device=device)
        self._sent_at = 0.0
        self._sending = threading.Lock()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._report_standstill, name="pulse", daemon=True)

    def __enter__(self) -> StatusReporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.join()

    def say(self, doing: str, step: int = 0) -> None:
        """Report that this rank now does `doing`, after `step` completed steps."""
        self.pulse.beat()
        self.step = step
        if doing != self._last.doing or time.monotonic() - self._sent_at > INTERVAL_S:
            self._send(replace(self._last, doing=doing, step=step))

    def stepped(self, step: int, seconds: float, parts: StepParts) -> None:
        """Report a completed step and where its time went."""
        self.pulse.beat()
        self.step = step
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
        memory_bytes = self.measure_memory()
        with self._sending:  # else the pulse could repeat the last doing behind a newer one
            self._last = replace(status, time=time.time(), memory_bytes=memory_bytes)
            self._sent_at = time.monotonic()
            self._link.send(self._last)

    def _report_standstill(self) -> None:
        """Say every PULSE_S what the main thread does not say itself.

        Standing still is counted in turns of this thread, and a late turn counts as two at most: the time in which the whole
        process was stopped, starved or asleep with its machine is not the main thread's.
        """
        beats, idle_s, now = self.pulse.beats, 0.0, time.monotonic()
        while not self._closing.wait(PULSE_S):
            before, now = now, time.monotonic()
            idle_s = idle_s + min(now - before, 2 * PULSE_S) if self.pulse.beats == beats else 0.0
            beats = self.pulse.beats
            with self._sending:
                if now - self._sent_at >= PULSE_S / 2:
                    status = replace(self._last, time=time.time(), step=self.step)
                    self._link.send(replace(status, waiting=self.pulse.is_waiting, idle_s=idle_s))


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
