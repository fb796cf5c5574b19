"""Promises of `views.completion`: what can come next is offered, and what is wrong is told while it is typed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.knobs import KNOBS
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import VERBS
from plt_tui.views.commands_text import OWN_VERBS, Asked, parse
from plt_tui.views.completion import (
    HISTORY_LINES,
    Around,
    Completion,
    completion,
    extended,
    hint,
    judge,
    recalled,
    remembered,
)

VALUES = {"lr": "0.003", "prompt": "The ", "grad_clip": "1.0", "weights": "two\nlines"}
"""The last one cannot be typed."""


def effect(asked: Asked) -> str:
    """Stands for the run, which refuses to go back to step 7."""
    if asked.args.get("step") == "7":
        raise UsageError("step 7: nothing is kept there")
    return f"does {asked.verb}"


AROUND = Around(
    value=lambda name: VALUES.get(name, ""),
    refusal=lambda verb: "",
    effect=effect,
    steps=lambda: [500, 400, 0],
    edits=lambda: ["e1", "e2"],
    themes=("monokai", "nord", "textual-dark"),
)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("pa", ("pause",)),
        ("re", ("resume", "rewind")),
        ("eval", ("eval_every",)),
        ("set gr", ("grad_clip",)),
        ("set lr ", ("0.003",)),
        ("lr ", ("0.003",)),
        ("lr 0.", ("0.003",)),
        ("lr 1 ", ("set", "scale", "replan")),
        ("set lr 1 s", ("set", "scale")),
        ("grad_clip 1 ", ()),
        ("top_k ", ()),
        ("set weights ", ()),
        ("prompt ", ("'The '",)),
        ("rewind ", ("500", "400", "0")),
        ("rewind 4", ("400",)),
        ("rewind 400 ", ("skip",)),
        ("stop ", ("--now",)),
        ("undo ", ("e1", "e2")),
        ("theme n", ("nord",)),
        ("theme dark", ("textual-dark",)),
        ("export ", ("csv",)),
        ("note pa", ()),
        ("pause ", ()),
        ("xyzzy ", ()),
        ("ckp", ("checkpoint", "checkpoint_every")),
        ("zz", ()),
    ],
)
def test_what_can_stand_there_is_offered(text: str, options: tuple[str, ...]) -> None:
    """Verbs, knobs, the present value, modes, kept steps, themes: what begins like the word, else what holds its letters."""
    assert completion(text, AROUND).options == options


def test_an_empty_line_offers_everything() -> None:
    """Whatever can begin a line."""
    assert completion("", AROUND).options == (*VERBS, *OWN_VERBS, *KNOBS)


@given(st.text(alphabet="sent lr'0\"1=", max_size=20))
def test_completing_never_loses_what_was_typed(text: str) -> None:
    """What stands before the word stays, and a word that is extended begins as it was typed, or is another one whole."""
    found = completion(text, AROUND)
    longer = extended(text, found)
    assert longer.startswith(text[: found.start])
    assert longer == text or longer.startswith(text) or longer[found.start :].strip() in found.options


@pytest.mark.parametrize(
    ("text", "longer"),
    [
        ("pa", "pause "),
        ("re", "re"),
        ("check", "checkpoint"),
        ("set gr", "set grad_clip "),
        ("set lr 1 s", "set lr 1 s"),
        ("zz", "zz"),
        ("", ""),
        ("ckp", "ckp"),
        ("theme dark", "theme textual-dark "),
    ],
)
def test_tab_goes_as_far_as_is_certain(text: str, longer: str) -> None:
    """One option is taken whole, several as far as they agree."""
    assert extended(text, completion(text, AROUND)) == longer


def test_the_common_beginning_is_that_of_all_options() -> None:
    """The longest that each of them begins with."""
    assert extended("x a", Completion(start=2, options=("abcd", "abce", "abd"))) == "x ab"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("", "empty", ""),
        ("  ", "empty", ""),
        ("pau", "partial", "unknown command 'pau'"),
        ("pause", "good", "does pause"),
        ("pausee", "wrong", "did you mean pause?"),
        ("set", "partial", "name is missing"),
        ("set l", "partial", ""),
        ("set lr ", "partial", "value is missing"),
        ("set zz ", "partial", "value is missing"),
        ("set zz 1", "wrong", "unknown knob 'zz'"),
        ("lr 1e", "wrong", "'1e' is not a number"),
        ("lr 1e-4", "good", "does set"),
        ("lr 1 sc", "partial", "unknown mode 'sc'"),
        ("lr 1 scala", "wrong", "unknown mode 'scala'"),
        ("rewind 7", "wrong", "step 7: nothing is kept there"),
        ("rewind 400 sk", "partial", ""),
        ("theme no", "partial", "there is no 'no'"),
        ("theme nord", "good", "does theme"),
        ("theme xx", "wrong", "there is no 'xx'"),
        ("export csv ", "partial", "PATH is missing"),
        ("goto", "partial", "STEP is missing"),
        ("goto x", "wrong", "whole number"),
    ],
)
def test_a_line_is_judged_while_it_is_typed(text: str, kind: str, words: str) -> None:
    """Unfinished is not wrong; what is good tells what it would do, what is wrong tells why."""
    verdict = judge(text, AROUND)
    assert verdict.kind == kind
    assert words in verdict.words


def test_what_cannot_be_sent_now_is_told_at_the_verb() -> None:
    """A run that is over takes no command, but the view still has its own."""
    over = replace(AROUND, refusal=lambda verb: "the run has finished")
    assert judge("pause", over).words == "pause: the run has finished"
    assert judge("lr 1", over).kind == "wrong"
    assert judge("goto 3", over).kind == "good"


@given(st.text(max_size=30))
def test_what_is_judged_good_can_be_parsed(text: str) -> None:
    """Enter never meets an error."""
    if judge(text, AROUND).kind == "good":
        assert parse(text).verb


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ""),
        ("pa", ""),
        ("pause", "pause  ·  hold all ranks at the next step boundary"),
        ("set", "set NAME VALUE [MODE]  ·  change a knob from the next step on"),
        ("set lr", "set lr VALUE [set|scale|replan]  ·  now 0.003  ·  learning rate, 0 to 10"),
        ("lr 1e-", "set lr VALUE [set|scale|replan]  ·  now 0.003  ·  learning rate, 0 to 10"),
        ("set top_k 5", "set top_k VALUE  ·  tokens to draw samples from, 0: all"),
        ("rewind 4", "rewind STEP [skip N]  ·  go back to the state"),
        ("stop", "stop [--now]  ·  save, then end the run"),
        ("checkpoint b", "checkpoint [NAME]  ·  save now"),
        ("goto 4", "goto STEP  ·  point at a step"),
    ],
)
def test_the_syntax_is_told_with_the_value_in_force(text: str, words: str) -> None:
    """What the verb takes, what the knob's value is now, and what it may be."""
    told = hint(text, AROUND)
    assert told.startswith(words)
    assert bool(told) == bool(words)


LINES = ("pause", "set lr 1", "note a", "set lr 2")


@pytest.mark.parametrize(
    ("typed", "place", "direction", "found"),
    [
        ("", 4, -1, 3),
        ("", 0, -1, 0),
        ("", 3, 1, 4),
        ("set", 4, -1, 3),
        ("set", 3, -1, 1),
        ("set", 1, -1, 1),
        ("set", 1, 1, 3),
        ("set", 3, 1, 4),
        ("x", 4, -1, 4),
        ("pause", 4, -1, 4),
    ],
)
def test_earlier_lines_that_begin_alike_are_walked_through(typed: str, place: int, direction: int, found: int) -> None:
    """Up to the oldest and no further; down to what was typed itself."""
    assert recalled(LINES, typed, place, direction) == found


def test_a_history_holds_each_line_once_and_not_too_many() -> None:
    """The latest use counts; the oldest lines go; what no terminal should see is left out."""
    assert remembered(["a", "b", "a"], ["c", "b", " "]) == ("a", "c", "b")
    assert remembered(["evil \x1b[2J", "x" * 5000, "ok"], []) == ("ok",)
    many = [f"note {number}" for number in range(2 * HISTORY_LINES)]
    assert remembered(many, ["last"]) == (*many[1 - HISTORY_LINES :], "last")
