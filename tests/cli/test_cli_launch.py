"""Promises of `cli.launch`: who is stopped while it starts a run leaves nothing behind that trains on."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from plt_tui.cli.launch import _stops_passed_on

HUB = """
import signal, sys
for number, exit_code in ((signal.SIGINT, {on_interrupt}), (signal.SIGTERM, 143)):
    signal.signal(number, lambda *_, exit_code=exit_code: sys.exit(exit_code))
print("ready", flush=True)
while True:
    signal.pause()
"""


@pytest.mark.parametrize(
    ("stop", "on_interrupt", "exit_code"),
    [(130, 130, 130), (143, 130, 143), (130, 5, 5)],
)
def test_a_stop_while_a_run_is_started_is_one_of_the_run(stop: int, on_interrupt: int, exit_code: int) -> None:
    """It gets the same signal, and its exit code is that of who started it: 5 when it could not save."""
    command = [sys.executable, "-c", HUB.format(on_interrupt=on_interrupt)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as hub:
        assert hub.stdout is not None
        assert hub.stdout.readline() == b"ready\n"
        with pytest.raises(SystemExit) as ended, _stops_passed_on(hub):
            sys.exit(stop)
        assert hub.poll() == ended.value.code == exit_code


def test_a_hub_that_dies_of_the_stop_leaves_the_code_of_the_stop() -> None:
    """It had not come so far as to hear signals."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as hub:
        with pytest.raises(SystemExit) as ended, _stops_passed_on(hub):
            sys.exit(143)
        assert (hub.poll(), ended.value.code) == (-signal.SIGTERM, 143)
