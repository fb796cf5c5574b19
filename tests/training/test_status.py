"""What a rank says of itself: seldom while it moves, again and again when it does not, and nothing after its last word."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from subprocess import run
from typing import cast

import pytest

from plt_tui.protocol.events import RankStatus
from plt_tui.protocol.link import RankEnd
from plt_tui.training import status as status_module
from plt_tui.training.clock import StepParts
from plt_tui.training.status import StatusReporter

DEADLINE_S = 10.0
PULSE_S = 0.02


class Said:
    """A link that keeps what is said."""

    def __init__(self) -> None:
        self.heard: list[RankStatus] = []

    def send(self, event: RankStatus) -> None:
        """Keep it."""
        self.heard.append(event)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Said:
    """Where the reports go, which come fifty times as fast as in a run."""
    monkeypatch.setattr(status_module, "PULSE_S", PULSE_S)
    return Said()


def reporter_to(said: Said) -> StatusReporter:
    """Rank 1's."""
    return StatusReporter(cast("RankEnd", said), 1, "cpu")


def until(is_so: Callable[[], bool]) -> None:
    """Wait until `is_so`."""
    give_up_at = time.monotonic() + DEADLINE_S
    while not is_so():
        assert time.monotonic() < give_up_at
        time.sleep(0.001)


def test_a_main_thread_that_stands_still_is_reported(said: Said) -> None:
    """For how long, since which step, and that it waits for others; a beat begins anew."""
    with reporter_to(said) as reporter:
        reporter.say("training", 7)
        with reporter.pulse.waiting():
            until(lambda: said.heard[-1].idle_s > 5 * PULSE_S)
        last = said.heard[-1]
        assert (last.rank, last.doing, last.step, last.waiting) == (1, "training", 7, True)
        until(lambda: said.heard[-1].idle_s < last.idle_s)
        until(lambda: not said.heard[-1].waiting)
    assert next(status for status in said.heard if status.doing == "training").idle_s == 0.0


def test_a_main_thread_that_reports_itself_is_not_talked_over(said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """One report an interval, whatever the steps take; the pulse knows of the last step all the same."""
    interval_s = PULSE_S / 4
    monkeypatch.setattr(status_module, "INTERVAL_S", interval_s)
    monkeypatch.setattr(status_module, "PULSE_S", 1.0)  # much longer than a busy machine keeps a thread from a core
    with reporter_to(said) as reporter:
        started = time.monotonic()
        step = 0
        while (seconds := time.monotonic() - started) < 2.5:
            step += 1
            reporter.stepped(step, 1e-4, StepParts(data=0.1))
        assert len(said.heard) <= seconds / interval_s + 4
        assert {status.idle_s for status in said.heard} == {0.0}
        until(lambda: said.heard[-1].step == step)


def test_time_that_the_process_lost_is_not_the_main_threads(said: Said) -> None:
    """A process that was stopped, or whose machine slept, wakes without a standstill to report: a late turn counts as two."""
    with reporter_to(said) as reporter:
        reporter.say("training", 1)
        until(lambda: len(said.heard) > 2)
        with reporter._sending:  # the pulse can make no turn, as in a process that is stopped
            time.sleep(1.0)
        num_heard = len(said.heard)
        until(lambda: len(said.heard) > num_heard + 1)  # the first one was counted before
        assert said.heard[num_heard + 1].idle_s < 0.5


def test_after_the_last_word_nothing_is_said(said: Said) -> None:
    """The link is closed then: the thread is gone when the context is left."""
    with reporter_to(said) as reporter:
        reporter.say("ended", 9)
    assert "pulse" not in [thread.name for thread in threading.enumerate()]
    assert said.heard[-1].doing == "ended"


def test_a_rank_can_speak_before_torch_is_loaded() -> None:
    """Loading it takes seconds, from a dead file server for ever."""
    code = "import sys, plt_tui.training.status, plt_tui.training.worker; sys.exit('torch' in sys.modules)"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
