"""Promises of an exporter's process and of the same work in the foreground: what it is told, what it tells, and how it ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from plt_tui.control.exports import FLUSHED, SIGN
from plt_tui.control.folder import RunFolder
from plt_tui.errors import RunInUse, UsageError
from plt_tui.exporters.place import held
from plt_tui.exporters.process import Exported, export_record
from plt_tui.plugins import Plugins
from plt_tui.protocol.events import End
from tests.exporters.records import new_folder, record, session, small_run, steps

ROOT = Path(__file__).parents[2]
PLUGIN = str(Path(__file__).parent / "listing_plugin.py")
DEADLINE_S = 60.0


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without a record."""
    return new_folder(tmp_path / "a")


@dataclass
class _Started:
    process: subprocess.Popen[bytes]
    life: socket.socket
    folder: RunFolder
    name: str

    @property
    def lines(self) -> list[str]:
        """What the exporter has written."""
        path = self.folder.path / "exports" / self.name / "list"
        return path.read_text().splitlines() if path.exists() else []

    def wait_for(self, line: str) -> None:
        """Return once `line` is written."""
        give_up_at = time.monotonic() + DEADLINE_S
        while line not in self.lines:
            assert self.process.poll() is None
            assert time.monotonic() < give_up_at, self.lines
            time.sleep(0.02)


@contextmanager
def started(folder: RunFolder, name: str, *, plugin: str = PLUGIN, hub: int | None = None) -> Iterator[_Started]:
    """An exporter's process, started as a hub does; it is gone afterwards."""
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-m", "plt_tui.exporters", name, str(folder.path), f"--hub={hub or os.getpid()}"]
    command += [f"--life={theirs.fileno()}", f"--plugin={plugin}"]
    with ours:
        with theirs:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        try:
            yield _Started(process, ours, folder, name)
        finally:
            process.kill()
            process.communicate()


def test_it_follows_the_run_to_its_end(folder: RunFolder) -> None:
    """Gives what grows, says that it lives and when all is safe, and ends well once told that the run is over."""
    record(folder, [session(), *steps(1, 3)])
    with started(folder, "listing") as it:
        it.wait_for("step 3")
        record(folder, steps(4, 5))
        it.wait_for("step 5")
        record(folder, [End(phase="finished", step=5, exit_code=0)])
        it.life.send(SIGN)
        assert it.process.wait(DEADLINE_S) == 0
        heard = it.life.recv(1 << 16)
        assert FLUSHED in heard
        assert SIGN in heard
        assert it.lines == ["open", *(f"step {number}" for number in range(1, 6)), "close finished"]


def test_it_waits_for_a_record_that_is_not_there_yet(folder: RunFolder) -> None:
    """The hub starts it before anything is recorded."""
    with started(folder, "listing") as it:
        time.sleep(1.0)
        record(folder, small_run())
        it.wait_for("step 10")


def test_the_end_of_a_run_that_recorded_nothing_is_its_end(folder: RunFolder) -> None:
    """There is nothing to do."""
    with started(folder, "listing") as it:
        it.life.send(SIGN)
        assert it.process.wait(DEADLINE_S) == 0


def test_it_dies_with_its_hub(folder: RunFolder) -> None:
    """The other end of its socket is closed: it ends, and so does what it has started."""
    record(folder, [session(), *steps(1, 3)])
    with started(folder, "with_child") as it:
        it.wait_for("step 3")
        (child,) = psutil.Process(it.process.pid).children()
        it.life.close()
        assert it.process.wait(DEADLINE_S) == -signal.SIGKILL
        child.wait(DEADLINE_S)


def test_it_does_not_outlive_a_hub_that_died_first(folder: RunFolder) -> None:
    """Its parent is not the hub that it was told."""
    with started(folder, "listing", hub=1) as it:
        assert it.process.wait(DEADLINE_S) == 1


@pytest.mark.parametrize(
    ("name", "exit_code", "last"),
    [
        ("raising", 1, "ERROR ValueError: boom \\x1b[2J"),
        ("refusing", 2, "ERROR there is no key"),
        ("leaving", 1, "ERROR SystemExit: 0"),
        ("eating", 1, "ERROR MemoryError: "),
        ("unknown", 2, "ERROR no plug-in of the kind exporters is called 'unknown'"),
    ],
)
def test_its_last_line_says_why_it_failed(folder: RunFolder, name: str, exit_code: int, last: str) -> None:
    """Through the filter; a thread that never ends does not keep the process."""
    record(folder, [session(), *steps(1, 3)])
    with started(folder, name) as it:
        assert it.process.wait(DEADLINE_S) == exit_code
        assert it.process.stdout is not None
        printed = it.process.stdout.read().decode()
        assert printed.splitlines()[-1].startswith(last)


def test_no_password_of_an_address_is_told(folder: RunFolder) -> None:
    """Neither in its last line nor in its traceback: the hub hands on what a tool says of an address that it cannot use."""
    record(folder, [session(), *steps(1, 3)])
    with started(folder, "blabbing") as it:
        assert it.process.wait(DEADLINE_S) == 1
        assert it.process.stdout is not None
        printed = it.process.stdout.read().decode()
    assert "SECRET" not in printed
    assert printed.splitlines()[-1] == "ERROR ValueError: cannot use postgresql://***@db/x?token=***&api_key=***&page=2"


def test_it_gives_way(folder: RunFolder) -> None:
    """To the ranks: for the processor, and when memory runs out."""
    record(folder, [session(), *steps(1, 3)])
    with started(folder, "listing") as it:
        it.wait_for("step 3")
        process = psutil.Process(it.process.pid)
        assert process.nice() == 10
        assert Path(f"/proc/{process.pid}/oom_score_adj").read_text() == "1000\n"
        assert process.rlimit(psutil.RLIMIT_DATA)[0] == 2 << 30


def test_a_record_is_exported_in_the_foreground(folder: RunFolder) -> None:
    """All of it, and later what is new; into a folder of one's own all of it once more."""
    plugins = Plugins((PLUGIN,))
    record(folder, small_run())
    assert export_record("listing", folder, plugins=plugins) == Exported(steps=10, events=5)
    assert export_record("listing", folder, plugins=plugins) == Exported(steps=0, events=0)
    record(folder, [session(10), *steps(11, 12)])
    assert export_record("listing", folder, plugins=plugins) == Exported(steps=2, events=1)
    own = folder.path.parent / "own"
    assert export_record("listing", folder, output=own, plugins=plugins).steps == 12
    assert (own / "list").read_text().splitlines()[-1] == "close None"


def test_two_exports_at_once_are_refused(folder: RunFolder) -> None:
    """As when the run's hub exports to the same tool."""
    record(folder, small_run())
    with held(folder.path / "exports" / "listing.json"), pytest.raises(RunInUse, match="wait for its end"):
        export_record("listing", folder, plugins=Plugins((PLUGIN,)))


def test_a_run_without_a_record_is_refused(folder: RunFolder) -> None:
    """There is nothing to hand over."""
    with pytest.raises(UsageError, match="nothing is recorded yet"):
        export_record("listing", folder, plugins=Plugins((PLUGIN,)))
