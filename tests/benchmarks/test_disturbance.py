"""The pure parts of the benchmark of disturbances."""

from __future__ import annotations

import pytest

from benchmarks.disturbance import Hurt, Window, more_waiting, rate, ratio

STEPS = [1.0, 2.0, 3.0, 4.0, 4.5, 5.0, 5.5, 6.0, 7.0, 8.0, 9.0]
"""Ends of steps: one a second, and two a second between 4 and 6."""


def test_a_rate_is_that_between_the_first_and_the_last_step_of_a_window() -> None:
    """Where the window begins and ends within a step does not matter."""
    assert rate(STEPS, Window(began=0.9, ended=3.8)) == 1.0
    assert rate(STEPS, Window(began=3.9, ended=6.1)) == 2.0


def test_a_ratio_is_to_the_windows_around() -> None:
    """A drift of the machine's speed is in both of them."""
    before, during, after = (Window(began=began, ended=ended) for began, ended in [(0.9, 3.1), (3.9, 6.1), (6.9, 9.1)])
    assert ratio(STEPS, Hurt(before=before, during=during, after=after)) == 2.0
    slow_before = Window(began=1.8, ended=6.2)
    slow = Hurt(before=slow_before, during=Window(began=7.8, ended=12.2), after=slow_before)
    assert ratio([step * 2 for step in STEPS], slow) == 2.0


def test_a_run_that_stands_still_has_no_rate() -> None:
    """It is an error, not a missed budget."""
    with pytest.raises(ValueError, match=r"fewer than two steps within 0\.5 s"):
        rate(STEPS, Window(began=1.8, ended=2.3))


def test_waiting_is_compared_with_the_windows_around() -> None:
    """In percent of each window's own time."""
    before, during, after = (Window(began=0.0, ended=ended, waited_s=0.2) for ended in (2.0, 1.0, 4.0))
    assert more_waiting(Hurt(before=before, during=during, after=after)) == pytest.approx(20.0 - (10.0 + 5.0) / 2)
