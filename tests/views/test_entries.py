"""Promises of an entry of the lab log: the value before and after, the step, the reason, and one entry for each command."""

from __future__ import annotations

import math
from typing import Any

import pytest
from stories import ANA, START, at, command, story

from plt_tui.control.state import Branch
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CommandStatus,
    End,
    Event,
    Failed,
    Phase,
    RankStatus,
    Sample,
    Spike,
)
from plt_tui.views.entries import clock, entry, fates, knob_of, mode_words, value_code, value_words

LEFT = Branch(number=3, id="r1", first=11, last=30, time=at(30), actor=ANA, skip=5, edits=())


def said(events: list[Event]) -> list[str]:
    """The entries of `events`."""
    known = fates(events)
    return [words for event in events if (words := entry(event, known, [LEFT]))]


@pytest.mark.parametrize(
    ("name", "details", "words"),
    [
        ("set", {"args": {"name": "grad_clip", "value": 0.5}, "before": 1.0, "after": 0.5}, "`grad_clip` `1` → `0.5`"),
        (
            "set",
            {"args": {"name": "lr", "value": 0.5, "mode": "scale"}, "before": 3e-3, "after": 1.5e-3, "reason": "3 -> 1.5"},
            "`lr` `0.003` → `0.0015` (times 0.5 from there on)",
        ),
        (
            "set",
            {"args": {"name": "lr", "value": 1e-4, "mode": "replan"}, "before": 3e-3, "after": 3e-3},
            "`lr` `0.003` → `0.003` (and on to 0.0001 at the last step)",
        ),
        (
            "set",
            {"args": {"name": "batch_size", "value": [4, 2], "mode": "keep"}, "before": 8, "after": 4},
            "`batch_size` `8` → `4` (the same global batch)",
        ),
        ("set", {"args": {"name": "prompt", "value": ""}, "before": "The ", "after": ""}, "`prompt` The → nothing"),
        (
            "set",
            {"args": {"name": "lr", "value": 0.5}, "before": 1.0, "after": 0.5, "reason": "loss is nan"},
            "`lr` `1` → `0.5`: loss is nan",
        ),
        ("set", {"args": {"name": "lr", "value": 0.5}, "reason": "1 -> 0.5"}, "`lr` 1 -&gt; 0.5"),
        ("set", {"args": {"name": "lr", "value": 99}, "status": "refused", "reason": "high"}, "set lr 99: **refused**: high"),
        (
            "rewind",
            {"id": "r1", "args": {"step": 10, "skip": 5}, "before": 30},
            "**rewind** from step 30 to step 10, 5 batches left out; branch 3 is left",
        ),
        ("rewind", {"args": {"step": 10, "skip": 1}}, "**rewind** to step 10, 1 batch left out"),
        ("rewind", {"args": {"step": 10}, "before": 10}, "**rewind** from step 10 to step 10"),
        ("skip_update", {"reason": "loss is nan"}, "the update of this step is left out: loss is nan"),
        ("note", {"args": {"text": "better *now*\nyes"}}, "note: better \\*now\\*<br>yes"),
        ("stop", {"args": {"now": True}}, "stop now"),
        ("checkpoint", {"args": {"name": "best"}, "reason": "checkpoints/best"}, "checkpoint best: checkpoints/best"),
        ("pause", {"wait_s": 61.0}, "pause (asked for at 2026-02-02 02:39:19)"),
        ("pause", {"status": "agreed"}, "pause: no answer"),
    ],
)
def test_a_command_says_what_it_did(name: str, details: dict[str, Any], words: str) -> None:
    """Previous and new value, how the value is meant, the reason, and when it was asked for if it had to wait."""
    assert said(command(name, 10, **details)) == [words]


def test_an_undo_names_its_knob() -> None:
    """It is found by the id of the edit that is taken back; a record that lacks the edit has the reason's words."""
    edit = command("set", 5, id="e", args={"name": "betas", "value": [0.8, 0.9]}, before=[0.9, 0.95], after=[0.8, 0.9])
    undo = command("undo", 6, args={"edit": "e"}, before=[0.8, 0.9], after=[0.9, 0.95])
    assert said([*edit, *undo])[1] == "undo: `betas` `0.8, 0.9` → `0.9, 0.95`"
    status = undo[-1]
    assert isinstance(status, CommandStatus)
    assert knob_of(status, fates(undo)) == ""


def test_a_command_has_one_entry() -> None:
    """Where it first came out; a repeat of its last word adds nothing."""
    assert said([*command("pause", 10), *command("pause", 10)]) == ["pause"]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            Spike(step=1, what="loss", value=8.2, z=9.31, act="skip", reason="loss is far out"),
            "**spike**: loss is far out; z 9.3; act: skip",
        ),
        (Spike(step=1, what="grad_norm", value=math.nan, z=math.nan, act="stop"), "**spike**: grad_norm nan; act: stop"),
        (
            Checkpoint(step=1, path="checkpoints/best", name="best", bytes=2048, seconds=0.5, weights_sha256="ab"),
            "checkpoint `best` saved as `checkpoints/best`, 2 KiB in 500ms, weights `ab`",
        ),
        (Failed(rank=1, message="out | of memory", exit_code=4), "**rank 1 failed**: out \\| of memory"),
        (Phase(phase="restarting", reason="rank 1"), "restarting: rank 1"),
        (Phase(phase="paused", reason="by ana"), ""),
        (Phase(phase="starting"), ""),
        (Alert(topic="disk", text="full", level="error"), "error: full"),
        (Alert(topic="disk", text=""), "disk: all well again"),
        (Sample(step=1, prompt="a", text="b" * 400), f"sample: a{'b' * 299}…"),
        (End(phase="failed", step=1, exit_code=4, reason="rank 1"), "**failed**: rank 1; exit code 4"),
        (RankStatus(rank=0, pid=1, doing="training"), ""),
    ],
)
def test_every_kind_has_its_words(event: Event, words: str) -> None:
    """What only repeats a command, or is seen elsewhere, has none."""
    assert entry(event, fates([]), []) == words


def test_every_event_of_a_story_is_told() -> None:
    """All kinds that a record can hold but steps, session heads, and what a rank says for its hub alone."""
    untold = {type(event).__name__ for event in story() if not entry(event, fates(story()), [])} - {"CommandStatus"}
    assert untold == {"Step", "Run", "Done", "Phase"}


@pytest.mark.parametrize(
    ("value", "words"),
    [(0.1 + 0.2, "0.3"), (8, "8"), ((0.9, 0.95), "0.9, 0.95"), ("a b", "a b"), (True, "True"), ([[1], 2.5], "1, 2.5")],
)
def test_values_in_words(value: object, words: str) -> None:
    """Floats with six digits, lists by their items."""
    assert value_words(value) == words


def test_what_is_not_there_is_nothing() -> None:
    """An empty value is no empty pair of quotes; 0 and False are values."""
    assert [value_code(value) for value in (None, "", [], 0, False)] == ["nothing", "nothing", "nothing", "`0`", "`False`"]
    assert mode_words(1.0, "set") == ""


@pytest.mark.parametrize(
    ("unix_s", "words"), [(START, "2026-02-02 02:40:00"), (0.0, ""), (-1.0, ""), (math.nan, ""), (math.inf, ""), (1e300, "")]
)
def test_times_are_utc(unix_s: float, words: str) -> None:
    """A record from elsewhere may hold any number."""
    assert clock(unix_s) == words
