"""What every door shares: the border check of messages, and the timer that drops a client."""

from __future__ import annotations

import asyncio

import pytest

from plt_tui.errors import UsageError
from plt_tui.server.door import first_of, parse

BAD = {
    "not JSON": b"hello",
    "no object": b'["op"]',
    "a bare number": b"1",
    "bad UTF-8": b'{"op":"\xff"}',
    "NaN": b'{"op":NaN}',
    "infinite by overflow": b'{"op":1e999}',
    "lone surrogate": b'{"op":"\\ud800"}',
    "depth bomb": b"[" * 60_000,
    "depth bomb of objects": b'{"a":' * 100_000,
    "huge integer": b'{"op":' + b"9" * 60_000 + b"}",
    "empty": b"",
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD)
def test_bad_messages_are_refused(message: bytes) -> None:
    """Whatever is no JSON object, or could not be written back, is a UsageError and nothing else."""
    with pytest.raises(UsageError):
        parse(message)


def test_a_good_message_comes_through_unchanged() -> None:
    """Text of any script and nested values survive."""
    assert parse('{"op":"x","a":[1,{"b":"日本\\u202e"}]}'.encode()) == {"op": "x", "a": [1, {"b": "日本\u202e"}]}


async def test_first_of_cancels_the_others_and_waits_for_them() -> None:
    """When one work ends, the others are cancelled and have cleaned up before `first_of` returns."""
    cleaned = []

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async def short() -> None:
        await asyncio.sleep(0)

    await first_of(endless(), short())
    assert cleaned == [True]


async def test_first_of_raises_the_error_of_a_work() -> None:
    """An error is not swallowed."""

    async def broken() -> None:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError, match="gone"):
        await first_of(broken(), asyncio.sleep(60))
