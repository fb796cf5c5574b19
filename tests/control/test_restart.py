"""Promises of `control.restart`: the right failure is named, and only what may pass is tried again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from plt_tui.control.restart import (
    LONGEST_BACKOFF_S,
    GiveUp,
    Restart,
    decide,
    exit_failure,
    root_cause,
    signal_name,
)
from plt_tui.protocol.events import Failed


def failed(step: int = 5, *, code: int = 4, rank: int = 0, time: float = 1.0) -> Failed:
    """A rank that raised."""
    return Failed(rank=rank, message="boom", exit_code=code, step=step, time=time)


def killed(rank: int, time: float) -> Failed:
    """A rank that was ended from outside."""
    return replace(failed(rank=rank, time=time), message="killed by SIGKILL", is_signal=True)


def aborted(rank: int, time: float) -> Failed:
    """A rank that a library has ended."""
    return replace(killed(rank, time), message="killed by SIGABRT")


def cut_off(rank: int, time: float) -> Failed:
    """A rank whose collective failed."""
    return replace(failed(rank=rank, time=time), message="Connection closed by peer", is_lost_peer=True)


FIRST_TIME: list[tuple[Failed, list[Failed], int, Restart | GiveUp]] = [
    (failed(), [], 3, Restart(after_s=0.5)),
    (failed(), [failed(1)], 3, Restart(after_s=1.0)),
    (failed(), [failed(1), failed(2)], 3, Restart(after_s=2.0)),
    (failed(), [failed(number) for number in range(50, 90)], 99, Restart(after_s=LONGEST_BACKOFF_S)),
    (failed(), [failed(5), failed(4)], 3, Restart(after_s=2.0)),
    (killed(1, 1.0), [], 1, Restart(after_s=0.5)),
    (failed(), [], 0, GiveUp(exit_code=4, reason="rank 0 failed at step 5: boom (0 of 0 restarts used)")),
    (failed(), [failed(1)], 1, GiveUp(exit_code=4, reason="rank 0 failed at step 5: boom (1 of 1 restarts used)")),
    (failed(), [failed(5)], 9, GiveUp(exit_code=4, reason="rank 0 failed at step 5: boom (the second time at this step)")),
    (replace(failed(5), while_starting=True), [failed(5)], 9, Restart(after_s=1.0)),
    (
        replace(failed(5), while_starting=True),
        [replace(failed(5), while_starting=True)],
        9,
        GiveUp(exit_code=4, reason="rank 0 failed while starting: boom (the second time at this step)"),
    ),
    (
        replace(killed(1, 1.0), left_alive=[70, 71]),
        [],
        3,
        GiveUp(
            exit_code=4,
            reason="rank 1 failed at step 5: killed by SIGKILL; processes 70, 71 cannot be ended (waiting for a device or a "
            "network file system?), so nothing may be started in their place",
        ),
    ),
    (failed(code=7), [], 3, GiveUp(exit_code=7, reason="boom")),
    (failed(code=3), [], 3, GiveUp(exit_code=3, reason="boom")),
    (failed(code=5), [], 3, GiveUp(exit_code=5, reason="boom")),
]


@pytest.mark.parametrize(("failure", "earlier", "max_restarts", "verdict"), FIRST_TIME)
def test_what_follows_a_failure(failure: Failed, earlier: list[Failed], max_restarts: int, verdict: Restart | GiveUp) -> None:
    """Restart with growing patience, unless it would come back, or the restarts are used up."""
    assert decide(failure, earlier, max_restarts) == verdict


@pytest.mark.parametrize(
    ("failures", "cause"),
    [
        ([failed(rank=0, time=2.0), failed(rank=1, time=1.0)], 1),
        ([cut_off(0, 1.0), failed(rank=1, time=2.0)], 1),
        ([cut_off(0, 1.0), cut_off(2, 1.5), killed(1, 2.0)], 1),
        ([failed(rank=0, time=1.0), killed(1, 2.0)], 1),
        ([killed(2, 3.0), killed(1, 2.0)], 1),
        ([cut_off(1, 1.0), cut_off(0, 2.0)], 1),
        ([failed(rank=1, time=1.0), aborted(0, 2.0)], 1),  # NCCL's watchdog aborts a rank whose peer has failed
        ([aborted(0, 1.0), killed(1, 2.0)], 1),
        ([cut_off(0, 1.0), aborted(1, 2.0)], 1),
        ([failed(rank=1)], 1),
    ],
)
def test_the_cause_is_not_the_rank_that_only_lost_its_peer(failures: list[Failed], cause: int) -> None:
    """A killed rank before one that raised, that before one whose connection broke; among equals the first one."""
    assert root_cause(failures).rank == cause


@pytest.mark.parametrize(
    ("exit_code", "message", "is_signal"),
    [
        (-9, "killed by SIGKILL", True),
        (-11, "killed by SIGSEGV", True),
        (-250, "killed by signal 250", True),
        (3, "ended with exit code 3 and no message", False),
        (0, "ended with exit code 0 and no message", False),
    ],
)
def test_a_silent_end_is_described_by_its_exit_code(exit_code: int, message: str, is_signal: bool) -> None:
    """The signal has its name, and the last log lines go along."""
    failure = exit_failure(1, exit_code, now=2.0, log_tail=["Killed"])
    assert (failure.rank, failure.time, failure.log_tail) == (1, 2.0, ["Killed"])
    assert (failure.message, failure.is_signal, failure.exit_code) == (message, is_signal, 4)


def test_why_a_rank_was_killed_goes_along() -> None:
    """Where it is known."""
    assert exit_failure(1, -9, now=2.0, log_tail=[], why="out of memory").message == "killed by SIGKILL: out of memory"


def test_signals_have_names() -> None:
    """Known ones by name, others by number."""
    assert (signal_name(15), signal_name(99)) == ("SIGTERM", "signal 99")
