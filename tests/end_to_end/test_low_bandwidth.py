"""A slow connection: what a view of a real training sends to its terminal."""

from __future__ import annotations

import re
import time
from pathlib import Path

from tests.end_to_end.runs import options
from tests.end_to_end.terminal import Terminal

WINDOW_S = 8.0
MAX_BYTES_PER_S = 5_000
ENDLESS = options("train.steps=1000000", "metrics.log_every=1", "parallel.ranks=1")
"""A log line with every step, some hundred a second."""


def test_a_view_at_low_bandwidth_sends_little_and_is_no_still_picture(tmp_path: Path) -> None:
    """At 140x45, with steps and log lines all the time: below 5 KB/s after the opening, and the step that is shown goes on."""
    with Terminal(tmp_path, "run", "--low-bandwidth", "--name", "slow", *ENDLESS, columns=140, rows=45) as terminal:
        terminal.wait_for("training", "rank")
        shown = _step(terminal)
        terminal.wait_until(lambda: _step(terminal) > shown)
        terminal.read_what_waits()
        opened, before, began = _step(terminal), len(terminal.output), time.monotonic()
        terminal.wait_until(lambda: time.monotonic() - began > WINDOW_S)
        sent_per_s = (len(terminal.output) - before) / (time.monotonic() - began)
        newest = _step(terminal)
        terminal.press("q")
        terminal.wait_for("Stop now")
        terminal.press("\x1b[B", "\x1b[B", "\r")
        assert terminal.wait_for_exit() == 0
    assert sent_per_s < MAX_BYTES_PER_S
    assert newest > opened


def _step(terminal: Terminal) -> int:
    """The step in the header."""
    match = re.search(r"step ([\d,]+) / ", terminal.text)
    return int(match[1].replace(",", "")) if match else 0
