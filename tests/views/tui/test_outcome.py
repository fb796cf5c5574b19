"""How a run ended, in words: the cause and no other failure, each rank, what was reached, which command comes next."""

from __future__ import annotations

import dataclasses
from typing import Any

import fakes
import pytest

from plt_tui.protocol.events import Alert, Checkpoint, End, Event, Failed, Logs, Phase, Run, Spike
from plt_tui.views.model import RunModel
from plt_tui.views.tui.outcome import EXIT_WORDS, MAX_RANKS, Outcome, Row, cause_of, outcome
from plt_tui.views.tui.words import PHASES

KILLED = Failed(time=fakes.at(300), rank=0, message="killed by SIGKILL", exit_code=4, step=300, is_signal=True)
CRASH = Phase(phase="failed", reason="its hub is gone without a word; resume: plt-tui run --resume auto --name a", step=20)
RESUME = "plt-tui run --resume auto --name a"


def folded(events: list[Event]) -> RunModel:
    """The model after `events`."""
    model = RunModel()
    for event in events:
        model.fold(event)
    return model


def told(events: list[Event]) -> Outcome:
    """The outcome of the run `a` after `events`."""
    model = folded(events)
    return outcome(model, "a", PHASES[model.state.phase])


def rows(found: Outcome, title: str) -> list[Row]:
    """The rows under a heading; none where there is no such heading."""
    return [row for part in found.parts if part.title == title for row in part.rows]


def texts(found: Outcome, title: str) -> list[tuple[str, str]]:
    """Labels and texts under a heading."""
    return [(row.label, row.text) for row in rows(found, title)]


def session(start_step: int = 0, **changes: Any) -> list[Event]:
    """Ranks begin to train."""
    run = fakes.opening()[3]
    assert isinstance(run, Run)
    return [dataclasses.replace(run, start_step=start_step, **changes), Phase(phase="running", step=start_step)]


def end(exit_code: int, phase: Any = "failed", step: int = 300, reason: str = "") -> End:
    """The run is over."""
    return End(time=fakes.at(step) + 2, phase=phase, step=step, exit_code=exit_code, reason=reason)


RESTARTED = [KILLED, Phase(phase="restarting", step=300), *session(200), *fakes.steps(201, 300)]
"""A failure that the run went on after."""


@pytest.mark.parametrize(
    ("events", "is_cause"),
    [
        ([KILLED, end(4)], True),
        ([KILLED, dataclasses.replace(CRASH, step=300)], True),  # the hub died before it had said the end
        ([Phase(phase="stopping", step=300), KILLED, end(143, "stopped")], True),
        ([*RESTARTED, end(0, "finished")], False),
        ([*RESTARTED, CRASH], False),
        ([KILLED, Phase(phase="restarting", step=300), CRASH], False),
        ([KILLED], False),  # not over yet: the hub may start the ranks again
        ([end(5)], False),
    ],
)
def test_the_cause_is_the_failure_that_nothing_came_after(events: list[Event], is_cause: bool) -> None:
    """A rank that failed long ago, and was started again, is not why the run ended."""
    model = folded([*fakes.opening(), *fakes.steps(1, 300), *events])
    assert cause_of(model) == (KILLED if is_cause else None)


def test_a_failed_run_is_told_from_the_cause_to_the_next_command() -> None:
    """Who failed first, its log, every rank, what was reached, and how to go on."""
    found = told(fakes.failed())
    assert (found.word.text, found.word.tone) == ("failed at step 420 of 1,000", "bad")
    assert found.why == ("exit code 4: a rank failed and could not be started again; rank 1 failed and 3 restarts are used up")
    first = texts(found, "what failed first")
    assert first[0] == ("rank 1", "failed at step 420: MemoryError: 3.2 GiB asked for, 0.4 GiB left")
    assert [part.title for part in found.parts][1] == "what to do next"
    assert texts(found, "logged last") == [
        ("rank 1", "loading batch 421"),
        ("", "Traceback (most recent call last):"),
        ("", "MemoryError: 3.2 GiB asked for, 0.4 GiB left"),
    ]
    assert texts(found, "ranks") == [
        ("rank 1", "failed first"),
        ("rank 0", "ended by the hub, because rank 1 had failed"),
    ]
    facts = dict(texts(found, "how far it came"))
    assert facts["steps"] == "420 of 1,000, 42.0%, 860k tokens"
    assert facts["duration"] == "1m 10s, 1m 03s of it in steps"
    assert facts["best evaluation"].startswith("loss 2.0338, perplexity 7.64, accuracy 49.2%, at step 400")
    assert facts["last checkpoint"] == "checkpoints/step-00000400, 9.44 MiB, 20 steps before the end"
    assert [(row.label, row.text) for row in rows(found, "what to do next") if row.is_command] == [
        ("its whole log", "plt-tui logs a --rank 1"),
        ("go on at step 400", RESUME),
    ]


def test_each_rank_is_told_by_how_its_process_ended() -> None:
    """Exit codes and signals where they are known; whose process the hub ended is not said to have failed."""
    failure = dataclasses.replace(KILLED, exits={"0": -9, "2": 1, "3": -6}, left_alive=[77])
    found = told([*fakes.opening(), *session(world_size=5), failure, end(4)])
    assert texts(found, "ranks") == [
        ("rank 0", "failed first, killed by SIGKILL"),
        ("rank 2", "ended with exit code 1, after rank 0"),
        ("rank 3", "killed by SIGABRT, after rank 0"),
        ("2 others", "ended by the hub, because rank 0 had failed"),
    ]
    assert ("still there", "processes 77") in texts(found, "what failed first")


def test_a_thousand_ranks_are_not_a_thousand_lines() -> None:
    """Those that ended by themselves are counted when they are many."""
    failure = dataclasses.replace(KILLED, rank=7, exits={str(rank): 1 for rank in range(100)})
    found = rows(told([*fakes.opening(), *session(world_size=1000), failure, end(4)]), "ranks")
    assert len(found) == MAX_RANKS + 2
    assert [row.text for row in found[-2:]] == [
        "and 84 more that ended by themselves",
        "ended by the hub, because rank 7 had failed",
    ]


def test_a_run_whose_hub_died_is_told_by_its_last_log_lines() -> None:
    """There is no failure to quote, and what was asked last was never confirmed."""
    asked = fakes.command("c", "checkpoint", {"name": "best"}, -1)[0]
    logs = Logs(lines=[[fakes.at(20), "hub", "ERROR", "OSError: gone"]])
    found = told([*fakes.opening(), *fakes.steps(1, 20), KILLED, *session(20), asked, logs, CRASH])
    assert found.word.text == "failed at step 20 of 1,000"
    assert found.why == CRASH.reason
    assert texts(found, "logged last")[-1] == ("hub", "OSError: gone")
    assert texts(found, "ranks") == [("2 ranks", "ended with their hub: none is left")]
    assert texts(found, "never confirmed") == [(fakes.ACTOR, "checkpoint: best")]
    assert len(texts(found, "earlier failures")) == 1
    assert dict(texts(found, "how far it came"))["last checkpoint"] == "none was saved"
    assert texts(found, "what to do next") == [("the whole log", "plt-tui logs a"), ("begin again", RESUME)]


def test_a_finished_run_is_told_what_can_be_made_of_it() -> None:
    """Its weights' hash, no failure, and commands that use it."""
    found = told(fakes.finished())
    assert found.why == "exit code 0: target reached"
    assert [part.title for part in found.parts] == ["how far it came", "what to do next"]
    assert dict(texts(found, "how far it came"))["weights"] == "sha256 ab12ab12ab12ab12…"
    commands = [text for _, text in texts(found, "what to do next")]
    assert commands == [
        "plt-tui show a",
        "plt-tui report a",
        'plt-tui generate a --prompt "..."',
        "plt-tui eval a",
        f"{RESUME} --set train.steps=2000",
    ]


def test_a_live_run_is_told_as_far_as_it_is() -> None:
    """Nothing has failed and nothing is over; an alert that stands is there."""
    alert = Alert(topic="disk", text="1 GiB left", level="error")
    found = told([*fakes.training(), alert])
    assert found.word.text == "training at step 600 of 1,000"
    assert [part.title for part in found.parts] == ["how far it is", "what to do next", "still standing"]
    assert [text for _, text in texts(found, "what to do next")] == ["plt-tui attach a", "plt-tui ctl a stop"]


def test_a_loss_that_went_to_nan_leads_to_its_texts_and_a_lower_rate() -> None:
    """The step that stopped the run was never completed; the rate proposed is half of the configured one."""
    spike = Spike(time=fakes.at(301), step=301, what="loss", value=float("nan"), z=float("nan"), act="stop")
    before = [*fakes.opening(), *session(config={"optim": {"lr": 0.004}}), *fakes.steps(1, 300)]
    commands = [text for _, text in texts(told([*before, spike, end(3)]), "what to do next")]
    assert commands == ["plt-tui show a --batch 301", f"{RESUME} --set optim.lr=0.002", "plt-tui logs a", RESUME]


@pytest.mark.parametrize("exit_code", [0, 2, 3, 4, 5, 6, 7, 130, 143])
def test_every_exit_code_of_a_run_has_its_words(exit_code: int) -> None:
    """README lists them."""
    assert f"exit code {exit_code}: {EXIT_WORDS[exit_code]}" in told([*fakes.opening(), end(exit_code)]).why


def test_the_clock_of_a_dead_run_stands_still() -> None:
    """The last word was said then, whenever one looks; a checkpoint with a name is told by it."""
    saved = Checkpoint(time=fakes.at(18), step=18, path="checkpoints/step-00000018", name="best")
    model = folded([*fakes.opening(), *fakes.steps(1, 20), saved, CRASH])
    assert model.last_time == fakes.at(20)
    facts = {row.label: row.text for part in outcome(model, "a", PHASES["failed"]).parts for row in part.rows}
    assert facts["duration"] == "8.0s, 3.0s of it in steps"
    assert facts["last checkpoint"] == "checkpoints/step-00000018 “best”, 2 steps before the end"


def test_before_the_first_word_there_is_something_to_say() -> None:
    """The page can be opened while the view still connects."""
    found = told([])
    assert found.word.text == "starting at step 0"
    assert [part.title for part in found.parts] == ["how far it is", "what to do next"]


@pytest.mark.parametrize(
    ("last", "is_told"), [("MemoryError: other", True), ("MemoryError: 3.2 GiB asked for, 0.4 GiB left", False)]
)
def test_a_traceback_is_told_unless_the_log_ends_with_it(last: str, is_told: bool) -> None:
    """The same lines twice are of no use."""
    events = [
        dataclasses.replace(event, traceback=f"Traceback\n\tx()\n{last}\n") if isinstance(event, Failed) else event
        for event in fakes.failed()
    ]
    assert texts(told(events), "traceback") == ([("", "Traceback"), ("", "    x()"), ("", last)] if is_told else [])
