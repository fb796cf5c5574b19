"""Promises of `control.plateau`: who trains hears once that it brings nothing any more, and again only after it has."""

from __future__ import annotations

import contextlib
import math
import time
from array import array
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.config.alerts import AlertsSection
from plt_tui.config.schema import RunConfig
from plt_tui.control import plateau
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.hub import Hub
from plt_tui.control.options import HubOptions
from plt_tui.control.placement import Placement
from plt_tui.control.plateau import PlateauWatch, Track
from plt_tui.control.record import read_journal
from plt_tui.protocol.events import STEP_COLUMNS, Alert, CommandStatus, Eval, Event, Run, Step
from tests.control.said import rewind

ALERTS = AlertsSection(plateau_steps=300, plateau_delta=0.01)


def session(start_step: int = 0, target_step: int = 10_000) -> Run:
    """A session begins."""
    return Run(name="a", dir="a", world_size=1, params=1, target_step=target_step, start_step=start_step)


def evaluation(step: int, loss: float) -> Eval:
    """An evaluation after `step` steps."""
    return Eval(step=step, loss=loss, perplexity=1.0, bits_per_byte=1.0, accuracy=0.5)


def step(number: int, loss: float) -> Step:
    """One step."""
    return Step(step=number, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def told(events: list[Event], alerts: AlertsSection = ALERTS) -> list[tuple[int, str]]:
    """What a hub that hears `events` says of a plateau, and after how many of them."""
    feed, watch, found = Feed(), PlateauWatch(alerts), []
    for number, event in enumerate(events):
        feed.publish(event)
        news = watch.look(feed)
        if news is not None:
            assert news.topic == "plateau"
            found.append((number, news.text))
            feed.publish(news)
    return found


def evaluations(*losses: float) -> list[Event]:
    """Evaluations every 100 steps, after the beginning of a session."""
    return [session(), *(evaluation(100 * place, loss) for place, loss in enumerate(losses, start=1))]


FLAT = "plateau: for 300 steps no evaluation better by 1 % than 2 at step 100"


@pytest.mark.parametrize(
    ("losses", "found"),
    [
        ([], []),
        ([2.0, 1.9, 1.8, 1.7, 1.6], []),
        ([2.0, 1.99, 1.985, 1.981], [(4, FLAT)]),  # each is better, but not by a share that counts
        ([2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [(4, FLAT)]),  # told once
        ([2.0, 2.0, 2.0, 2.0, 2.0, 1.9], [(4, FLAT), (6, "")]),
        ([2.0, 2.0, 2.0, 1.9, 2.0, 2.0], []),
        ([math.nan, math.nan, math.nan, math.nan, math.nan], []),  # the guard's matter
        ([2.0, math.nan, math.nan, math.nan], [(4, FLAT)]),
        ([2.0, math.inf, 2.0, 1.0], []),
        ([0.0, 0.0, 0.0, 0.0], [(4, FLAT.replace("than 2", "than 0"))]),
        ([-1.0, -2.0, -2.0, -2.0, -2.0], [(5, FLAT.replace("than 2 at step 100", "than -2 at step 200"))]),
    ],
)
def test_a_run_that_gets_no_better_is_told_once(losses: list[float], found: list[tuple[int, str]]) -> None:
    """Once it has not for `plateau_steps`; it is taken back when it gets better, and can come again then."""
    assert told(evaluations(*losses)) == found


def test_it_comes_again_after_it_was_taken_back() -> None:
    """Two plateaus are two alerts."""
    found = told(evaluations(*[2.0] * 5, *[1.5] * 5))
    assert [bool(text) for _, text in found] == [True, False, True]


def test_evaluations_that_are_far_apart_need_a_second_one() -> None:
    """A single worse one is no plateau, however many steps lie in between."""
    far = [session(), evaluation(5000, 2.0), evaluation(10_000, 2.0)]
    assert told(far) == []
    assert len(told([*far, evaluation(15_000, 2.0)])) == 1


@pytest.mark.parametrize(("steps", "target", "patience"), [("auto", 1000, 200), ("auto", 100_000, 20_000), (700, 1000, 700)])
def test_the_patience_is_a_fifth_of_the_run_or_what_was_asked_for(steps: object, target: int, patience: int) -> None:
    """Not a step less."""
    alerts = AlertsSection.model_validate({"plateau_steps": steps})
    events = [session(target_step=target), evaluation(10, 2.0), evaluation(20, 2.0)]
    assert told([*events, evaluation(10 + patience - 1, 2.0)], alerts) == []
    assert len(told([*events, evaluation(10 + patience, 2.0)], alerts)) == 1


def test_it_can_be_switched_off() -> None:
    """0 steps: never, and what stood before is taken back."""
    never = AlertsSection(plateau_steps=0)
    assert told(evaluations(*[2.0] * 50), never) == []
    assert told([Alert(topic="plateau", text="of an earlier session"), *evaluations(2.0)], never) == [(0, "")]


def test_without_evaluations_the_training_loss_counts() -> None:
    """By the means of blocks of 100 steps, so that a noise of several per cent hides nothing and feigns nothing."""
    noise = [0.05 * math.sin(2.4 * number) for number in range(1, 2001)]
    falling = [session(), *(step(n, 3.0 - n / 1000 + noise[n - 1]) for n in range(1, 2001))]
    flat = [session(), *(step(n, 3.0 + noise[n - 1]) for n in range(1, 2001))]
    assert told(falling) == []
    ((place, text),) = told(flat)
    assert place == 400
    assert text.startswith("plateau: for 300 steps no training loss better by 1 % than 3")
    assert text.endswith("at step 100")


def test_with_the_first_evaluation_the_training_loss_counts_no_more() -> None:
    """The alert of the one is taken back when the other becomes the measure; a rewind before it makes it the measure again."""
    flat: list[Event] = [session(), *(step(n, 3.0) for n in range(1, 501))]
    assert [bool(text) for _, text in told([*flat, evaluation(500, 2.5)])] == [True, False]
    again = [*flat, evaluation(500, 2.5), rewind(450, 500), step(451, 3.0)]
    assert [bool(text) for _, text in told(again)] == [True, False, True]


def test_a_rewind_takes_back_what_it_leaves() -> None:
    """The line that the run is on then has another best evaluation, and no plateau yet."""
    back = rewind(150, 400)
    found = told([*evaluations(2.0, 2.0, 2.0, 2.0), back, evaluation(200, 2.0), evaluation(300, 1.0)])
    assert found == [(4, FLAT), (5, "")]


def test_a_restart_from_a_checkpoint_is_no_second_chance() -> None:
    """Steps that are made again count once: the plateau is told where it would have been without the failure."""
    again = [*evaluations(2.0, 2.0, 2.0), session(250), evaluation(300, 2.0), evaluation(400, 2.0)]
    assert told(again) == [(6, FLAT)]


LOSSES = st.sampled_from([1.0, 1.005, 1.5, 2.0, math.nan])
ACTIONS = st.one_of(
    st.tuples(st.just("steps"), st.integers(1, 12), LOSSES),
    st.tuples(st.just("eval"), st.just(0), LOSSES),
    st.tuples(st.just("rewind"), st.integers(0, 20), st.just(0.0)),
    st.tuples(st.just("restart"), st.integers(0, 20), st.just(0.0)),
)


@settings(max_examples=150)
@given(actions=st.lists(ACTIONS, max_size=30))
def test_a_hub_that_starts_again_knows_the_same(actions: list[tuple[str, int, float]]) -> None:
    """Whatever happened: folding the record gives the tracks of the hub that has heard it live, and nothing to tell anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plateau, "BLOCK", 5)
        alerts = AlertsSection(plateau_steps=10, plateau_delta=0.01)
        feed, watch, now = Feed(), PlateauWatch(alerts), 0

        def hear(event: Event) -> None:
            feed.publish(event)
            news = watch.look(feed)
            if news is not None:
                feed.publish(news)

        hear(session())
        for number, (action, count, loss) in enumerate(actions):
            match action:
                case "steps":
                    for _ in range(count):
                        now += 1
                        hear(step(now, loss))
                case "eval":
                    hear(evaluation(now, loss))
                case "rewind":
                    before, now = now, max(0, now - count)
                    hear(rewind(now, before, id_=f"r{number}"))
                case "restart":
                    now = max(0, now - count)
                    hear(session(now))
        fresh = PlateauWatch(alerts)
        assert fresh.look(feed) is None
        assert (fresh.evaluations, fresh.training) == (watch.evaluations, watch.training)


def test_a_long_record_is_read_at_once_and_a_step_costs_nothing() -> None:
    """A million steps without an evaluation are measured in a second or two, and one step more in far less than one by one."""
    feed, rows = Feed(), 1_000_000
    for name in STEP_COLUMNS:
        feed.history.columns[name].extend(array("d", range(1, rows + 1)) if name == "step" else array("d", [2.0]) * rows)
    watch = PlateauWatch(ALERTS)
    began = time.thread_time()
    watch.look(feed)
    whole_s = time.thread_time() - began
    assert len(watch.training.steps) == rows // plateau.BLOCK
    feed.history.append(step(rows + 1, 2.0))
    began = time.thread_time()
    watch.look(feed)
    assert time.thread_time() - began < whole_s / 20


def test_a_record_that_begins_late_is_measured_from_there() -> None:
    """Metrics that were lost, or a step number of another world, cost no time and no memory."""
    feed = Feed()
    feed.history.append(step(10**12 + 1, 2.0))
    feed.history.append(step(10**12 + plateau.BLOCK, 1.0))
    watch = PlateauWatch(ALERTS)
    watch.look(feed)
    assert list(watch.training.steps) == [10**12 + plateau.BLOCK]
    assert watch.training.turns[0].loss == 1.5


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40), st.integers(0, 40))
def test_a_cut_track_is_that_of_its_beginning(losses: list[float], last: int) -> None:
    """Forgetting the end gives what had been known before it."""
    whole, begun = Track(0.01), Track(0.01)
    for number, loss in enumerate(losses, start=1):
        whole.add(number, loss)
        if number <= last:
            begun.add(number, loss)
    whole.cut(last)
    assert whole == begun


def test_the_hub_tells_and_its_successor_does_not_repeat_it(hub_folder: RunFolder) -> None:
    """The alert is in the journal once; the next hub of the run knows of it, and takes it back when there is reason to."""
    config = RunConfig(alerts=ALERTS)
    options = HubOptions(placement=Placement(devices=("cpu",), threads=1))
    texts = []
    for said in (evaluations(2.0, 2.0, 2.0, 2.0), [session(400), evaluation(500, 2.0)], [evaluation(600, 1.0)]):
        hub = Hub(hub_folder, config, options)
        with contextlib.closing(hub._recorder):
            for event in said:
                hub.on_event(event)
        texts.append([event.text for event in read_journal(hub_folder) if isinstance(event, Alert)])
    assert texts == [[FLAT], [FLAT], [FLAT, ""]]


def test_the_alert_is_part_of_the_record() -> None:
    """It stands in the state until it is taken back, as other alerts do."""
    feed, watch = Feed(), PlateauWatch(ALERTS)
    for event in evaluations(2.0, 2.0, 2.0, 2.0):
        feed.publish(event)
    news = watch.look(feed)
    assert news is not None
    feed.publish(replace(news, time=1.0))
    assert feed.state.alerts["plateau"].level == "warning"
    assert isinstance(feed.events[-1], Alert)
    feed.publish(CommandStatus(id="a", name="note", args={}, actor="ana", status="applied", step=400))
    assert watch.look(feed) is None
