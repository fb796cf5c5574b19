"""Promises of `views.commands_text`: a line asks for what `plt-tui ctl` would send, or says what would have been right."""

from __future__ import annotations

import shlex
from typing import Any

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.knobs import KNOBS, check_edit
from plt_tui.control.state import RunState, apply
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import PROSE, VERBS, named_args, new_command
from plt_tui.protocol.events import Event
from plt_tui.views.commands_text import OWN_VERBS, TEXT_KNOBS, Asked, parse, spelled_out, told_before

LINES: list[tuple[str, str, dict[str, Any]]] = [
    ("pause", "pause", {}),
    ("  resume ", "resume", {}),
    ("set lr 3e-4", "set", {"name": "lr", "value": "3e-4"}),
    ("lr 3e-4", "set", {"name": "lr", "value": "3e-4"}),
    ("lr 0.5 scale", "set", {"name": "lr", "value": "0.5", "mode": "scale"}),
    ("set batch_size 4 keep", "set", {"name": "batch_size", "value": "4", "mode": "keep"}),
    ("betas 0.8,0.99", "set", {"name": "betas", "value": "0.8,0.99"}),
    ("set prompt it's a  test", "set", {"name": "prompt", "value": "it's a  test"}),
    ("prompt 'The '", "set", {"name": "prompt", "value": "The "}),
    ('set prompt "set"', "set", {"name": "prompt", "value": "set"}),
    ("undo", "undo", {}),
    ("undo abc", "undo", {"edit": "abc"}),
    ("checkpoint best", "checkpoint", {"name": "best"}),
    ("eval", "eval", {}),
    ("sample", "sample", {}),
    ("sample Once upon a time", "sample", {"prompt": "Once upon a time"}),
    ('sample ""', "sample", {"prompt": ""}),
    ("rewind 400", "rewind", {"step": "400"}),
    ("rewind 400 skip 30", "rewind", {"step": "400", "skip": "30"}),
    ("hibernate", "hibernate", {}),
    ("stop", "stop", {}),
    ("stop --now", "stop", {"now": True}),
    ("note it's better 'now'", "note", {"text": "it's better 'now'"}),
    ('note "as in a shell"', "note", {"text": "as in a shell"}),
    ("goto 1200", "goto", {"step": 1200}),
    ("1200", "goto", {"step": 1200}),
    ("theme nord", "theme", {"name": "nord"}),
    ("export csv my losses.csv", "export", {"path": "my losses.csv"}),
    ("metrics", "metrics", {}),
    ("help", "help", {}),
    ("detach", "detach", {}),
    ("q", "q", {}),
]


@pytest.mark.parametrize(("line", "verb", "args"), LINES)
def test_a_line_asks_for_what_it_says(line: str, verb: str, args: dict[str, Any]) -> None:
    """Verbs of the run and of the view, values in quotes or, where only a text can follow, without."""
    assert parse(line) == Asked(verb=verb, args=args)


def test_the_table_above_has_every_verb() -> None:
    """A new verb needs its line."""
    assert {verb for _, verb, _ in LINES} == {*VERBS, *OWN_VERBS}


def test_no_two_things_have_one_name() -> None:
    """Verbs of the run, verbs of the view and knobs can all be the first word of a line."""
    names = [*VERBS, *OWN_VERBS, *KNOBS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    "line", [line for line, verb, _ in LINES if verb in VERBS and "'" not in line and "prompt" not in line]
)
def test_the_shell_sends_the_same(line: str) -> None:
    """`plt-tui ctl RUN` with the same words makes the same command."""
    verb, *values = shlex.split(line)
    now = "--now" in values
    verb, values = spelled_out(verb, [value for value in values if value != "--now"])
    assert named_args(verb, values, now=now) == parse(line).args


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("chekpoint", "unknown command 'chekpoint'; did you mean checkpoint?"),
        ("xyzzy", "unknown command 'xyzzy'; tab lists what there is"),
        ("pause now", "pause takes no arguments, not 1"),
        ("pause --now", "pause takes no arguments, not 1"),
        ("set", "set: name is missing (knob, such as lr)"),
        ("set lr", "set: value is missing (new value)"),
        ("lr", "set: value is missing (new value)"),
        ("lr fast", "lr: 'fast' is not a number (learning rate, 0 to 10)"),
        ("lr 11", "lr: 11 is outside 0 to 10 (learning rate, 0 to 10)"),
        ("lr 1 keep", "lr: unknown mode 'keep'; lr knows set, scale, replan"),
        ("set lrr 1", "unknown knob 'lrr'; known: " + ", ".join(KNOBS)),
        ("set lr '1", "a quote is not closed"),
        ("rewind x", "rewind: step is a whole number from 0 on, not 'x'"),
        ("rewind 400 skip", "rewind: how many batches to skip? such as: rewind 400 skip 30"),
        ("checkpoint ../x", "checkpoint name '../x': use 1 to 64 of A-Z a-z 0-9 . _ - and no leading dot"),
        ("note", "note: text is missing (the remark)"),
        ("goto", "goto: STEP is missing; such as: goto STEP"),
        ("goto -1", "goto: a step is a whole number from 0 on, not '-1'"),
        ("goto ²", "goto: a step is a whole number from 0 on, not '²'"),
        ("goto 1 2", "goto takes STEP"),
        ("help me", "help takes nothing"),
        ("theme", "theme: NAME is missing; such as: theme NAME"),
        ("export csv", "export: PATH is missing; such as: export csv PATH"),
        ("export png x", "export: unknown form 'png'; known: csv"),
    ],
)
def test_a_wrong_line_is_told_what_would_be_right(line: str, said: str) -> None:
    """The word that is wrong, and what is allowed in its place."""
    with pytest.raises(UsageError) as refused:
        parse(line)
    assert str(refused.value) == said


@given(st.text(max_size=40))
def test_any_line_is_taken_or_refused(text: str) -> None:
    """Whatever is typed: a command that the protocol takes, or a sentence; never anything else."""
    if not text.strip():
        return
    try:
        asked = parse(text)
    except UsageError as refused:
        asked, said = None, str(refused)
    assert asked is not None or said
    if asked is not None and not asked.is_own:
        new_command(asked.verb, asked.args)


def test_texts_are_the_values_that_need_no_quotes() -> None:
    """The knobs whose value may hold a blank, and no other."""
    takes_text = []
    for name in KNOBS:
        try:
            check_edit(name, "two words")
            takes_text.append(name)
        except UsageError:
            pass
    assert tuple(takes_text) == TEXT_KNOBS
    assert set(PROSE) <= set(VERBS)


def folded(events: list[Event]) -> RunState:
    """The state after `events`."""
    state = RunState()
    for event in events:
        state = apply(state, event)
    return state


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("lr 1e-4", "-> 0.0001 from step 601 on · 400 steps left"),
        ("batch_size 4 keep", "batch_size 8 -> 4, accumulate 1 -> 2 from step 601 on · global batch kept: 16 sequences"),
        ("undo", "from step 601 on"),
        (
            "rewind 410",
            "back from step 600 to 400 (checkpoint), the newest state kept at or before 410; 200 steps become branch 1",
        ),
        ("pause", "hold all ranks at the next step boundary"),
        ("stop", "save, then end the run"),
        ("stop --now", "end the run without saving"),
        ("goto 3", "point at a step"),
    ],
)
def test_what_a_line_would_do_is_told(line: str, words: str) -> None:
    """Before it is sent, with the numbers of the run as it is now."""
    state = folded(fakes.training())
    assert words in told_before(parse(line), fakes.CONFIG, state)
    assert told_before(parse(line), None, state)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("goto 601", "goto: the run is at step 600"),
        ("undo nothing", "no edit nothing is in force"),
        ("rewind 600", "the run is there already"),
    ],
)
def test_what_the_run_would_refuse_is_refused_before(line: str, said: str) -> None:
    """In the words in which the run itself would refuse it."""
    with pytest.raises(UsageError, match=said):
        told_before(parse(line), fakes.CONFIG, folded(fakes.training()))
