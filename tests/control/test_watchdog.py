"""Promises of `control.watchdog`: the rank that keeps the others waiting is named, and nobody who is only slow."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import replace

import pytest

from plt_tui.config.schema import ControlSection
from plt_tui.control.watchdog import Watchdog, Word, judge, message, process_state
from plt_tui.protocol.events import CommandStatus, Progress, RankStatus, Step

LIMIT_S = 60.0


def word(rank: int, *, idle: float = 0.0, silent: float = 0.0, waits: bool = False, step: int = 117) -> Word:
    """A rank that is training."""
    return Word(rank=rank, pid=rank + 50, doing="training", step=step, is_waiting=waits, idle_s=idle, silent_s=silent)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], None),
        ([word(0), word(1)], None),
        ([word(0, idle=59), word(1, idle=59)], None),
        ([word(0, idle=99), word(1, idle=0.4)], None),  # the one that moves will come to where the other one is, or not move
        ([word(0, idle=61, waits=True), word(1, idle=62, silent=62)], (1, True)),
        ([word(0, idle=90, silent=4), word(1, idle=61)], (0, True)),  # all stand still: who says nothing at all is to blame
        ([word(0), word(1, silent=61, idle=61)], (1, True)),
        ([word(0, silent=61, idle=61), word(1, silent=70, idle=70)], (1, True)),
        ([word(0, idle=61, waits=True), word(1, idle=61)], (1, False)),
        ([word(0, idle=62), word(1, idle=61)], (0, False)),
        ([word(0, idle=61, waits=True), word(1, idle=61, waits=True, step=116)], (1, False)),
        ([word(0, idle=61, waits=True), word(1, idle=61, waits=True)], (0, False)),
        ([word(0, idle=61, waits=True)], (0, False)),
    ],
)
def test_who_hangs(words: list[Word], found: tuple[int, bool] | None) -> None:
    """The silent one, else the one that waits for nobody, else the one furthest behind; nobody while any of them moves."""
    hang = judge(words, LIMIT_S, "")
    assert (hang and (hang.rank, hang.is_silent)) == found


@pytest.mark.parametrize(
    ("words", "state", "said"),
    [
        (
            [word(0, idle=62, waits=True), word(1, idle=62, silent=61.8, step=100)],
            "T",
            "hung in step 118: silent for 62 s (LIMIT); stopped by a signal, rank 0 waits for it",
        ),
        (
            [word(0, idle=62, waits=True), word(1, idle=62, silent=61.8), word(2, idle=62, waits=True)],
            "S",
            "hung in step 118: silent for 62 s (LIMIT); native code holds the interpreter, ranks 0, 2 wait for it",
        ),
        (
            [word(0, silent=61.8)],
            "",
            "hung in step 118: silent for 62 s (LIMIT); stopped, or native code holds the interpreter",
        ),
        ([word(0, idle=61.8)], "S", "hung in step 118: no progress for 62 s (LIMIT)"),
        (
            [word(0, idle=61.8), word(1, idle=61, waits=True)],
            "D",
            "hung in step 118: no progress for 62 s (LIMIT); "
            "it waits for a device or a network file system, rank 1 waits for it",
        ),
        (
            [word(0, idle=61.8, waits=True), word(1, idle=61, waits=True)],
            "S",
            "hung in step 118: no progress for 62 s (LIMIT); all ranks wait for each other",
        ),
        ([replace(word(0, idle=61.8), doing="saving")], "S", "hung in 'saving' after step 117: no progress for 62 s (LIMIT)"),
        (
            [replace(word(0, idle=61.8, step=0), doing="preparing data")],
            "S",
            "hung in 'preparing data': no progress for 62 s (LIMIT)",
        ),
    ],
)
def test_a_hang_is_told_in_words(words: list[Word], state: str, said: str) -> None:
    """Where, for how long, against which limit, what the process waits for, and who waits for it."""
    hang = judge(words, LIMIT_S, "LIMIT")
    assert hang is not None
    assert message(hang, state) == said


def status(rank: int, *, idle: float = 0.0, doing: str = "training", waits: bool = False) -> RankStatus:
    """What a rank says of itself."""
    return RankStatus(rank=rank, pid=rank + 50, doing=doing, step=7, idle_s=idle, waiting=waits)


def step(step_ms: float) -> Step:
    """A step that took so long."""
    return Step(step=1, loss=1.0, lr=0.1, grad_norm=1.0, tokens=1, tokens_per_s=1.0, step_ms=step_ms)


def still_for(watchdog: Watchdog, seconds: int, start: float = 0.0, *, doing: str = "training") -> float | None:
    """When two ranks that stand still from `start` on, and say so every second, are found to hang; None: not in `seconds`."""
    for second in range(seconds):
        for rank in (0, 1):
            watchdog.heard(rank, status(rank, idle=second, doing=doing))
        if watchdog.check(start + second + 1) is not None:
            return second + 1
    return None


@pytest.mark.parametrize(
    ("step_times", "doing", "found_s"),
    [
        ([], "training", 601),  # no step yet: it may be compiling
        ([20.0] * 200, "training", 61),
        ([20_000.0] * 99 + [20.0] * 99, "training", 61),  # the last 100 count, and their median
        ([20_000.0] * 3, "training", 201),
        ([20.0] * 3, "rewinding", 601),
        ([20.0] * 3, "evaluating", 61),
    ],
)
def test_the_limit_is_learned_from_the_steps(step_times: list[float], doing: str, found_s: float) -> None:
    """`start_s` before the first step, then `hang_s`, or ten median steps where those are longer."""
    watchdog = Watchdog(ControlSection(hang_s=60.0, start_s=600.0))
    watchdog.begin(2, 0.0)
    for milliseconds in step_times:
        watchdog.heard(0, step(milliseconds))
    assert still_for(watchdog, 700, doing=doing) == found_s


@pytest.mark.parametrize("verb", ["set", "undo", "rewind"])
def test_after_an_edit_the_limit_is_learned_anew(verb: str) -> None:
    """The next step may have another shape, which `train.compile` compiles first, or a larger batch than any before."""
    watchdog = Watchdog(ControlSection())
    watchdog.begin(2, 0.0)
    watchdog.heard(0, step(20.0))
    watchdog.heard(0, CommandStatus(id="a", name=verb, args={}, actor="ana", status="applied", step=7))
    assert still_for(watchdog, 400) is None
    watchdog.heard(0, step(20.0))
    assert still_for(watchdog, 100, start=400.0) == 61


def test_time_that_the_hub_lost_is_nobodys_fault() -> None:
    """Stopped for ten minutes, it hears what the ranks have said in the meantime only after its first check."""
    watchdog = Watchdog(ControlSection(hang_s=10.0))
    watchdog.begin(2, 100.0)
    watchdog.heard(0, step(20.0))
    assert watchdog.check(700.0) is None
    assert [still.silent_s for still in watchdog.words.values()] == [1.0, 1.0]
    assert still_for(watchdog, 30, start=700.0) == 11


def test_a_hub_that_wakes_late_does_not_blame_whom_it_has_not_heard_yet() -> None:
    """Ranks were heard right behind a check; then nothing on the machine runs for 5 s, and the next check comes first."""
    watchdog = Watchdog(ControlSection(hang_s=2.0))
    watchdog.begin(2, 0.0)
    watchdog.heard(0, step(20.0))
    for rank in (0, 1):
        watchdog.heard(rank, status(rank))
    assert watchdog.check(1.002) is None
    assert watchdog.check(6.0) is None


def test_a_rank_that_is_never_heard_hangs_by_the_time_of_a_start() -> None:
    """It is known from the beginning."""
    watchdog = Watchdog(ControlSection(start_s=5.0, hang_s=4.0))
    watchdog.begin(2, 0.0)
    found = []
    for second in range(1, 10):
        watchdog.heard(0, status(0))
        found.append(watchdog.check(float(second)))
    hang = found[5]
    assert found[:5] == [None] * 5
    assert hang is not None
    assert (hang.rank, hang.pid, hang.place, hang.limit) == (1, 0, "'starting' after step 7", "control.start_s is 5")


def test_progress_on_any_rank_is_no_hang() -> None:
    """Rank 0 prepares data for hours while rank 1 waits for it at a lock and says only that it lives."""
    watchdog = Watchdog(ControlSection(start_s=5.0, hang_s=5.0))
    watchdog.begin(2, 0.0)
    for second in range(3600):
        watchdog.heard(0, status(0, doing="preparing data"))
        watchdog.heard(0, Progress(task="tokenising", done=second, total=3600))
        watchdog.heard(1, status(1, doing="preparing data", idle=second))
        assert watchdog.check(second + 1.0) is None


def test_ranks_that_left_are_not_expected_to_speak() -> None:
    """Neither one that is done nor one that has ended; a late word of one is no return."""
    watchdog = Watchdog(ControlSection(start_s=5.0, hang_s=5.0))
    watchdog.begin(2, 0.0)
    watchdog.left(0)
    watchdog.left(1)
    watchdog.heard(0, status(0, idle=1000.0))
    assert [watchdog.check(float(second)) for second in range(1, 20)] == [None] * 19


def test_the_state_of_a_process_is_read() -> None:
    """A stopped one is "T"; of one that is gone nothing is known."""
    process = subprocess.Popen(["sleep", "1000"])
    try:
        os.kill(process.pid, signal.SIGSTOP)
        give_up_at = time.monotonic() + 10.0
        while process_state(process.pid) != "T":
            assert time.monotonic() < give_up_at
    finally:
        process.kill()
        process.wait()
    assert process_state(process.pid) == ""
