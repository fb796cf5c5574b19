"""A process that stands still for a while, as one that was stopped or got no core, and finds something when it goes on."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def found_after(seconds: float, event: asyncio.Event) -> Iterator[None]:
    """In a moment the whole loop stands still for so long; a byte that came meanwhile sets `event` when it is read."""
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()

    def stand_still() -> None:
        time.sleep(seconds)
        far.send(b"x")

    with near, far:
        loop.add_reader(near, event.set)
        loop.call_later(0.01, stand_still)
        try:
            yield
        finally:
            loop.remove_reader(near)
