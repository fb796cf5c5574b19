"""What was lent to threads is waited for."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest

from plt_tui.training import loans as loans_module
from plt_tui.training.loans import Loans


class Thing:
    """What a thread holds."""


def test_a_process_that_was_stopped_waits_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its patience is counted in looks: the thread that holds the thing was stopped too."""
    held, loans, num_looks = [Thing()], Loans(), 0

    def sleep(seconds: float) -> None:
        nonlocal num_looks
        num_looks += 1
        time.sleep(0.2 if num_looks == 1 else seconds)
        if num_looks == 3:
            held.clear()

    monkeypatch.setattr(loans_module, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
    loans.add(held[0])
    loans.settle(patience_s=0.1)
    assert (held, num_looks) == ([], 3)


def test_nobody_waits_for_ever() -> None:
    """Nor for what is held by nobody."""
    held, loans = Thing(), Loans()
    loans.settle(patience_s=1000.0)
    loans.add(held)
    loans.settle(patience_s=0.01)
    assert isinstance(held, Thing)
