"""The introduction of a run on another machine: whole or refused, whatever comes."""

from __future__ import annotations

import json

import pytest

from plt_tui.protocol.remote import CUT, START, VERSION, Introduction, decode, encode

RUN = Introduction(name="quick\nstart", config='[data]\ntrain = "日本 \\u001b"\n', live=True, program="0.1.0")


def test_an_introduction_comes_back_as_it_was() -> None:
    """One line, which begins as the view looks for it and has no end of a cut line in it."""
    line = encode(RUN)
    assert decode(line) == RUN
    assert line.startswith(START)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert not line.endswith(CUT)


def changed(**values: object) -> bytes:
    """An introduction with other values; None takes one out."""
    value = {**json.loads(encode(RUN)), **values}
    return json.dumps({name: each for name, each in value.items() if each is not None}).encode()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (changed(version=VERSION + 1, program="9.9"), r"version 2 of attach --stdio \(plt-tui 9\.9\).*install the same one"),
        (changed(version=None), "version None of attach"),
        (changed(version="\x1b[2J"), r"version '\\x1b\[2J'"),
        (changed(name=None), "lacks a name"),
        (changed(name=1), "lacks a name"),
        (changed(config=["x"]), "lacks a name"),
        (changed(live="yes"), "lacks a name"),
        (changed(kind="run"), "is none"),
        (b"[]", "is none"),
        (b"[" * 100_000, "nests too deeply"),
        (START, "Expecting"),
        (b"\xff", "decode"),
    ],
)
def test_what_is_no_introduction_is_told(line: bytes, said: str) -> None:
    """A sentence, and nothing else, whatever the other side sends."""
    with pytest.raises(ValueError, match=said):
        decode(line)
