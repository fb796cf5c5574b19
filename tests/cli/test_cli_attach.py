"""Promises of `cli.attach`: what a source tells is taken whole or not at all, however long its hub is silent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from plt_tui.cli import attach
from plt_tui.errors import HubUnreachable
from plt_tui.protocol.events import Event, Phase
from plt_tui.views.source import RecordSource

SAID = [Phase(phase="starting", step=0), Phase(phase="running", step=0)]


class _Hub(RecordSource):
    """One that has told a part, and then ends or does not go on."""

    is_closed = False
    ends = False

    async def events(self) -> AsyncIterator[Event]:
        yield SAID[0]
        if not self.ends:
            await asyncio.Event().wait()

    async def close(self) -> None:
        self.is_closed = True


async def told(source: RecordSource) -> list[Event]:
    """All that `told_so_far` gives."""
    return [event async for event in attach.told_so_far(source, "a")]


def test_a_record_is_told_to_its_end() -> None:
    """The mark behind it is not part of it."""
    assert asyncio.run(told(RecordSource(SAID))) == SAID


@pytest.mark.parametrize(
    ("ends", "said"), [(False, "the hub of a has said nothing for 0.05 s: it is stopped"), (True, "the hub of a ended before")]
)
def test_half_a_story_is_none(ends: bool, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that is stopped (SIGSTOP), or dies meanwhile, is a sentence; the connection is closed."""
    monkeypatch.setattr(attach, "ANSWER_S", 0.05)
    hub = _Hub(())
    hub.ends = ends
    with pytest.raises(HubUnreachable, match=said):
        asyncio.run(told(hub))
    assert hub.is_closed
