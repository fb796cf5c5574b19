"""Promises of `control.state`: the fold gives what a person would say of the run, at every moment and after every resume."""

from __future__ import annotations

from array import array
from dataclasses import replace
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.edits import Edit
from plt_tui.control.state import MAX_COMMANDS, MAX_EVALS, RunState, apply
from plt_tui.protocol.events import (
    STEP_COLUMNS,
    Alert,
    CaughtUp,
    Checkpoint,
    CheckpointFailed,
    CommandState,
    CommandStatus,
    Done,
    End,
    Eval,
    Event,
    Failed,
    Gauges,
    Logs,
    Phase,
    Progress,
    RankStatus,
    Run,
    Sample,
    Step,
    Steps,
)

RUN = Run(name="a", dir="/a", world_size=2, params=10, target_step=100, time=1000.0)
SAVED = Checkpoint(step=5, path="checkpoints/step-00000005")
GAUGES = Gauges(cores=[1.0], memory_used_bytes=1, memory_total_bytes=2, gpus=[])
LOST = Failed(rank=1, message="killed by SIGKILL", exit_code=4, is_signal=True)
SAMPLE = Sample(step=5, prompt="The ", text="end")


def step(number: int, time: float = 0.0, **values: Any) -> Step:
    """A step with made-up measurements."""
    given = {"loss": 1.0 / number, "lr": 0.1, "grad_norm": 1.0, "tokens": number * 8, "tokens_per_s": 5.0, "step_ms": 9.0}
    return Step(**{**given, **values, "step": number, "time": time})


def evaluation(number: int, loss: float) -> Eval:
    """An evaluation of which only step and loss matter."""
    return Eval(step=number, loss=loss, perplexity=1.0, bits_per_byte=1.0, accuracy=0.5)


def rank(number: int, doing: str = "training") -> RankStatus:
    """A rank's word about itself."""
    return RankStatus(rank=number, pid=100 + number, doing=doing)


def status(id_: str, state: CommandState, verb: str = "pause", **args: Any) -> CommandStatus:
    """A command's status."""
    return CommandStatus(id=id_, name=verb, args=args, actor="tui", status=state, step=3)


def folded(*events: Event) -> RunState:
    """The state after `events`."""
    return reduce(apply, events, RunState())


TABLE: list[tuple[list[Event], dict[str, Any]]] = [
    ([], {"phase": "starting", "step": 0, "run": None, "eta_s": None, "is_over": False, "end": None}),
    ([RUN], {"run": RUN, "step": 0, "started_at": 1000.0}),
    ([replace(RUN, start_step=40)], {"step": 40}),
    ([Progress(task="tokenising", done=1, total=2), RUN], {"progress": None}),
    ([Progress(task="tokenising", done=1, total=2)], {"progress": Progress(task="tokenising", done=1, total=2)}),
    ([step(1), step(2)], {"step": 2, "last_step": step(2)}),
    ([evaluation(5, 2.0)], {"last_eval": evaluation(5, 2.0), "best_eval": evaluation(5, 2.0)}),
    ([evaluation(5, 2.0), evaluation(9, 3.0)], {"last_eval": evaluation(9, 3.0), "best_eval": evaluation(5, 2.0)}),
    ([evaluation(5, 2.0), evaluation(9, 1.0)], {"best_eval": evaluation(9, 1.0)}),
    ([evaluation(5, 2.0), evaluation(9, float("nan"))], {"best_eval": evaluation(5, 2.0)}),
    ([evaluation(5, float("nan")), evaluation(9, 7.0)], {"best_eval": evaluation(9, 7.0)}),
    ([SAMPLE], {"last_sample": SAMPLE}),
    ([rank(1), rank(0), rank(1, "paused")], {"ranks": {0: rank(0), 1: rank(1, "paused")}}),
    ([rank(0), Phase(phase="restarting")], {"ranks": {}, "restarts": 1, "phase": "restarting"}),
    ([rank(0), Phase(phase="starting")], {"ranks": {}, "restarts": 0}),
    ([rank(0), Phase(phase="paused", reason="by ana")], {"ranks": {0: rank(0)}, "phase": "paused", "reason": "by ana"}),
    ([GAUGES], {"gauges": GAUGES}),
    ([SAVED, replace(SAVED, step=9), SAVED], {"checkpoints": (replace(SAVED, step=9), SAVED)}),
    ([CheckpointFailed(step=5, reason="disk full"), SAVED], {"checkpoints": (SAVED,)}),
    ([LOST, LOST], {"failures": (LOST, LOST)}),
    ([Alert(topic="disk", text="full")], {"alerts": {"disk": Alert(topic="disk", text="full")}}),
    ([Alert(topic="disk", text="full"), Alert(topic="disk", text="")], {"alerts": {}}),
    ([Alert(topic="disk", text="")], {"alerts": {}}),
    ([End(phase="finished", step=9, exit_code=0)], {"phase": "finished", "step": 9, "is_over": True}),
    ([Phase(phase="stopping", reason="by ana"), End(phase="stopped", step=9, exit_code=143)], {"reason": "by ana"}),
    ([Phase(phase="failed")], {"is_over": True}),
    ([End(phase="stopped", step=9, exit_code=143), Phase(phase="starting")], {"end": None, "is_over": False}),
    ([Logs(lines=[]), Done(rank=0, step=3, finished=True), CaughtUp()], {"step": 0, "phase": "starting"}),
]


@pytest.mark.parametrize(("events", "expected"), TABLE)
def test_the_state_after_events(events: list[Event], expected: dict[str, Any]) -> None:
    """Each row: after these events the named fields have these values."""
    state = folded(*events)
    assert {name: getattr(state, name) for name in expected} == expected


def test_the_ranks_of_a_run_whose_hub_died_have_ended() -> None:
    """They died with it: nobody is said to train any more. What is known of them stays."""
    crash = Phase(phase="failed", reason="its hub is gone without a word")
    before = reduce(apply, [RUN, rank(0), rank(1, "evaluating")], RunState())
    state = apply(before, crash)
    assert state.ranks == {number: replace(word, doing="ended") for number, word in before.ranks.items()}
    assert (state.is_over, state.end) == (True, None)


def test_a_failed_save_stands_as_an_alert() -> None:
    """A person sees which step was not saved and why."""
    alert = folded(CheckpointFailed(step=5, reason="No space left on device", time=3.0)).alerts["checkpoint"]
    assert (alert.text, alert.level, alert.time) == ("step 5 not saved: No space left on device", "error", 3.0)


def test_applying_an_event_leaves_the_old_state_as_it_was() -> None:
    """States are values: a reader may keep an old one."""
    before = folded(RUN, rank(0), Alert(topic="a", text="b"))
    copy = replace(before, ranks=dict(before.ranks), alerts=dict(before.alerts))
    apply(apply(before, rank(1)), Alert(topic="a", text=""))
    assert before == copy


def test_a_resume_forgets_what_was_measured_after_its_step() -> None:
    """The abandoned future of a run is neither its last nor its best evaluation, nor is its last step the run's."""
    assert folded(step(20), replace(RUN, start_step=15)).last_step is None
    assert folded(step(20), replace(RUN, start_step=20)).last_step == step(20)
    past = [evaluation(10, 3.0), evaluation(20, 1.0), evaluation(30, 2.0)]
    rewound = folded(RUN, *past, replace(RUN, start_step=15))
    assert (rewound.last_eval, rewound.best_eval) == (past[0], past[0])
    assert folded(RUN, *past, replace(RUN, start_step=5)).best_eval is None
    kept = folded(RUN, *past, replace(RUN, start_step=30))
    assert (kept.last_eval, kept.best_eval) == (past[2], past[1])


def test_of_many_evaluations_the_newest_and_the_best_are_kept() -> None:
    """Whatever is gone back to, the best of what came before it is known."""
    many = [evaluation(number, 1.0 if number == 3 else 9.0 - number * 1e-3) for number in range(1, 2 * MAX_EVALS)]
    state = folded(RUN, *many)
    assert len(state.evals) == MAX_EVALS + 1
    assert (state.last_eval, state.best_eval) == (many[-1], many[2])
    back = folded(RUN, *many, replace(RUN, start_step=many[-2].step))
    assert (back.last_eval, back.best_eval) == (many[-2], many[2])


def test_a_session_lasts_through_restarts_but_not_from_one_hub_to_the_next() -> None:
    """What a person reads as the time that has elapsed."""
    again, later = replace(RUN, time=RUN.time + 50), replace(RUN, time=RUN.time + 900)
    restarted = folded(Phase(phase="starting"), RUN, Phase(phase="running"), Phase(phase="restarting"), again)
    assert restarted.session_at == RUN.time
    assert folded(Phase(phase="starting"), RUN, Phase(phase="starting"), later).session_at == later.time


def steps(first: int, last: int, start: float, each_s: float) -> list[Event]:
    """Steps `first` to `last` of `each_s` seconds, the first one ending at `start`."""
    return [step(number, start + (number - first) * each_s, step_ms=1e3 * each_s) for number in range(first, last + 1)]


def test_the_time_to_go_is_steps_left_times_seconds_per_step() -> None:
    """A steady run of 2 s a step has 2 s for every step that is left."""
    assert folded(RUN, *steps(1, 20, 1000.0, 2.0)).eta_s == pytest.approx(160.0)


def test_the_time_to_go_is_unknown_until_two_steps_of_a_session() -> None:
    """One step says nothing: it holds compilation and the start of the data."""
    assert folded(RUN, step(1, 1000.0)).eta_s is None
    assert folded(step(1, 1000.0), step(2, 1001.0)).eta_s is None  # nobody knows the target yet


def test_the_time_to_go_after_a_resume_counts_this_session_only() -> None:
    """Neither the night between two sessions nor the pace of the old machine is in it."""
    night = [*steps(1, 50, 1000.0, 60.0), End(phase="stopped", step=50, exit_code=143, time=5000.0)]
    resumed = folded(RUN, *night, Phase(phase="starting", time=90_000.0), replace(RUN, start_step=40, time=90_009.0))
    assert resumed.eta_s is None
    assert reduce(apply, steps(41, 60, 90_010.0, 1.0), resumed).eta_s == pytest.approx(40.0)


@pytest.mark.parametrize(
    "hold",
    [
        [Phase(phase="paused", time=1010.0), Phase(phase="running", time=4000.0)],
        [evaluation(10, 1.0)],
        [SAMPLE],
    ],
)
def test_a_hold_between_steps_does_not_count_as_a_step(hold: list[Event]) -> None:
    """An hour's pause, an evaluation or a sample leaves the time to go as it was."""
    state = folded(RUN, *steps(1, 10, 1000.0, 1.0), *hold, *steps(11, 20, 4600.0, 1.0))
    assert state.eta_s == pytest.approx(80.0)


def test_utilisation_is_the_arithmetic_of_a_step_over_the_peak() -> None:
    """5 tokens/s of 20 FLOPs on devices of 400 FLOP/s are a quarter; without a peak nothing is claimed."""
    known = replace(RUN, flops_per_token=20.0, peak_flops=400.0)
    assert folded(known, step(1)).utilisation == 0.25
    assert folded(known).utilisation is None
    assert folded(RUN, step(1)).utilisation is None


def test_the_time_to_go_is_never_negative_and_zero_at_the_end() -> None:
    """Also when the target is passed."""
    assert folded(RUN, *steps(1, 100, 1000.0, 1.0)).eta_s == 0
    assert folded(RUN, *steps(1, 120, 1000.0, 1.0)).eta_s == 0


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0, 30 * 86400.0])
def test_the_time_to_go_survives_a_clock_that_is_set(jump_s: float) -> None:
    """How long a step took is measured by its ranks: an hour that was skipped or came twice is nobody's."""
    state = folded(RUN, *steps(1, 10, 1000.0, 1.0), *steps(11, 20, 1010.0 + jump_s, 1.0))
    assert state.eta_s == pytest.approx(80.0)


def test_commands_keep_the_order_in_which_they_were_asked() -> None:
    """A status replaces the one before it in place, so a list of commands does not jump."""
    state = folded(status("a", "requested"), status("b", "requested"), status("a", "agreed"), status("a", "applied"))
    assert [(command.id, command.status) for command in state.commands] == [("a", "applied"), ("b", "requested")]


def test_old_commands_leave_the_state() -> None:
    """A guard that asks all day does not fill the memory."""
    state = folded(*[status(str(number), "applied") for number in range(MAX_COMMANDS + 5)])
    assert [state.commands[0].id, state.commands[-1].id] == ["5", str(MAX_COMMANDS + 4)]
    assert len(state.commands) == MAX_COMMANDS


def test_applied_changes_become_edits_once() -> None:
    """`set` and `undo` count when they are in force, not before, and a repeated status does not count twice."""
    asked = status("a", "requested", "set", name="lr", value=0.5, mode="scale")
    applied = replace(asked, status="applied", step=8)
    undone = replace(status("b", "applied", "undo", edit="a"), step=9)
    refused = status("c", "refused", "set", name="lr", value=1.0)
    edits = folded(asked, replace(asked, status="agreed"), applied, applied, undone, refused).edits
    assert edits == (
        Edit(id="a", step=8, name="lr", value=0.5, mode="scale", actor="tui"),
        Edit(id="b", step=9, name="undo", value="a", actor="tui"),
    )


def test_an_edit_has_the_parsed_value() -> None:
    """What `ctl` sent as text is the number that the ranks computed with."""
    betas = status("a", "applied", "set", name="betas", value="0.9, 0.99")
    every = status("b", "applied", "set", name="eval_every", value="7")
    assert [edit.value for edit in folded(betas, every).edits] == [(0.9, 0.99), 7]


def block_of(rows: list[Step]) -> Steps:
    """The rows as one block."""
    columns = {name: array("d", [getattr(row, name) for row in rows]) for name in STEP_COLUMNS}
    return Steps.from_columns(columns, 0, len(rows))


@given(gaps=st.lists(st.floats(0.001, 1e4), min_size=1, max_size=30), loss=st.floats(), first=st.integers(1, 10**6))
def test_a_block_is_like_its_steps_one_by_one(gaps: list[float], loss: float, first: int) -> None:
    """A view that gets blocks shows the state of one that was there all the time; only the pace is its last step's."""
    times = [2000.0 + sum(gaps[: count + 1]) for count in range(len(gaps))]
    rows = [step(first + count, time, loss=loss, step_ms=1e3 * gaps[count]) for count, time in enumerate(times)]
    one_by_one, block = folded(RUN, *rows), folded(RUN, block_of(rows))
    assert repr(replace(block, pace=one_by_one.pace)) == repr(one_by_one)
    assert (block.eta_s is None) == (one_by_one.eta_s is None)


def test_blocks_of_a_steady_run_give_its_pace() -> None:
    """The time to go does not depend on how the steps were cut into blocks."""
    rows = [event for event in steps(1, 40, 1000.0, 3.0) if isinstance(event, Step)]
    state = folded(RUN, block_of(rows[:1]), block_of(rows[1:25]), block_of(rows[25:40]))
    assert state.eta_s == pytest.approx(folded(RUN, *rows).eta_s or 0.0)


def test_a_block_of_history_before_the_resume_says_nothing_about_the_pace() -> None:
    """An attaching view gets old steps after the newest `Run`: their seconds are not this session's."""
    old = [event for event in steps(1, 40, -9000.0, 60.0) if isinstance(event, Step)]
    assert folded(replace(RUN, start_step=40), block_of(old)).eta_s is None


def test_the_steps_of_a_branch_are_not_the_run_s() -> None:
    """A view that attaches late gets them too, and shows the step that the run is at."""
    state = folded(RUN, step(20))
    assert apply(state, replace(block_of([step(49), step(50)]), branch=1)) == state


def test_an_empty_block_changes_nothing() -> None:
    """A block without rows has no last step."""
    assert folded(RUN, block_of([])) == folded(RUN)
