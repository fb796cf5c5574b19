"""Promises of `client.picture`: whatever a run does, a program that is told of it has what its hub has, to the bit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.client.history import Evals, History
from plt_tui.client.picture import Picture
from plt_tui.control.feed import Feed
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.events import (
    STEP_COLUMNS,
    Alert,
    CommandStatus,
    Eval,
    Event,
    Failed,
    Phase,
    Run,
    Sample,
    Spike,
    Step,
)
from plt_tui.server.stream import Reader
from tests.control.said import rewind

STEPS_AT_MOST = 12


def step(number: int, value: float = 1.0) -> Step:
    """A step of which every number is another one; `value` tells one computation of it from the next."""
    return Step(
        time=1e9 + value,
        step=number,
        loss=value,
        lr=value / 3,
        grad_norm=math.nan if number == 5 else 0.1 + value,
        tokens=number * 2**40 + number,
        tokens_per_s=value * 1e3,
        step_ms=value + 0.5,
        data_ms=value / 7,
    )


def evaluation(number: int, loss: float = 2.0) -> Eval:
    """An evaluation after a step."""
    return Eval(
        time=2e9, step=number, loss=loss, perplexity=loss * 2, bits_per_byte=loss / 3, accuracy=0.5, tokens=1000, seconds=0.25
    )


def run(start_step: int) -> Run:
    """A session that starts from `start_step`."""
    return Run(name="a", dir="/a", world_size=1, params=1, target_step=100, start_step=start_step)


ACTS = st.lists(
    st.one_of(
        st.just("step"),
        st.just("eval"),
        st.just("look"),
        st.tuples(st.sampled_from(["restart", "rewind"]), st.integers(0, STEPS_AT_MOST)),
    ),
    max_size=60,
)


def same(history: History, columns: dict[str, object]) -> bool:
    """True when the arrays hold the bits of these columns."""
    return all(
        np.asarray(columns[name], values.dtype).tobytes() == values.tobytes() for name, values in history.as_dict().items()
    )


@given(acts=ACTS)
def test_history_evals_and_branches_are_those_of_the_hub(acts: list[object]) -> None:
    """Whatever is trained, taken back and trained again, and whenever the hub's words come; and the record says the same."""
    feed, last = Feed(), 0
    early, late = Picture(), Picture()
    reader = Reader(feed)
    evaluations: list[Eval] = []
    for number, act in enumerate(acts, start=1):
        match act:
            case "step":
                last += 1
                feed.publish(step(last, float(number)))
            case "eval":
                evaluations = [known for known in evaluations if known.step < last] + [evaluation(last, float(number))]
                feed.publish(evaluations[-1])
            case "look":
                _tell(early, reader)
            case (what, where):
                before, last = last, min(last, int(where))
                feed.publish(run(last) if what == "restart" else rewind(last, before, id_=str(number)))
                evaluations = [known for known in evaluations if known.step <= last]
    _tell(early, reader)
    _tell(late, Reader(feed))
    for picture in (early, late, Picture.of(feed)):
        assert same(picture.history, feed.history.columns)
        assert list(picture.branches) == list(feed.history.branches)
        assert all(same(picture.branches[number], columns) for number, columns in feed.history.branches.items())
        assert picture.evals.step.tolist() == [known.step for known in evaluations]
        assert picture.evals.loss.tolist() == [known.loss for known in evaluations]
        assert (picture.state.step, picture.state.branches) == (feed.state.step, feed.state.branches)
        assert (picture.state.last_eval, picture.state.best_eval) == (feed.state.last_eval, feed.state.best_eval)


def _tell(picture: Picture, reader: Reader) -> None:
    """Let `picture` hear all that it has not heard yet."""
    while news := reader.read():
        for event in news:
            picture.fold(event)


def test_every_column_is_there_with_its_type() -> None:
    """One value per step, whole numbers as such; NaN stays NaN."""
    feed = Feed()
    for number in range(1, 6):
        feed.publish(step(number, number / 10))
    feed.publish(evaluation(5))
    picture = Picture.of(feed)
    history, evals = picture.history, picture.evals
    assert set(history.as_dict()) == set(STEP_COLUMNS)
    assert {name for name, values in history.as_dict().items() if values.dtype == np.int64} == {"step", "tokens"}
    assert (history.step[-1], history.tokens[-1], history.loss[1]) == (5, 5 * 2**40 + 5, 0.2)
    assert np.isnan(history.grad_norm).tolist() == [False] * 4 + [True]
    assert (len(history), len(evals), evals.step[0], evals.accuracy[0], evals.tokens[0]) == (5, 1, 5, 0.5, 1000)


def test_a_value_stays_when_the_run_goes_on_or_back() -> None:
    """What a script holds is of one moment, also while it waits for something else."""
    feed, picture = Feed(), Picture()
    reader = Reader(feed)
    for number in (1, 2, 3):
        feed.publish(step(number, 1.0))
    _tell(picture, reader)
    before = picture.history
    feed.publish(rewind(1, 3))
    feed.publish(step(2, 9.0))
    _tell(picture, reader)
    assert (before.loss.tolist(), picture.history.loss.tolist()) == ([1.0, 1.0, 1.0], [1.0, 9.0])
    assert picture.branches[1].step.tolist() == [2, 3]


def test_a_branch_of_which_no_row_is_known_is_empty() -> None:
    """The record's metrics are gone, and the rewind is known."""
    picture = Picture()
    for event in (run(40), rewind(35)):
        picture.fold(event)
    assert [len(history) for history in picture.branches.values()] == [0]


BAD, GOOD = "a\x1b[2J", "a\\x1b[2J"


def texts(value: object) -> Iterator[str]:
    """Every text in a value, at any depth."""
    match value:
        case str():
            yield value
        case dict():
            yield from texts([*value, *value.values()])
        case list() | tuple():
            for item in value:
                yield from texts(item)
        case _ if dataclasses.is_dataclass(value):
            yield from texts([getattr(value, field.name) for field in dataclasses.fields(value)])


@pytest.mark.parametrize("is_record", [False, True])
def test_no_text_of_a_run_reaches_a_terminal_as_it_is(is_record: bool) -> None:
    """A record may be somebody else's; what a script prints of it must not act on the terminal."""
    args = {"name": "prompt", "value": BAD}
    said: list[Event] = [
        Run(name=BAD, dir=BAD, world_size=1, params=1, target_step=9, environment={BAD: [BAD, 1]}),
        step(1),
        Phase(phase="paused", reason=BAD),
        Sample(step=1, prompt=BAD, text=BAD),
        CommandStatus(id="e", name="set", args=args, actor=BAD, status="applied", step=2, reason=BAD),
        Spike(step=1, what="loss", value=math.inf, z=math.nan, act="warn", reason=BAD),
        Failed(rank=0, message=BAD, exit_code=4, traceback=BAD, log_tail=[BAD]),
        Alert(topic=BAD, text=BAD),
    ]
    feed, picture = Feed(), Picture()
    for event in said:
        feed.publish(event)
    if is_record:
        picture = Picture.of(feed)
    else:
        _tell(picture, Reader(feed))
    assert [text for text in texts(picture.state) if not text.isprintable()] == []
    assert (picture.state.reason, picture.state.edits[0].value, picture.state.run.name) == (GOOD, GOOD, GOOD)
    assert picture.state.last_step == reduce(apply, said, RunState()).last_step


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Picture().history, "<History: no rows>"),
        (Picture().evals, "<Evals: no rows>"),
    ],
)
def test_nothing_yet_in_words(value: History | Evals, words: str) -> None:
    """What a notebook shows before the first step."""
    assert (repr(value), len(value), value.loss.tolist()) == (words, 0, [])


def test_rows_in_words() -> None:
    """How many, which, and where the loss is."""
    picture = Picture()
    for number in (3, 7):
        picture.fold(evaluation(number, 2.5))
    assert repr(picture.evals) == "<Evals: 2 rows, steps 3 to 7, last loss 2.5>"
