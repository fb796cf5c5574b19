"""Textual's driver for a view in a web page, and what it lacks: it counts what the view uses, as that for a terminal does.

`plt_tui.web` names it in the environment of the views that it starts. Invariant: a view in a page is as sparing with the cores
that train as one in a terminal.
"""

from __future__ import annotations

import time
from typing import Any

from textual import events
from textual.drivers.web_driver import WebDriver
from textual.message import Message

from plt_tui.views.tui.pace import Spent


class WebViewDriver(WebDriver):
    """The page of a view."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.num_bytes = 0
        """Written so far."""
        self._num_inputs = 0

    def spent(self) -> Spent:
        """What the view has used so far."""
        return Spent(cpu_s=time.process_time(), num_bytes=self.num_bytes, num_inputs=self._num_inputs)

    def write(self, data: str) -> None:
        """Send `data`, counted."""
        self.num_bytes += len(data.encode())
        super().write(data)

    def process_message(self, message: Message) -> None:
        """Count what a person does; Textual does the rest."""
        if isinstance(message, events.InputEvent):
            self._num_inputs += 1
        super().process_message(message)

    def suspend_application_mode(self) -> None:
        """Nothing: a page need not be given back when the view is stopped, and would take it for the end."""

    def resume_application_mode(self) -> None:
        """Nothing, see `suspend_application_mode`."""
