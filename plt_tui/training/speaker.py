"""What a session says to its hub: rank 0 speaks for all, so what every rank computes is said once.

Main thread of a rank, and the saver's thread. Does not decide anything.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import CommandState, Event
from plt_tui.protocol.link import RankEnd


class Speaker:
    """Sends on rank 0 and is silent on the others."""

    def __init__(self, link: RankEnd, *, is_first: bool) -> None:
        self._link = link
        self._is_first = is_first

    def say(self, event: Event) -> None:
        """Say `event` for the whole run."""
        if self._is_first:
            self._link.send(event)

    def answer(
        self, command: Command, status: CommandState, step: int, reason: str = "", *, before: Any = None, after: Any = None
    ) -> None:
        """Say where `command` is in its life."""
        event = status_of(command, status, step, reason)
        self.say(replace(event, time=time.time(), before=before, after=after))
