"""`show --json`: its keys are a contract, and it is plain JSON for every state."""

from __future__ import annotations

import json
from typing import Any

from plt_tui.control.state import MAX_SPIKES, RunState, apply
from plt_tui.control.summary import json_ready, summary
from plt_tui.protocol.events import Alert, Checkpoint, End, Eval, Event, Phase, Plan, RankStatus, Run, Spike, Step
from tests.control.said import rewind

RUN = Run(time=1.0, name="demo", dir="d", world_size=2, params=7, target_step=10, train_tokens=128, device="cpu")
STEP = Step(time=2.0, step=2, loss=float("nan"), lr=0.1, grad_norm=1.0, tokens=64, tokens_per_s=9.0, step_ms=1.0)
CONTRACT = {"name", "state", "step", "world_size", "ranks", "last", "weights_sha256"}


def folded(*events: Event) -> dict[str, Any]:
    """The summary after `events`."""
    state = RunState()
    for event in events:
        state = apply(state, event)
    return summary(state, "demo")


def test_the_contract_keys_are_there_from_the_beginning() -> None:
    """A run that has said nothing has every key, as valid JSON."""
    facts = folded()
    assert facts.keys() >= CONTRACT
    assert (facts["name"], facts["state"], facts["step"], facts["last"], facts["ranks"]) == ("demo", "starting", 0, None, [])
    json.dumps(facts, allow_nan=False)


def test_a_live_run_in_numbers() -> None:
    """State, ranks in order, last step with NaN as text, evaluation, alerts."""
    facts = folded(
        RUN,
        Phase(phase="running"),
        RankStatus(rank=1, pid=51, doing="training", step=2),
        RankStatus(rank=0, pid=50, doing="training", step=2),
        STEP,
        Eval(step=2, loss=1.5, perplexity=4.5, bits_per_byte=2.0, accuracy=0.5),
        Alert(topic="disk", text="nearly full"),
    )
    assert facts["ranks"] == [{"rank": 0, "pid": 50, "step": 2}, {"rank": 1, "pid": 51, "step": 2}]
    assert facts["last"] == {"loss": "nan", "lr": 0.1, "tokens_per_s": 9.0}
    assert (facts["state"], facts["epoch"], facts["accuracy"], facts["exit_code"]) == ("running", 0.5, 0.5, None)
    assert facts["alerts"] == [{"topic": "disk", "level": "warning", "text": "nearly full"}]
    json.dumps(facts, allow_nan=False)


def test_the_epoch_counts_what_was_trained_on_not_the_steps() -> None:
    """A larger batch from step 2 on makes no passes of the steps before it; before the first step nothing is known."""
    plan = Plan(step=2, target_step=10, tokens_per_step=64, steps_per_epoch=2.0)
    assert folded(RUN)["epoch"] is None
    assert folded(RUN, STEP)["epoch"] == folded(RUN, STEP, plan)["epoch"] == 0.5


def test_the_weights_are_those_of_now() -> None:
    """A checkpoint of another step does not name the present weights; one of this step does, and the end above all."""
    old = Checkpoint(step=1, path="c1", weights_sha256="old")
    saved = Checkpoint(step=2, path="c2", weights_sha256="now")
    end = End(phase="finished", step=2, exit_code=0, weights_sha256="end")
    assert folded(RUN, old, STEP)["weights_sha256"] == ""
    assert folded(RUN, old, STEP, saved)["weights_sha256"] == "now"
    facts = folded(RUN, old, STEP, saved, end)
    assert (facts["weights_sha256"], facts["state"], facts["exit_code"], facts["eta_s"]) == ("end", "finished", 0, None)


def test_branches_and_spikes() -> None:
    """Each branch in five keys; spikes are counted, also those that the state has forgotten; the branch's numbers are gone."""
    spike = Spike(step=2, what="loss", value=9.0, z=7.0, act="skip")
    facts = folded(RUN, STEP, *[spike] * (MAX_SPIKES + 1), rewind(1, skip=3, actor="guard"))
    assert facts["branches"] == [{"number": 1, "first": 2, "last": 2, "skip": 3, "actor": "guard"}]
    assert (facts["spikes"], facts["guard_acts"]) == (MAX_SPIKES + 1, MAX_SPIKES + 1)
    assert (facts["step"], facts["tokens"], facts["last"]) == (1, 0, None)


def test_json_ready_spells_out_what_json_cannot() -> None:
    """Non-finite floats at any depth become text; everything else is unchanged."""
    value = {"a": [1, float("inf"), {"b": (float("-inf"), 0.1)}], "c": None, "d": True, "e": "x"}
    assert json_ready(value) == {"a": [1, "inf", {"b": ["-inf", 0.1]}], "c": None, "d": True, "e": "x"}
