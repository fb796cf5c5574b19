"""Textual's driver for a real terminal, and what it lacks: it counts, it asks for the background, and it outlives its terminal.

Decides nothing. Textual 8.2 takes a late answer of the terminal for keys, which here steer a training; it ends the view at a
byte that is no UTF-8, and reads a lost terminal in a tight loop. Invariant: only what a person typed comes out as keys.
"""

from __future__ import annotations

import os
import select
import time
from codecs import getincrementaldecoder
from collections.abc import Iterator
from threading import Event
from typing import Any

from textual import events
from textual._xterm_parser import XTermParser
from textual.driver import Driver
from textual.drivers.linux_driver import LinuxDriver
from textual.message import Message

from plt_tui.views.tui.background import ASK, Answers
from plt_tui.views.tui.pace import LOW_BANDWIDTH, PLAIN, Pace, Spent
from plt_tui.views.tui.squeeze import Squeezer

READ_BYTES = 4096
QUIET_S = 0.1
"""Nothing more comes of what was begun, an escape sequence or an answer, when nothing has come for this long."""
ANSWER_S = 0.1
"""How long the first frame waits for the terminal to tell its background."""
_MUTE = ("linux", "dumb", "")
"""Terminals that would show the question instead of answering it, by TERM."""


class BackgroundTold(Message):
    """The terminal has told, or told anew, whether its background is dark."""

    def __init__(self, *, is_dark: bool) -> None:
        super().__init__()
        self.is_dark = is_dark


class ViewDriver(LinuxDriver):
    """The terminal of a view."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.num_bytes = 0
        """Written so far."""
        self.squeezer: Squeezer | None = None
        """Sends the same picture in fewer bytes, for more of our time; None: all is sent as it comes."""
        self._num_inputs = 0
        self._answers = Answers()
        self._is_told = Event()
        self._is_told.set()
        self._is_dark: bool | None = None

    def spent(self) -> Spent:
        """What the view has used so far."""
        return Spent(cpu_s=time.process_time(), num_bytes=self.num_bytes, num_inputs=self._num_inputs)

    def ask_background(self) -> None:
        """Ask the terminal for its background; the answer comes as BackgroundTold."""
        if os.environ.get("TERM", "") not in _MUTE:
            self._is_told.clear()
            self.write(ASK)
            self.flush()

    def told_background(self, deadline: float) -> bool | None:
        """Whether the background is dark, if that is known; an answer is waited for until `deadline` (monotonic)."""
        self._is_told.wait(max(0.0, deadline - time.monotonic()))
        return self._is_dark

    def write(self, data: str) -> None:
        """Send `data`, counted."""
        if self.squeezer is not None:
            data = self.squeezer.squeezed(data, *self._app.size)
        self.num_bytes += len(data.encode(errors="replace"))
        super().write(data)

    def process_message(self, message: Message) -> None:
        """Count what a person does; Textual does the rest."""
        if isinstance(message, events.InputEvent):
            self._num_inputs += 1
        super().process_message(message)

    def run_input_thread(self) -> None:
        """Turn what comes from the terminal into messages until the driver is told to stop."""
        parser = XTermParser()
        for typed in self._typed():
            for message in parser.feed(typed) if typed else ():
                self.process_message(message)
            for message in parser.tick():
                self.process_message(message)

    def _typed(self) -> Iterator[str]:
        """What a person types, as it comes; empty after every QUIET_S without anything."""
        decode = getincrementaldecoder("utf-8")("replace").decode
        poll = select.poll()
        poll.register(self.fileno, select.POLLIN)
        while not self.exit_event.is_set():
            if not poll.poll(QUIET_S * 1000):
                yield self._answers.release()
                continue
            try:
                data = os.read(self.fileno, READ_BYTES)
            except OSError:  # the other end is gone; `terminal.guarded` ends the view
                data = b""
            if not data:
                self.exit_event.wait(QUIET_S)
                continue
            typed, is_dark = self._answers.feed(decode(data))
            if is_dark is not None:
                self._tell(is_dark=is_dark)
            yield typed

    def _tell(self, *, is_dark: bool) -> None:
        self._is_dark = is_dark
        self._is_told.set()
        self.send_message(BackgroundTold(is_dark=is_dark))


def pace_at(driver: Driver | None, *, low_bandwidth: bool) -> Pace:
    """The pace of a screen on this terminal; it is measured what drawing costs where it goes to somebody (see `spent`)."""
    budget = LOW_BANDWIDTH if low_bandwidth else PLAIN
    return Pace(budget, getattr(driver, "spent", None))
