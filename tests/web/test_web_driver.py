"""The driver of a view in a page, in a real app: packets out, packets in, and an end whatever happens to its pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from plt_tui.web import wire
from plt_tui.web.tab import environment_of
from plt_tui.web.wire import Size

SCRIPT = """
import fakes
from plt_tui.config.schema import UiSection
from plt_tui.views.tui.app import RunApp
from plt_tui.views.tui.driver import pace_at
source = fakes.FakeSource(fakes.training())
app = RunApp(source.connect, name="quickstart", ui=UiSection(), config=fakes.CONFIG)
app.run()
driver = app._driver
print("sent", [command.name for command in source.sent], "paid", driver.spent().num_bytes > 5000, driver.spent().num_inputs,
      pace_at(driver, low_bandwidth=False)._meter is not None, flush=True)
"""
DEADLINE_S = 60.0


class View:
    """The app in a process, as a tab starts it, at the other end of its pipes."""

    def __init__(self) -> None:
        environ = environment_of({**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "views")}, Size(120, 40))
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([sys.executable, "-c", SCRIPT], stdin=pipe, stdout=pipe, env=environ)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.to, self.out = self.process.stdin, self.process.stdout

    def type(self, text: str) -> None:
        """Press keys."""
        self.to.write(wire.packet(wire.DATA, text.encode()))
        self.to.flush()

    def see(self, wanted: bytes) -> None:
        """Read pictures until one holds `wanted`."""
        while wanted not in self.packet():
            pass

    def packet(self) -> bytes:
        """The payload of the next packet, which is no leave."""
        kind, length = wire.length_of(self.out.read(wire.HEAD_BYTES))
        payload = self.out.read(length)
        assert not (kind == wire.META and wire.is_exit(payload))
        return payload


@contextmanager
def running() -> Iterator[View]:
    """The view, once it shows the run."""
    view = View()
    with view.process:
        try:
            assert view.out.readline() == wire.READY
            view.see(b"training")
            yield view
        finally:
            view.process.kill()


@pytest.mark.timeout(DEADLINE_S)
def test_a_view_in_a_page_is_a_view() -> None:
    """Keys steer; what drawing costs is measured; a quit from the server is heeded in good order."""
    with running() as view:
        view.type("p?")
        view.see(b"steer the run")
        view.to.write(wire.QUIT)
        view.to.flush()
        rest = view.out.read()
        assert view.process.wait(DEADLINE_S) == 0
        assert rest.endswith(b"sent ['pause'] paid True 2 True\n"), rest[-200:]


@pytest.mark.timeout(DEADLINE_S)
def test_a_view_whose_server_is_gone_ends() -> None:
    """The end of its pipe is enough, at any moment: a server that is killed leaves no view."""
    with running() as view:
        view.to.close()
        began = time.monotonic()
        while psutil.Process(view.process.pid).status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() - began < 10
            time.sleep(0.02)


@pytest.mark.timeout(DEADLINE_S)
def test_a_view_that_was_stopped_goes_on() -> None:
    """SIGCONT is no reason to take the page away."""
    with running() as view:
        view.process.send_signal(signal.SIGSTOP)
        view.process.send_signal(signal.SIGCONT)
        view.type("?")
        view.see(b"steer the run")
