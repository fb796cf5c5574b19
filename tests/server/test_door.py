"""What every door shares: the border check of messages, and the timer that drops a client."""

from __future__ import annotations

import asyncio
import math

import pytest

from plt_tui.errors import UsageError
from plt_tui.server.door import BURST_S, PACE_S, SOCKET_PLACES, Pace, Places, dropped_after, first_of, parse
from tests.server.hub_fakes import until
from tests.standstill import found_after

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
    "a key twice": b'{"op":"hello","op":"command"}',
    "a key twice inside": b'{"op":"command","command":{"id":"1","id":"2"}}',
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


def test_a_client_may_hurry_for_a_moment_only() -> None:
    """So many things at once as the burst holds, then one per PACE_S; who rests may hurry again."""
    pace = Pace()
    at_once = round(BURST_S / PACE_S)
    assert [pace.wait_s(100.0) for _ in range(at_once)] == [0.0] * at_once
    assert [pace.wait_s(100.0) for _ in range(2)] == pytest.approx([PACE_S, 2 * PACE_S])
    assert pace.wait_s(100.0 + BURST_S + 3 * PACE_S) == 0.0


class Visitor:
    """A guest that only remembers that it was dropped."""

    def __init__(self, patience_ends: float = math.inf) -> None:
        self.patience_ends = patience_ends
        self.is_dropped = False

    def drop(self) -> None:
        self.is_dropped = True


def full() -> tuple[Places, list[Visitor]]:
    """A door all of whose places are taken by guests that it is not waiting for."""
    places, guests = Places(SOCKET_PLACES), [Visitor() for _ in range(SOCKET_PLACES)]
    assert all(places.take(guest, now=0.0) for guest in guests)
    return places, guests


def test_a_full_door_keeps_those_inside_and_tells_who_comes() -> None:
    """As many as have a place may wait for their answer; those after them are dropped, and nobody inside is."""
    places, guests = full()
    comers = [Visitor() for _ in range(3 * SOCKET_PLACES)]
    assert not any(places.take(comer, now=1e9) for comer in comers)
    assert [comer.is_dropped for comer in comers] == [False] * SOCKET_PLACES + [True] * 2 * SOCKET_PLACES
    assert not any(guest.is_dropped for guest in guests)
    places.leave(guests[3])
    assert places.take(Visitor(), now=1e9)


def test_the_guest_who_keeps_a_full_door_waiting_longest_makes_room() -> None:
    """One a comer, the latest first, and only who has used up the door's patience."""
    places, guests = full()
    guests[5].patience_ends, guests[9].patience_ends = 20.0, 10.0
    comers = [Visitor() for _ in range(3)]
    assert [places.take(comer, now) for comer, now in zip(comers, (9.9, 10.0, 19.9), strict=True)] == [False, True, False]
    assert [guest for guest in guests if guest.is_dropped] == [guests[9]]
    places.leave(guests[9])  # as it does when it hears of its end
    assert [places.take(Visitor(), 20.0), places.take(Visitor(), 20.0)] == [True, False]
    assert guests[5].is_dropped


class Wire(asyncio.WriteTransport):
    """A connection that knows whether it was cut."""

    is_cut = False

    def abort(self) -> None:
        """Cut it."""
        self.is_cut = True


async def test_a_client_that_reads_while_the_hub_is_stopped_is_kept() -> None:
    """Its time is over by the clock when the hub goes on, in the same turn of the loop in which it is seen to have read."""
    has_read, wire = asyncio.Event(), Wire()
    with found_after(0.3, has_read):
        with dropped_after(wire, 0.1):
            await has_read.wait()
        await asyncio.sleep(0.05)
    assert not wire.is_cut


async def test_a_client_that_does_not_read_is_cut() -> None:
    """When its time is over."""
    wire = Wire()
    with dropped_after(wire, 0.05):
        await until(lambda: wire.is_cut)
