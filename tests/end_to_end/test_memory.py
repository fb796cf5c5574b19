"""A rank whose memory runs out: the run says so, says what to do, and goes on."""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import Reference, assert_sound
from tests.end_to_end.runs import arm, finish, start

LIMITED = ("sh", "-c", 'ulimit -v 2500000 && exec "$@"', "sh")
"""2.5 GB of addresses: what a rank needs, and not much more."""


def test_memory_that_runs_out_costs_a_restart_and_is_explained(tmp_path: Path, undisturbed: Reference) -> None:
    """The limit is met in Python, on rank 1; the message names the settings that decide how much memory a step takes."""
    point = "rank.1.step.15"
    arm(tmp_path, "greedy", {point: "memory"})
    lines = finish(start(tmp_path, "greedy", *SMALL, within=LIMITED))
    feed = assert_sound(tmp_path, "greedy", undisturbed, exit_code=0, failpoints=[point], told=lines)
    (failure,) = feed.state.failures
    assert (failure.rank, failure.is_signal) == (1, False)
    assert failure.message == (
        "out of memory (MemoryError) with train.batch_size = 4, data.context = 32; "
        "halve train.batch_size and double train.accumulate (the same global batch), or shorten data.context"
    )
