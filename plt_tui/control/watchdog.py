"""Which rank hangs: judged by what the ranks say of themselves, and by how long each has said nothing.

Decides only: whoever owns it tells it what was heard and asks once in CHECK_S. Ranks end every step together, so one that hangs
brings all of them to a standstill, and those that wait for it say that they do. Invariant: time in which the hub itself was
stopped or starved is not held against a rank.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from plt_tui.config.patience import SILENT_S, patience
from plt_tui.config.schema import ControlSection
from plt_tui.protocol.events import CommandStatus, Event, RankStatus, Step

CHECK_S = 1.0
"""Time between two checks."""
STEPS_KEPT = 100
EDITS = ("set", "undo", "rewind")
"""After these a step can be another one: larger, or of a shape that `train.compile` compiles first."""

STATES = {
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "D": "it waits for a device or a network file system",
}
"""States of a process by proc(5) that explain why it stands still."""


@dataclass(slots=True, kw_only=True)
class Word:
    """What a rank last said of itself, and how long ago."""

    rank: int
    pid: int = 0
    """0 until it has said something."""
    doing: str = "starting"
    step: int = 0
    is_waiting: bool = False
    idle_s: float = 0.0
    """Seconds that its main thread stands still, as far as is known."""
    silent_s: float = 0.0
    """Seconds since it was heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hang:
    """The rank that keeps the others from going on."""

    rank: int
    pid: int
    """Of its process; 0 for one that has never said anything."""
    is_silent: bool
    """None of its threads runs: it is stopped, or native code holds the interpreter."""
    place: str
    """What it is in, for people."""
    still_s: float
    limit: str
    """The setting that was exceeded."""
    others: str
    """What the other ranks do meanwhile, for people."""


@dataclass(slots=True)
class Watchdog:
    """Watches the ranks of one attempt. In the hub's event loop."""

    control: ControlSection
    words: dict[int, Word] = field(default_factory=dict)
    """Of the ranks that are still expected to say something."""
    _step_ms: deque[float] = field(default_factory=lambda: deque(maxlen=STEPS_KEPT))
    _checked_at: float = 0.0

    def begin(self, num_ranks: int, now: float) -> None:
        """Expect to hear of so many ranks from now on; `now` by time.monotonic, as below."""
        self.words = {rank: Word(rank=rank) for rank in range(num_ranks)}
        self._checked_at = now

    def heard(self, rank: int, event: Event) -> None:
        """A rank said something."""
        word = self.words.get(rank)
        if word is None:
            return
        word.silent_s = 0.0
        if isinstance(event, RankStatus):
            word.pid, word.doing, word.step = event.pid, event.doing, event.step
            word.is_waiting, word.idle_s = event.waiting, event.idle_s
        elif isinstance(event, Step):
            self._step_ms.append(event.step_ms)
        elif isinstance(event, CommandStatus) and event.status == "applied" and event.name in EDITS:
            self._step_ms.clear()

    def left(self, rank: int) -> None:
        """A rank said its last word, or has ended."""
        self.words.pop(rank, None)

    @property
    def last_step(self) -> int:
        """The last step that a rank is known to have completed: rank 0, which tells of steps, may take its last words along."""
        return max((word.step for word in self.words.values()), default=0)

    def check(self, now: float) -> Hang | None:
        """The rank that hangs, if one does."""
        passed_s = min(now - self._checked_at, CHECK_S)  # more: this process did not run, and could not have heard
        self._checked_at = now
        for word in self.words.values():
            word.silent_s += passed_s
            word.idle_s += passed_s
        limit_s, limit = self._limit()
        return judge(list(self.words.values()), limit_s, limit)

    def _limit(self) -> tuple[float, str]:
        """Seconds that a rank may stand still, and why just so many."""
        step_s = statistics.median(self._step_ms) / 1e3 if self._step_ms else None
        return patience(
            self.control.hang_s, self.control.start_s, step_s=step_s, doings=[word.doing for word in self.words.values()]
        )


def judge(words: Sequence[Word], limit_s: float, limit: str) -> Hang | None:
    """The rank that hangs: one that was silent for `limit_s`, or, where no rank has moved for so long, the one to blame.

    The one to blame is silent; else it does not wait for others; else all wait for each other, and it is the furthest behind.
    """
    if not words:
        return None
    is_all_still = min(word.idle_s for word in words) > limit_s
    silent = [word for word in words if word.silent_s > (SILENT_S if is_all_still else limit_s)]
    if not silent and not is_all_still:
        return None
    busy = [word for word in words if not word.is_waiting]
    if silent:
        found = max(silent, key=lambda word: word.silent_s)
    elif busy:
        found = max(busy, key=lambda word: word.idle_s)
    else:
        found = min(words, key=lambda word: word.step)
    step = max(word.step for word in words)  # all ranks are in the same one; a silent rank was heard before it came to it
    return Hang(
        rank=found.rank,
        pid=found.pid,
        is_silent=bool(silent),
        place=_place(found, step),
        still_s=found.silent_s if silent else found.idle_s,
        limit=limit,
        others=_others([word for word in words if word is not found], all_wait=not silent and not busy),
    )


def message(hang: Hang, state: str) -> str:
    """What a person reads of `hang`, given the state of its process (see `process_state`)."""
    what = "silent" if hang.is_silent else "no progress"
    why = STATES.get(state, "")
    if hang.is_silent and not why:
        why = "native code holds the interpreter" if state else "stopped, or native code holds the interpreter"
    known = ", ".join(filter(None, [why, hang.others]))
    return f"hung in {hang.place}: {what} for {hang.still_s:.0f} s ({hang.limit})" + (f"; {known}" if known else "")


def process_state(pid: int) -> str:
    """State of a process by proc(5), such as "T" (stopped) or "D" (uninterruptible); empty where that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def _place(word: Word, step: int) -> str:
    if word.doing == "training":
        return f"step {step + 1}"
    return repr(word.doing) + (f" after step {step}" if step else "")


def _others(others: Sequence[Word], *, all_wait: bool) -> str:
    waiting = [str(word.rank) for word in others if word.is_waiting]
    if all_wait:
        return "all ranks wait for each other" if waiting else ""
    return f"rank{'s' * (len(waiting) > 1)} {', '.join(waiting)} wait{'s' * (len(waiting) == 1)} for it" if waiting else ""
