"""Promises of `protocol.events`: what was said is what is read, whoever wrote it and however the writer died."""

from __future__ import annotations

import dataclasses
import json
import math
import typing
from array import array
from types import UnionType
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.protocol.events import STEP_COLUMNS, Checkpoint, Event, Phase, Run, Step, Steps
from plt_tui.protocol.framing import decode, decode_lines, encode, from_json, to_json

KINDS = sorted({cls.__name__: cls for cls in Event.__subclasses__()}.values(), key=lambda cls: cls.kind)
"""By class name, because `slots=True` makes a second class, and the first one lives until the garbage collector comes by."""
FINITE = st.floats(allow_nan=False, allow_infinity=False)
JSON_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
BY_TYPE: dict[object, st.SearchStrategy[Any]] = {
    float: st.floats(),
    int: st.integers(),
    str: st.text(),
    bool: st.booleans(),
    type(None): st.none(),
    Any: JSON_VALUES,
}


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field annotated with `hint`; floats inside containers are finite, as the protocol asks."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is UnionType:
        return st.one_of([values_of(argument) for argument in arguments])
    if origin is list:
        return st.lists(FINITE if arguments == (float,) else values_of(arguments[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(st.text(), values_of(arguments[1]), max_size=4)
    return BY_TYPE[hint]


def events_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    """Any event of one kind."""
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: values_of(hints[field.name]) for field in dataclasses.fields(cls)})


ANY_EVENT = st.one_of([events_of(cls) for cls in KINDS])


@given(event=ANY_EVENT)
def test_what_is_decoded_is_what_was_encoded(event: Event) -> None:
    """Every kind comes back field by field; `repr` tells -0.0 from 0.0 and takes nan for nan, so floats keep their bits."""
    assert repr(decode(encode(event))) == repr(event)


@given(event=ANY_EVENT)
def test_an_event_is_one_line_of_strict_json(event: Event) -> None:
    """No newline inside, valid UTF-8, and none of the words that JSON does not have (NaN, Infinity)."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    line = encode(event)
    assert b"\n" not in line
    assert json.loads(line.decode(), parse_constant=refuse)["kind"] == event.kind


def test_every_kind_has_its_own_name() -> None:
    """Two kinds of the same name would be decoded as one."""
    names = [cls.kind for cls in KINDS]
    assert "" not in names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_floats_are_words(value: float) -> None:
    """They travel as "inf", "-inf" and "nan"."""
    step = Step(step=1, loss=value, lr=0.1, grad_norm=value, tokens=1, tokens_per_s=1.0, step_ms=1.0)
    assert json.loads(encode(step))["loss"] == repr(value)
    assert repr(decode(encode(step))) == repr(step)


def test_half_a_surrogate_pair_keeps_its_bits() -> None:
    """As in the path of a file whose name is no UTF-8: whatever names it is said, and costs nobody the event."""
    event = Checkpoint(step=1, path="/disk/caf\udce9/step-00000001", bytes=1, weights_sha256="")
    line = encode(event)
    assert decode(line) == decode(line.decode()) == event


def test_fields_of_a_later_version_are_dropped() -> None:
    """An old view can follow a newer hub."""
    later = {**to_json(Phase(phase="running")), "mood": "good"}
    assert from_json(later) == Phase(phase="running")


def test_fields_with_defaults_may_be_missing() -> None:
    """A new reader can open an old record."""
    old = {"kind": "run", "name": "a", "dir": "/a", "world_size": 1, "params": 1, "target_step": 9}
    assert from_json(old) == Run(name="a", dir="/a", world_size=1, params=1, target_step=9)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "not NoneType"),
        ([], "not list"),
        ({}, "unknown event kind None"),
        ({"kind": "mood"}, "unknown event kind 'mood'"),
        ({"kind": ""}, "unknown event kind ''"),
        ({"kind": ["step"]}, "unknown event kind"),
        ({"kind": "phase"}, "phase"),
        ({"kind": "phase", "phase": "running", "time": None}, "phase"),
        ({"kind": "phase", "phase": "running", "time": [1]}, "phase"),
        ({"kind": "phase", "phase": "running", "time": "soon"}, "soon"),
        ({"kind": "phase", "phase": "running", "time": 10**400}, "phase"),
    ],
)
def test_what_is_no_event_is_a_value_error(value: object, said: str) -> None:
    """Readers catch one exception, and it says what was wrong."""
    with pytest.raises(ValueError, match=said):
        from_json(value)


@pytest.mark.parametrize("line", [b"", b"{", b"\xff\xfe", b"nul", b"\x00" * 512])
def test_what_is_no_json_is_a_value_error(line: bytes) -> None:
    """A piece of a line, binary junk and zeros (what some file systems leave after a power cut) are refused alike."""
    with pytest.raises(ValueError):  # noqa: PT011  (the texts are the json module's)
        decode(line)


def test_a_torn_last_line_ends_the_sequence_wherever_it_tore() -> None:
    """Cut at any byte, a file gives exactly the events whose lines are whole."""
    said = [Phase(phase="running", reason=reason) for reason in ("", "größer", "\n")]
    whole = b"".join(encode(event) + b"\n" for event in said)
    ends = [len(b"".join(encode(event) + b"\n" for event in said[: count + 1])) for count in range(len(said))]
    for size in range(len(whole) + 1):
        complete = sum(size >= end - 1 for end in ends)  # only the newline may be missing
        assert list(decode_lines(whole[:size].splitlines(keepends=True))) == said[:complete]


def test_a_broken_line_before_the_end_is_an_error() -> None:
    """Damage in the middle is not taken for a torn end: what follows would silently be lost."""
    good = encode(Phase(phase="running")) + b"\n"
    with pytest.raises(ValueError, match="Invalid control character"):
        list(decode_lines([good, b'{"kind":"ph\n', good]))


@given(rows=st.lists(st.floats(), max_size=20), data=st.data())
def test_a_block_of_steps_keeps_every_bit_of_its_rows(rows: list[float], data: st.DataObject) -> None:
    """Columns come back as the bytes that went in, for any part of them."""
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    columns = {name: array("d", rows) for name in STEP_COLUMNS}
    block = decode(encode(Steps.from_columns(columns, start, stop)))
    assert isinstance(block, Steps)
    assert block.count == stop - start
    assert all(block.column(name).tobytes() == array("d", rows[start:stop]).tobytes() for name in STEP_COLUMNS)
    for last in range(1, 5):
        assert block.column("loss", last).tobytes() == array("d", rows[start:stop][-last:]).tobytes()
