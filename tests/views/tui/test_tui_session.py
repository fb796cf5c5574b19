"""A run as the UI holds it: what it says of a hub that does not answer."""

from __future__ import annotations

import asyncio

import fakes
import pytest

from plt_tui.errors import HubUnreachable
from plt_tui.protocol.events import Gauges
from plt_tui.views.source import Source
from plt_tui.views.tui.session import SILENCE_S, RunSession
from tests.server.hub_fakes import until


def session_of(source: Source) -> RunSession:
    """A session on `source`."""

    async def connect() -> Source:
        return source

    return RunSession(connect, name="quickstart", config=fakes.CONFIG, readonly=False, actor=fakes.ACTOR)


async def until_folded(session: RunSession, source: fakes.FakeSource) -> None:
    """Let the session take what its source has."""
    await until(lambda: session.model.is_live and source._live.empty())
    await asyncio.sleep(0)


async def test_a_hub_that_does_not_answer_is_told_and_forgiven() -> None:
    """Not before SILENCE_S, with the seconds that it has been silent, and no longer once it has said anything."""
    source = fakes.FakeSource(fakes.training())
    session = session_of(source)
    session.notice_silence(0.0)
    assert session.trouble == ""  # not connected yet: that has words of its own
    following = asyncio.ensure_future(session.follow())
    await until_folded(session, source)
    for now, words in [(100.0, ""), (100.0 + SILENCE_S - 0.1, ""), (100.0 + SILENCE_S, "for 5 s"), (160.0, "for 60 s")]:
        session.notice_silence(now)
        assert words in session.trouble
        assert bool(session.trouble) == bool(words)
    assert session.refusal() == ""  # what is sent waits for the hub, as its words say
    source.feed(Gauges(cores=[1.0], memory_used_bytes=1, memory_total_bytes=2, gpus=[]))
    await until_folded(session, source)
    session.notice_silence(161.0)
    assert session.trouble == ""
    source.hang_up()
    await following


@pytest.mark.parametrize("is_over", [False, True])
async def test_a_closed_connection_keeps_its_own_words(is_over: bool) -> None:
    """Silence is no news once there is no connection."""
    source = fakes.FakeSource(fakes.finished() if is_over else fakes.training())
    session = session_of(source)
    following = asyncio.ensure_future(session.follow())
    await until_folded(session, source)
    session.notice_silence(0.0)
    source.hang_up()
    await following
    session.notice_silence(100.0)
    assert session.trouble == ("" if is_over else "the hub has closed the connection")


async def test_a_hub_that_breaks_off_is_quoted() -> None:
    """Such as one that has no room for more views."""

    async def connect() -> Source:
        raise HubUnreachable("the hub broke off: \x1b[31m64 clients are connected")

    session = RunSession(connect, name="quickstart", config=fakes.CONFIG, readonly=False, actor=fakes.ACTOR)
    await session.follow()
    assert (session.link, session.trouble) == ("closed", "the hub broke off: \\x1b[31m64 clients are connected")
