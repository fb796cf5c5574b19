"""What every door of the hub has in common: what it needs of the hub, what it accepts from a client, and who is let in.

Opens no socket. Invariants: a value that came through `parse` can be written back as UTF-8 JSON, so nothing a client sends can
break the journal or another client's stream; a door never has more than twice as many connections as places.
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

SOCKET_PLACES, HTTP_PLACES = 64, 128
"""Places at each door. As many more may wait to be told that it is full; who comes after them is cut off without a word."""
SILENT_S = 1.0
"""A client that has asked for nothing in this time may lose its place to the next one."""
STALL_S = 60.0
"""So may a client that has read nothing for this long; and one that came through the network is dropped."""
PACE_S, BURST_S = 0.25, 5.0
"""Time between two things taken from one client in the long run, and how far it may run ahead: 20 at once, then 4 a second.
A flood waits outside, for the hub shares its cores with the ranks, and a command costs it more than a millisecond."""
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


class Pace:
    """How fast a client is served, or all of them. `every_s`, `ahead_s`: left out, PACE_S and BURST_S."""

    def __init__(self, every_s: float | None = None, ahead_s: float | None = None) -> None:
        self._every_s = PACE_S if every_s is None else every_s
        self._ahead_s = BURST_S if ahead_s is None else ahead_s
        self._due_s = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds to rest before the next thing is taken, one having been taken just now."""
        self._due_s = max(self._due_s, now) + self._every_s
        return max(0.0, self._due_s - now - self._ahead_s)


class Guest(Protocol):
    """A connection, as far as it can be made to go."""

    @property
    def patience_ends(self) -> float:
        """When this guest may lose its place, in the event loop's time; infinity while the door is not waiting for it."""
        ...

    def drop(self) -> None:
        """Cut the connection."""
        ...


class Places:
    """Who is at a door, and who of them has a place. `limit`: how many places there are."""

    def __init__(self, limit: int = SOCKET_PLACES) -> None:
        self.full = f"{limit} clients are connected, and there is no room for more: close one"
        """What those are told who get no place."""
        self._limit = limit
        self._inside: set[Guest] = set()
        self._waiting: set[Guest] = set()
        """Those who are told that there is no room."""

    def take(self, guest: Guest, now: float) -> bool:
        """True when `guest` has a place from now on; it may be that of the one who has tried the door's patience longest."""
        if len(self._inside) >= self._limit:
            late = min(self._inside, key=lambda inside: inside.patience_ends)
            if late.patience_ends <= now:
                self._inside.remove(late)
                late.drop()
        group = self._inside if len(self._inside) < self._limit else self._waiting
        if len(group) >= self._limit:
            guest.drop()
        else:
            group.add(guest)
        return group is self._inside

    def clear(self) -> None:
        """Cut every connection."""
        for guest in (*self._inside, *self._waiting):
            guest.drop()

    def leave(self, guest: Guest) -> None:
        """`guest` is gone."""
        self._inside.discard(guest)
        self._waiting.discard(guest)


def parse(message: bytes) -> dict[str, Any]:
    """The JSON object in one message of a client.

    Raises: UsageError when it is no UTF-8 JSON object, nests too deeply, says a key twice, or holds what cannot be written
    back: non-finite numbers (NaN, 1e999) and lone surrogates.
    """
    try:
        value = json.loads(message.decode(), object_pairs_hook=_object)  # of bytes it would take UTF-16 too
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a JSON message: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"a message is a JSON object, not {type(value).__name__}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands there twice")
    return value


@contextmanager
def dropped_after(transport: asyncio.WriteTransport, stall_s: float) -> Iterator[None]:
    """Cut the connection when the body, which waits for the client to read, takes longer than `stall_s` seconds.

    The wait itself then ends with a ConnectionError. A timer and not `wait_for`, which swallows a cancellation that
    arrives together with the result (Python before 3.12). It cuts in the next turn of the loop: after a hub that was stopped
    itself goes on, the time is over in the same turn in which the client is seen to have read.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.Handle] = []
    timers.append(loop.call_later(stall_s, lambda: timers.append(loop.call_soon(transport.abort))))
    try:
        yield
    finally:
        for timer in timers:
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
