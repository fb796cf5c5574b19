"""What every door of the hub has in common: what it needs of the hub, what it accepts from a client, and who may be dropped.

Opens no socket. Invariant: a value that came through `parse` can be written back as UTF-8 JSON, so nothing a client sends can
break the journal or another client's stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from plt_tui.control.feed import Feed
from plt_tui.errors import UsageError
from plt_tui.protocol.commands import Command

STALL_S = 60.0
"""A client that has read nothing for this long is dropped."""
GOODBYE_S = 2.0
"""How long a closing door waits for its clients to read what was said last."""


class Hub(Protocol):
    """The part of the hub that its doors use, from the hub's event loop only."""

    @property
    def feed(self) -> Feed:
        """What the run has said."""
        ...

    async def submit(self, command: Command) -> None:
        """Take a command; its fate appears in the feed. Raises: UsageError to refuse it."""
        ...


def parse(message: bytes) -> dict[str, Any]:
    """The JSON object in one message of a client.

    Raises: UsageError when it is no UTF-8 JSON object, nests too deeply, or holds what cannot be written back: non-finite
    numbers (NaN, 1e999) and lone surrogates.
    """
    try:
        value = json.loads(message)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a JSON message: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"a message is a JSON object, not {type(value).__name__}")
    return value


@contextmanager
def dropped_after(transport: asyncio.WriteTransport, stall_s: float) -> Iterator[None]:
    """Cut the connection when the body, which waits for the client to read, takes longer than `stall_s` seconds.

    The wait itself then ends with a ConnectionError. A timer and not `wait_for`, which swallows a cancellation that
    arrives together with the result (Python before 3.12).
    """
    timer = asyncio.get_running_loop().call_later(stall_s, transport.abort)
    try:
        yield
    finally:
        timer.cancel()


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run all of `works` until one ends, then cancel the others and wait for them. Raises: the first error among them."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception):
            raise result
