"""The hub that stands behind the doors under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.server.hub_fakes import FakeHub, until


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    """A hub; at the end nobody listens to it any more and no task is left."""
    hub = FakeHub()
    yield hub
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    assert hub.feed._listeners == []
