"""Ranks that are killed, crash or leave: the run names the cause, comes back by itself, and computes what it would have."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import Reference, assert_sound
from tests.end_to_end.runs import arm, finish, has_fired, start, train, wait_until

FAULTS = {
    "rank.1.building": ("abort", (1, "killed by SIGABRT", 0, True)),
    "rank.0.evaluation.20": ("segv", (0, "killed by SIGSEGV", 20, False)),
    "rank.0.step.36": ("exit", (0, "ended with exit code 1 and no message", 35, False)),
    "rank.1.step.45": ("kill", (1, "killed by SIGKILL", 44, False)),
}
"""What is done to which rank where, and what the record must say: rank, reason, completed steps, before the first one."""


def test_a_run_survives_every_way_a_rank_can_die(tmp_path: Path, undisturbed: Reference) -> None:
    """Four faults with one restart allowed, each behind a checkpoint, are survived; the last one, at once again, is not.

    Each is named with rank, reason and step. Started once more, the run ends with the bits of one that nothing was done to.
    """
    (*_, last), last_said = FAULTS, FAULTS["rank.1.step.45"][1]
    arm(tmp_path, "hurt", {point: action for point, (action, _) in FAULTS.items()})
    process = start(tmp_path, "hurt", *SMALL, "control.max_restarts=1")
    wait_until(lambda: has_fired(tmp_path, "hurt", last), 90.0)
    arm(tmp_path, "hurt", {last: "kill"})
    told = finish(process, exit_code=4)
    feed = assert_sound(tmp_path, "hurt", undisturbed, exit_code=4, failpoints=FAULTS, told=told)
    failures = feed.state.failures
    named = [(failure.rank, failure.message, failure.step, failure.while_starting) for failure in failures]
    assert named == [*(said for _, said in FAULTS.values()), last_said]
    assert all(failure.log_tail for failure in failures[1:])
    assert feed.state.restarts == len(FAULTS)
    assert feed.state.reason == "rank 1 failed at step 44: killed by SIGKILL (the second time at this step)"
    assert (tmp_path / "hurt.stderr").read_text() == f"plt-tui: {feed.state.reason}\n"
    told = train(tmp_path, "hurt", *SMALL)
    assert_sound(tmp_path, "hurt", undisturbed, exit_code=0, told=told)
