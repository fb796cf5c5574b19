"""What `make soak` takes for lost or wrong, without hurting anything."""

from __future__ import annotations

import pytest

from benchmarks.soak import Outcome, Tally, differences, lost_save, table
from plt_tui.protocol.events import Checkpoint, Event, Run

SOUND = Outcome({1: 4.0, 2: 3.0, 3: 2.0}, "abc")


def run(start_step: int) -> Run:
    """The beginning of a session."""
    return Run(name="a", dir="a", world_size=2, params=1, target_step=3000, start_step=start_step)


def saved(*steps: int) -> list[Event]:
    """Reported checkpoints."""
    return [Checkpoint(step=step, path=f"step-{step}") for step in steps]


@pytest.mark.parametrize(
    ("events", "sessions", "spoils", "lost"),
    [
        ([run(0), *saved(40, 80), run(80)], 1, False, ""),
        ([run(0), *saved(40, 80), run(40)], 1, False, "step 80"),
        ([run(0), run(0)], 1, False, ""),
        ([run(0), *saved(40, 80), run(40)], 1, True, ""),
        ([run(0), *saved(40, 80), run(0)], 1, True, "step 40"),
        ([run(0), *saved(40), run(0)], 1, True, ""),
        ([run(0), *saved(40, 80), run(40), run(40)], 2, False, ""),
        ([run(0), *saved(40, 80), run(40), *saved(80), run(40)], 2, False, "step 80"),
        ([run(0), *saved(40)], 1, False, ""),
    ],
)
def test_a_reported_checkpoint_that_was_not_gone_on_from_is_lost(
    events: list[Event], sessions: int, spoils: bool, lost: str
) -> None:
    """One may be spoiled by the fault itself; what was given up before is not expected again."""
    problem = lost_save(events, sessions, spoils=spoils)
    assert problem.startswith(lost)
    assert bool(problem) is bool(lost)


@pytest.mark.parametrize(
    ("outcome", "problems"),
    [
        (SOUND, []),
        (Outcome({1: 4.0, 2: 3.0}, ""), []),
        (Outcome({1: 4.0, 2: 3.5, 3: 2.0}, "abc"), ["1 steps have other bits, the first is 2"]),
        (Outcome({1: 4.0, 3: 2.0}, "abc"), ["its steps have a gap"]),
        (Outcome({1: 4.0, 2: 3.0, 3: 2.0}, "xyz"), ["its weights have other bits"]),
    ],
)
def test_a_run_is_compared_with_one_that_nothing_was_done_to(outcome: Outcome, problems: list[str]) -> None:
    """Step by step, and its weights once it is at the target."""
    assert differences(outcome, SOUND) == problems


def test_the_table_has_a_line_for_every_fault_and_one_for_all() -> None:
    """What was lost counts as injected, and never as survived."""
    assert table({"a": Tally([1.0, 3.0]), "b": Tally([], ["it did not end"])}, "today").splitlines() == [
        "today",
        "",
        "| fault | injected | survived | lost | mean time to recover | longest |",
        "|---|---|---|---|---|---|",
        "| a | 2 | 2 | 0 | 2.0 s | 3.0 s |",
        "| b | 1 | 0 | 1 | - | - |",
        "| all | 3 | 2 | 1 | 2.0 s | 3.0 s |",
    ]
