"""Promises of `protocol.commands`: a request is known and complete, or it is refused with what would have been right."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.errors import UsageError
from plt_tui.protocol.commands import (
    NAME_PATTERN,
    VERBS,
    check,
    decode,
    encode,
    from_json,
    named_args,
    new_command,
    status_of,
    to_json,
)

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("pause", {}),
    ("resume", {}),
    ("set", {"name": "lr", "value": 0.001}),
    ("set", {"name": "lr", "value": "0.5", "mode": "scale"}),
    ("set", {"name": "eval_every", "value": 0}),
    ("set", {"name": "betas", "value": [0.9, 0.95]}),
    ("undo", {}),
    ("undo", {"edit": "abc"}),
    ("checkpoint", {}),
    ("checkpoint", {"name": "best-so_far.2"}),
    ("eval", {}),
    ("sample", {}),
    ("sample", {"prompt": ""}),
    ("rewind", {"step": 400}),
    ("rewind", {"step": "400", "skip": "30"}),
    ("hibernate", {}),
    ("stop", {}),
    ("stop", {"now": True}),
    ("note", {"text": "looks good"}),
]


@pytest.mark.parametrize(("name", "args"), GOOD)
def test_a_good_command_passes_and_comes_back_from_its_line(name: str, args: dict[str, Any]) -> None:
    """Every verb with its arguments is taken, and `decode` gives what `encode` was given."""
    command = new_command(name, args, actor="tui ana@box")
    assert check(command) is command
    assert decode(encode(command)) == command


def test_the_table_above_has_every_verb() -> None:
    """A new verb needs its row."""
    assert {name for name, _ in GOOD} == set(VERBS)


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("halt", {}, "unknown command 'halt'; known: pause, resume, set"),
        ("", {}, "unknown command ''"),
        ("PAUSE", {}, "unknown command 'PAUSE'"),
        ("pause", {"for": 3}, "pause: unknown argument 'for'; allowed: none"),
        ("set", {"name": "lr", "value": 1, "step": 3}, "unknown argument 'step'; allowed: name, value, mode"),
        ("set", {"value": 1}, "set: name is missing"),
        ("set", {"name": "lr"}, "set: value is missing"),
        ("set", {"name": "lr", "value": None}, "set: value is missing"),
        ("note", {"text": ""}, "note: text is missing"),
        ("stop", {"now": "false"}, "stop: now is true or false, not 'false'"),
        ("stop", {"now": 1}, "stop: now is true or false, not 1"),
        ("rewind", {}, "rewind: step is missing"),
        ("rewind", {"step": -1}, "rewind: step is a whole number from 0 on, not -1"),
        ("rewind", {"step": "soon"}, "rewind: step is a whole number from 0 on, not 'soon'"),
        ("rewind", {"step": 1.5}, "rewind: step is a whole number from 0 on, not 1.5"),
        ("rewind", {"step": True}, "rewind: step is a whole number from 0 on, not True"),
        ("rewind", {"step": 5, "skip": 10**13}, "rewind: skip is a whole number from 0 on"),
        ("note", {"text": {"a": 1}}, "note: text must be text, a number, true or false, or a list of these"),
        ("set", {"name": "betas", "value": [[0.1], 0.2]}, "set: value must be text, a number"),
    ],
)
def test_a_bad_command_is_refused_with_what_would_be_right(name: str, args: dict[str, Any], said: str) -> None:
    """The message names the verb or the argument and what is allowed."""
    with pytest.raises(UsageError, match=re.escape(said)):
        new_command(name, args)


TRAVERSALS = [
    "", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", ".hidden", "a\x00b", "a\n", "a b", "ä", "a" * 65, "%2e%2e", "~",
    "a:b", "$(x)", "\u202ea", "a/", "C:\\x", "*", "\uff0e\uff0e",
]  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSALS)
def test_a_name_never_leaves_its_folder(name: str) -> None:
    """Neither runs nor checkpoints can be called what a shell, a path or a terminal reads as something else."""
    assert NAME_PATTERN.fullmatch(name) is None
    if name:
        with pytest.raises(UsageError, match="checkpoint"):
            new_command("checkpoint", {"name": name})


@pytest.mark.parametrize("name", [["..", "x"], {"a": 1}, 1.5e300])
def test_a_checkpoint_name_that_is_no_text_does_not_slip_past_the_pattern(name: object) -> None:
    """Clients send JSON: a list or an object is refused like a bad name."""
    with pytest.raises(UsageError, match="checkpoint name"):
        new_command("checkpoint", {"name": name})


@given(name=st.from_regex(NAME_PATTERN, fullmatch=True))
def test_every_name_of_the_pattern_is_one_visible_path_component(name: str) -> None:
    """What the pattern lets through is printable ASCII without separators and is not hidden."""
    assert name.isprintable()
    assert name.isascii()
    assert "/" not in name
    assert not name.startswith(".")
    assert 1 <= len(name) <= 64


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "a command is a JSON object"),
        ([], "a command is a JSON object"),
        ({}, "a command needs id"),
        ({"id": "", "name": "pause"}, "a command needs id"),
        ({"id": "x" * 65, "name": "pause"}, "1 to 64 characters"),
        ({"id": 7, "name": "pause"}, "a command needs id"),
        ({"id": "a\x1b[2J", "name": "pause"}, r"command id 'a\\x1b\[2J': use printable characters"),
        ({"id": "x", "name": 7}, "name"),
        ({"id": "x", "name": "pause", "args": []}, "args"),
        ({"id": "x", "name": "pause", "args": None}, "args"),
        ({"id": "x", "name": "halt"}, "unknown command"),
    ],
)
def test_a_message_of_the_wrong_shape_is_refused(value: object, said: str) -> None:
    """What a client sends is checked before anybody acts on it."""
    with pytest.raises(UsageError, match=said):
        from_json(value)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b'"pause"'])
def test_a_line_that_is_no_command_is_refused(line: bytes) -> None:
    """Torn, binary and absurdly nested lines end in UsageError, not in a traceback."""
    with pytest.raises(UsageError):
        decode(line)


def test_the_hub_says_who_asks_not_the_client() -> None:
    """`actor` replaces the claimed one, and a claimed one is bounded."""
    claimed = {**to_json(new_command("pause")), "actor": "x" * 1000}
    assert from_json(claimed, actor="ctl bob@box").actor == "ctl bob@box"
    assert len(from_json(claimed).actor) == 128


def test_ids_differ() -> None:
    """Two requests are never taken for one."""
    assert len({new_command("pause").id for _ in range(1000)}) == 1000


def test_a_status_carries_the_whole_command() -> None:
    """The journal alone tells who asked for what."""
    command = new_command("set", {"name": "lr", "value": 1.0}, actor="tui ana@box")
    status = status_of(command, "refused", step=7, reason="too late")
    assert (status.id, status.name, status.args, status.actor) == (command.id, "set", command.args, "tui ana@box")
    assert (status.status, status.step, status.reason) == ("refused", 7, "too late")


@pytest.mark.parametrize(
    ("verb", "values", "now", "named"),
    [
        ("pause", [], False, {}),
        ("set", ["lr", "3e-4"], False, {"name": "lr", "value": "3e-4"}),
        ("set", ["lr", "0.5", "scale"], False, {"name": "lr", "value": "0.5", "mode": "scale"}),
        ("set", ["batch_size", "4", "keep"], False, {"name": "batch_size", "value": "4", "mode": "keep"}),
        ("set", ["weights", "3,1"], False, {"name": "weights", "value": "3,1"}),
        ("undo", ["abc"], False, {"edit": "abc"}),
        ("checkpoint", ["best"], False, {"name": "best"}),
        ("note", ["new data"], False, {"text": "new data"}),
        ("rewind", ["400"], False, {"step": "400"}),
        ("rewind", ["400", "30"], False, {"step": "400", "skip": "30"}),
        ("rewind", ["400", "skip", "30"], False, {"step": "400", "skip": "30"}),
        ("hibernate", [], False, {}),
        ("stop", [], True, {"now": True}),
        ("stop", [], False, {}),
    ],
)
def test_arguments_of_a_verb_by_position(verb: str, values: list[str], now: bool, named: dict[str, Any]) -> None:
    """In the order of the verb's table; a rewind may be told as people say it."""
    assert named_args(verb, values, now=now) == named


@pytest.mark.parametrize(
    ("verb", "values", "said"),
    [
        ("pause", ["x"], "pause takes no arguments, not 1"),
        ("stop", ["now"], "stop takes no arguments, not 1"),
        ("checkpoint", ["a", "b"], "checkpoint takes at most 1 argument (name), not 2"),
        ("set", ["lr", "1", "set", "x"], "set takes at most 3 arguments (name, value, mode), not 4"),
        ("rewind", ["1", "skip", "2", "3"], "rewind takes at most 2 arguments (step, skip), not 3"),
    ],
)
def test_too_many_arguments_are_refused(verb: str, values: list[str], said: str) -> None:
    """The message says how many there may be."""
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        named_args(verb, values, now=False)


def test_a_skip_without_a_number_is_asked_for() -> None:
    """Half a sentence is not taken for a rewind that skips nothing."""
    with pytest.raises(UsageError, match="rewind 400 skip 30"):
        named_args("rewind", ["400", "skip"], now=False)
