"""The hub that stands behind the doors under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from plt_tui.server import audience as audience_module
from plt_tui.server import connections as connections_module
from tests.server.hub_fakes import FakeHub, until


@pytest.fixture(autouse=True)
def nobody_is_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is connected is told in the tests of it only: in those of a stream it would come in between, sooner or later."""
    monkeypatch.setattr(audience_module, "TELL_S", 1e6)


@pytest.fixture(autouse=True)
def requests_are_in_no_rush(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds in a row would be taken at the pace of a server whose hub trains; that has tests of its own."""
    monkeypatch.setattr(connections_module, "TURN_S", 0.0)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    """A hub; at the end nobody listens to it any more and no task is left."""
    hub = FakeHub()
    yield hub
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert hub.feed._listeners == []
