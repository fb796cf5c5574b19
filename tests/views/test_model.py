"""RunModel and the sources: what a view knows of a run after its events."""

import math
from array import array
from dataclasses import replace

import fakes
import pytest

from plt_tui.errors import UsageError
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import (
    STEP_COLUMNS,
    Alert,
    CaughtUp,
    Checkpoint,
    CommandStatus,
    Eval,
    Event,
    Failed,
    Logs,
    Plan,
    Recent,
    Run,
    Sample,
    Spike,
    Step,
    Steps,
)
from plt_tui.views.model import MAX_HAPPENINGS, ROUTINE_SHARE, RunModel, StepTable, newest
from plt_tui.views.source import EVENTS_PER_TURN, RecordSource
from tests.control.said import rewind

ESCAPES = (
    "\x1b]2;owned\x1b\\",
    "\x1b]8;;http://evil\x07link",
    "\x1b]52;c;aGk=\x07",
    "\x1bPq#0\x1b\\",
    "\x1b[6n",
    "\x9b31m",
    "\x9d0;title\x9c",
    "\x1b[2J",
    "\x07\x08\x0b\x0c\r",
    "\u202eevil\u202c",
    "\u200b",
    "\x7f",
    "[@click=app.quit]x[/] [/foo]",
    "unterminated \x1b]0;",
)


def folded(*events: Event) -> RunModel:
    """The model after `events`."""
    model = RunModel()
    for event in events:
        model.fold(event)
    return model


def block(first: int, last: int, loss: float = 1.0, branch: int = 0) -> Steps:
    """Steps `first` to `last` by column; `branch`: the one that they lie on."""
    columns = {name: array("d") for name in STEP_COLUMNS}
    for step in range(first, last + 1):
        for name in STEP_COLUMNS:
            columns[name].append(step if name in ("step", "tokens") else loss)
    return replace(Steps.from_columns(columns, 0, last - first + 1), branch=branch)


def test_steps_by_block_and_one_by_one_make_the_same_table() -> None:
    """It does not matter whether steps come as history or live."""
    one_by_one, by_block = StepTable(), StepTable()
    for step in range(1, 8):
        values = {name: float(step) for name in STEP_COLUMNS}
        one_by_one.append(Step(**{**values, "step": step, "tokens": step}))
    columns = {name: array("d", [float(step) for step in range(1, 8)]) for name in STEP_COLUMNS}
    by_block.extend(Steps.from_columns(columns, 0, 7))
    assert one_by_one.columns == by_block.columns


@pytest.mark.parametrize(
    ("blocks", "steps", "generation"),
    [
        ([(1, 3), (4, 5)], [1, 2, 3, 4, 5], 0),
        ([(1, 5), (3, 4)], [1, 2, 3, 4], 1),
        ([(1, 5), (1, 6)], [1, 2, 3, 4, 5, 6], 1),
    ],
)
def test_rows_that_come_again_replace_the_abandoned_ones(
    blocks: list[tuple[int, int]], steps: list[int], generation: int
) -> None:
    """After a resume or a rewind the table holds one branch, and readers can see that it was cut."""
    table = StepTable()
    for first, last in blocks:
        table.extend(block(first, last))
    assert list(table.columns["step"]) == steps
    assert table.generation == generation


def test_an_empty_block_changes_nothing() -> None:
    """A hub may send a block without rows."""
    table = StepTable()
    table.extend(block(1, 0))
    assert len(table) == 0
    assert table.generation == 0


def test_a_session_that_resumes_cuts_steps_and_evaluations_after_its_start() -> None:
    """What lies after the checkpoint belongs to an abandoned branch."""
    evals = [Eval(step=step, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.4) for step in (100, 200)]
    run = Run(name="r", dir="runs/r", world_size=1, params=1, target_step=300, start_step=150)
    model = folded(block(1, 200), *evals, run)
    assert model.steps.columns["step"][-1] == 150
    assert [scores.step for scores in model.evals] == [100]


def eval_at(step: int) -> Eval:
    """An evaluation at `step`."""
    return Eval(step=step, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.4)


def test_a_rewind_cuts_the_line_and_its_steps_are_a_branch() -> None:
    """As a live hub says it: the rows that stay, those of the branch, the rewind, what follows."""
    model = folded(block(1, 50), eval_at(10), eval_at(40), CaughtUp())
    before = dict(model.revisions)
    for event in (block(1, 20), block(21, 35, branch=1), block(36, 50, branch=1), rewind(20, 50), block(21, 25, loss=9.0)):
        model.fold(event)
    assert list(model.steps.columns["step"]) == list(range(1, 26))
    assert list(model.branches[1].columns["step"]) == list(range(21, 51))
    assert set(model.branches[1].columns["loss"]) == {1.0}
    assert [scores.step for scores in model.evals] == [10]
    assert [(left.number, left.first, left.last) for left in model.state.branches] == [(1, 21, 50)]
    assert all(model.revisions[topic] > before.get(topic, 0) for topic in ("state", "steps", "branches", "evals", "story"))


def test_a_rewind_alone_cuts_the_line() -> None:
    """Also before the first row that follows it, and only when it is in force."""
    model = folded(block(1, 50), eval_at(40), replace(rewind(20), status="agreed"))
    assert (len(model.steps), len(model.evals)) == (50, 1)
    model.fold(rewind(20, 50))
    assert (len(model.steps), len(model.evals), model.state.step) == (20, 0, 20)


def test_a_record_read_stream_by_stream_has_the_same_lines() -> None:
    """What happened first, then the branches, then the line."""
    model = folded(eval_at(40), rewind(20, 50), eval_at(25), block(21, 50, branch=1), block(1, 30))
    assert (len(model.steps), list(model.branches), len(model.branches[1])) == (30, [1], 30)
    assert ([scores.step for scores in model.evals], model.state.step) == ([25], 30)


def test_the_evaluations_that_a_rewind_leaves_are_those_of_its_branch() -> None:
    """Also of several rewinds, and of a record; what a resume computes again is on no branch."""
    model = folded(block(1, 50), eval_at(10), eval_at(30), eval_at(40), rewind(20, 50), eval_at(15), eval_at(25))
    assert [[scores.step for scores in model.evals_of(branch)] for branch in (0, 1, 2)] == [[10, 15, 25], [30, 40], []]
    model.fold(rewind(12, 30, id_="again"))
    assert [[scores.step for scores in model.evals_of(branch)] for branch in (0, 1, 2)] == [[10], [30, 40], [15, 25]]
    model.fold(rewind(12, 12, id_="nowhere"))
    assert [scores.step for scores in model.evals_of(2)] == [15, 25]
    model.fold(Run(name="r", dir="runs/r", world_size=1, params=1, target_step=300, start_step=5))
    assert [[scores.step for scores in model.evals_of(branch)] for branch in (0, 1, 2)] == [[], [30, 40], [15, 25]]


def test_a_spike_is_told_and_remembered() -> None:
    """Live ones are news, all are part of the story; plans and states in memory are neither."""
    spike = Spike(step=3, what="loss", value=9.0, z=7.0, act="skip", reason="\x1b[2J")
    plan, recent = Plan(step=4, target_step=9, tokens_per_step=8, steps_per_epoch=2.0), Recent(steps=[3], bytes=1, seconds=0.1)
    model = folded(spike, plan, recent, CaughtUp())
    assert model.take_news() == []
    for event in (plan, recent, spike):
        model.fold(event)
    (news,) = model.take_news()
    assert isinstance(news, Spike)
    assert news.reason == "\\x1b[2J"
    assert [type(happening.event) for happening in model.happenings.values()] == [Spike, Spike]
    assert model.state.recent == recent


def test_a_command_is_one_happening_through_all_its_life() -> None:
    """requested, agreed, applied: one entry that grows, in the place of its first word."""
    words = fakes.command("a", "pause", {}, 7)
    note = fakes.command("b", "note", {"text": "x"}, 7)
    model = folded(words[0], note[0], *words[1:])
    first = next(iter(model.happenings.values()))
    assert first.life == ("requested", "agreed", "applied")
    assert isinstance(first.event, CommandStatus)
    assert first.event.step == 7
    assert len(model.happenings) == 2


def test_happenings_are_a_ring() -> None:
    """A run of a million steps does not fill the view's memory."""
    model = folded(*(Alert(topic="t", text=str(number)) for number in range(MAX_HAPPENINGS + 10)))
    assert len(model.happenings) == MAX_HAPPENINGS


def test_an_intervention_outlives_what_is_routine() -> None:
    """Thousands of evaluations and checkpoints push no edit out; among thousands of edits the newest evaluations stay."""
    edit = fakes.command("e1", "set", {"name": "lr", "value": 0.5, "mode": "scale"}, 7)
    saved = [Checkpoint(step=step, path="p") for step in range(10, MAX_HAPPENINGS)]
    model = folded(*edit, Checkpoint(step=8, path="p", name="good"), *map(eval_at, range(MAX_HAPPENINGS)), *saved)
    kept = [happening.event for happening in model.happenings.values()]
    assert len(kept) == MAX_HAPPENINGS
    assert [type(event) for event in kept[:2]] == [CommandStatus, Checkpoint]
    assert kept[-1].step == MAX_HAPPENINGS - 1  # type: ignore[attr-defined]
    for number in range(3 * MAX_HAPPENINGS):
        model.fold(fakes.command(str(number), "note", {"text": "x"}, number)[-1])
        model.fold(eval_at(number))
    kept = [happening.event for happening in model.happenings.values()]
    num_evals = MAX_HAPPENINGS // ROUTINE_SHARE
    assert [event.step for event in kept if isinstance(event, Eval)] == [*range(3 * MAX_HAPPENINGS)][-num_evals:]
    assert len(kept) == MAX_HAPPENINGS


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("", ""),
        ("iii", "iii"),
        ("rrrrrr", "rrrr"),
        ("irrrrrr", "irrr"),
        ("iiriii", "riii"),
        ("iiiir", "iiir"),
        ("rriiii", "riii"),
    ],
)
def test_of_many_things_the_rare_ones_are_kept(told: str, kept: str) -> None:
    """In their order, the newest of each kind; what is routine (r) has the room that is left, and a quarter at least."""
    events = {"i": Alert(topic="t", text="x"), "r": eval_at(1)}
    assert "".join(newest(told, 4, lambda letter: events[letter])) == kept


def test_history_is_no_news() -> None:
    """Attaching to a run with a long past opens no toasts."""
    model = folded(*fakes.training(), CaughtUp())
    assert model.take_news() == []
    model.fold(Alert(topic="disk", text="nearly full"))
    assert [type(event) for event in model.take_news()] == [Alert]
    assert model.take_news() == []


def texts(value: object) -> list[str]:
    """All texts in nested built-in values."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for pair in value.items() for part in pair for text in texts(part)]
    if isinstance(value, list | tuple):
        return [text for part in value for text in texts(part)]
    return []


@pytest.mark.parametrize("evil", ESCAPES)
def test_no_text_gets_past_the_door_unfiltered(evil: str) -> None:
    """Whatever a rank, a sample or a name holds, the model keeps printable text only."""
    model = folded(
        Logs(lines=[[0.0, evil, "INFO", evil]]),
        Sample(step=1, prompt=evil, text=evil),
        Failed(rank=0, message=evil, exit_code=4, traceback=evil, log_tail=[evil]),
        *fakes.command("a", "note", {"text": evil}, 1, actor=evil, reason=evil),
        Alert(topic="t", text=evil),
        replace(fakes.machine(1)[0], gpu_reason=evil, gpus=[{"name": evil, "reason": evil}]),
    )
    kept = [*texts([*model.logs.lines]), model.samples[0].prompt, model.samples[0].text]
    for happening in model.happenings.values():
        kept += texts([getattr(happening.event, name) for name in happening.event.__slots__])
    assert model.state.gauges is not None
    kept += texts([model.state.gauges.gpus, model.state.gauges.gpu_reason, model.state.failures[0].log_tail])
    assert len(kept) > 15
    assert all(char.isprintable() or char in "\n\t" for text in kept for char in text)


async def test_a_record_gives_its_events_and_then_says_that_it_is_over() -> None:
    """A finished run is read with the loop left free for keys, and ends with CaughtUp."""
    record: list[Event] = [*fakes.finished()] * (1 + EVENTS_PER_TURN // 100)
    seen = [event async for event in RecordSource(record).events()]
    assert seen[:-1] == record
    assert seen[-1] == CaughtUp()


async def test_a_record_takes_no_command() -> None:
    """The refusal says what to do instead."""
    with pytest.raises(UsageError, match="--resume auto"):
        await RecordSource([]).send(new_command("pause"))


def test_a_loss_that_is_not_a_number_is_kept() -> None:
    """NaN is information: the chart marks it."""
    model = folded(fakes.step_event(1, fakes.random.Random(1)))
    model.fold(replace(fakes.step_event(2, fakes.random.Random(1)), loss=math.nan))
    assert math.isnan(model.steps.columns["loss"][-1])
