"""Waiting in turns of the event loop: time in which this process itself was stopped or starved does not count."""

from __future__ import annotations

import asyncio
import contextlib
import math

TURN_S = 0.05


async def comes(event: asyncio.Event, within_s: float) -> bool:
    """Wait for `event`; False when it was not set within so many seconds, in which this process ran and could have heard."""
    for _ in range(math.ceil(within_s / TURN_S)):
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(event.wait(), TURN_S)
            return True
    return event.is_set()
