"""Waiting in turns."""

from __future__ import annotations

import asyncio
import time

from plt_tui.control.waiting import comes
from tests.standstill import found_after


async def test_what_comes_while_the_process_is_stopped_has_come() -> None:
    """The patience is over by the clock when it goes on, and what lies there is heard all the same."""
    heard = asyncio.Event()
    with found_after(0.5, heard):
        assert await comes(heard, within_s=0.1)


async def test_what_does_not_come_is_waited_for_as_long_as_told() -> None:
    """And not for ever."""
    began = time.monotonic()
    assert not await comes(asyncio.Event(), within_s=0.2)
    assert time.monotonic() - began > 0.19
