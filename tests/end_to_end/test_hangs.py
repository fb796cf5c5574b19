"""Ranks that stand still: the run names the one that keeps the others waiting, comes back by itself, and loses no bit."""

from __future__ import annotations

import re
from pathlib import Path

from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import Reference, assert_sound
from tests.end_to_end.runs import arm, end_of, train

HANG_S = 8
"""Longer than a busy machine keeps a healthy rank from a word."""
HANGS = {
    "rank.1.step.7": ("stop", 1, "hung in step 7: silent for {}; stopped by a signal, rank 0 waits for it"),
    "rank.1.evaluation.20": ("sleep", 1, "hung in 'evaluating' after step 20: no progress for {}; rank 0 waits for it"),
    "rank.0.sample.30": ("sleep", 0, "hung in 'sampling' after step 30: no progress for {}; rank 1 waits for it"),
    "rank.0.step.44": ("hang", 0, "hung in step 44: silent for {}; native code holds the interpreter, rank 1 waits for it"),
}
"""What is done to which rank where, and what the record must say of it."""


def test_a_run_survives_every_way_a_rank_can_hang(tmp_path: Path, undisturbed: Reference) -> None:
    """Stopped, asleep, holding the interpreter: each is named, with its stacks, and leaves no trace in the bits."""
    arm(tmp_path, "stuck", {point: action for point, (action, _, _) in HANGS.items()})
    lines = train(tmp_path, "stuck", *SMALL, "sample.every=15", f"control.hang_s={HANG_S}", "control.max_restarts=2")
    assert (end_of(lines)["state"], end_of(lines)["step"]) == ("finished", 50)
    feed = assert_sound(tmp_path, "stuck", undisturbed, exit_code=0, failpoints=HANGS, told=lines)
    failures = feed.state.failures
    for failure, (_, rank, words) in zip(failures, HANGS.values(), strict=True):
        assert failure.rank == rank
        assert re.sub(rf"\d+ s \(control\.hang_s is {HANG_S}\)", "{}", failure.message) == words
    stopped, *others = failures
    assert stopped.traceback.startswith("no stacks")
    for failure in others:
        assert "failpoints.py" in failure.traceback
        assert "session.py" in "\n".join(failure.log_tail)
