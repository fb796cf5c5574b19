"""Textual's idea of an app that has nothing to do, for machines that have."""

from __future__ import annotations

import asyncio
import time

import pytest
import textual.app
import textual.pilot
from textual._wait import wait_for_idle

QUIET_TURNS = 3
"""So many turns of the event loop in a row with nothing else to run: what one turn delivers, the next one works at."""
LONGEST_S = 1.0
"""An app that always has something to do is not waited for longer, as Textual does not."""


@pytest.fixture(autouse=True)
def idle_means_nothing_left_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Textual takes a process that used no CPU for 20 ms for one that is idle; on a busy machine it may just have got none."""

    async def wait(*times: float) -> None:
        await wait_for_idle(*times)
        await nothing_ready(time.monotonic() + LONGEST_S)

    for module in (textual.app, textual.pilot):
        monkeypatch.setattr(module, "wait_for_idle", wait)


async def nothing_ready(give_up_at: float) -> None:
    """Return once the event loop has had QUIET_TURNS with nothing else to run."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # nothing public tells
    num_quiet = 0
    while num_quiet < QUIET_TURNS and time.monotonic() < give_up_at:
        await asyncio.sleep(0)
        num_quiet = 0 if ready else num_quiet + 1
