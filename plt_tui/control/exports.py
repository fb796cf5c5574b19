"""The exporters of a run: each in a process of its own, started, watched, started again, and ended with the run.

Knows no exporter and imports none: a process is started by the name of its module. It reads the record by itself; the hub only
hears signs of life from it and reads what it prints, a little at a time. In the hub's event loop; started from its main thread,
which the kernel's parent-death signal follows. Invariant: whatever an exporter does costs the hub a bounded time, memory and
disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.interpreter import module_command
from plt_tui.control.logs import MAX_LINE_BYTES, parse_line
from plt_tui.errors import UsageError
from plt_tui.protocol.events import Alert, Event, LogLine, Logs
from plt_tui.protocol.rank import ASIDE_SUFFIX

COMMAND = module_command("plt_tui.exporters")
FOLDER = "exports"
"""In the run folder: how far each exporter has come, and its files."""
DEFAULT_PROJECT = "plt-tui"
SIGN = b"."
"""From an exporter: it moves."""
FLUSHED = b"f"
"""From an exporter: what it was given is safe, and its place is kept."""
MAX_OUTPUT_BYTES = 16 * 1024
"""Read at one look of what an exporter prints: 64 kB/s. Who prints more waits."""
MAX_LINES = 100
"""Most lines that are shown per look; the log has the others."""
MAX_LAST_LOOKS = 64
"""Looks at what an ended process has left in its pipe: a megabyte, where a pipe holds 64 kB."""
MAX_LOG_BYTES = 4 << 20
"""Size at which its log is put aside for a new one."""
KILL_PATIENCE_S = 10.0
"""How long a process may take to end after SIGKILL before it is given up."""
FINISHING_TICK_S = 0.02
"""Between two looks at an exporter that finishes: the end of the run waits for it."""
_VARIABLES = {
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
}
"""The cores and devices are the ranks'."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long exporters may take, in seconds."""

    tick_s: float = 0.25
    """Between two looks at one."""
    stall_s: float = 120.0
    """Without a sign of life after which it is ended: imports, a first connection and a call of the exporter fit into it."""
    backoff_s: tuple[float, ...] = (5.0, 20.0, 60.0)
    """Before each new start after a failure; then it is given up."""
    steady_s: float = 300.0
    """An exporter that has lived for so long begins to count its failures anew."""
    finish_s: float = 30.0
    """That it may take for what is left, once the run is over."""


class Hub(Protocol):
    """What exporters need of the hub."""

    feed: Feed

    def publish(self, event: Event) -> None:
        """Record `event`, then show it to every view."""


class Exports:
    """All exporters of one session. `say`: tells people what comes too late for the record."""

    def __init__(
        self,
        hub: Hub,
        folder: RunFolder,
        names: Sequence[str],
        *,
        say: Callable[[str], None],
        project: str = "",
        plugins: Sequence[str] = (),
        patience: Patience = Patience(),
        command: Sequence[str] = COMMAND,
    ) -> None:
        words = [f"--hub={os.getpid()}", f"--project={project or DEFAULT_PROJECT}", *(f"--plugin={path}" for path in plugins)]
        self._patience = patience
        self._say = say
        self._exporters = [
            _Exporter(hub, folder, name, [*command, name, str(folder.path), *words], say, patience) for name in names
        ]
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def pids(self) -> list[int]:
        """The processes that are alive."""
        return [exporter.pid for exporter in self._exporters if exporter.pid]

    def start(self) -> None:
        """Start all of them. Once, from the main thread, in the event loop."""
        self._tasks = [asyncio.get_running_loop().create_task(exporter.keep()) for exporter in self._exporters]

    async def close(self, late_stop: asyncio.Event) -> None:
        """Let them finish, as the run is over, for `finish_s` or until `late_stop` is set; then none is alive any more."""
        if not self._tasks:
            return
        for exporter in self._exporters:
            exporter.finish()
        finished = asyncio.ensure_future(asyncio.wait(self._tasks))
        stopped = asyncio.ensure_future(late_stop.wait())
        await asyncio.wait({finished, stopped}, timeout=self._patience.finish_s, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (finished, stopped, *self._tasks):
            waiting.cancel()
        await asyncio.gather(finished, stopped, return_exceptions=True)
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, Exception):
                self._say(f"an exporter was no longer looked after: {type(outcome).__name__}: {outcome}")


class _Exporter:
    """One exporter, through all its starts."""

    def __init__(
        self,
        hub: Hub,
        folder: RunFolder,
        name: str,
        command: Sequence[str],
        say: Callable[[str], None],
        patience: Patience,
    ) -> None:
        self._hub = hub
        self._run = folder.name
        self._name = name
        self._command = command
        self._say = say
        self._patience = patience
        self._log = folder.logs / f"export-{name}.log"
        self._topic = f"export {name}"
        self._finishing = asyncio.Event()
        self.pid = 0
        """Of its process; 0: none is alive."""

    def finish(self) -> None:
        """The run is over: what is recorded by now is all."""
        self._finishing.set()

    async def keep(self) -> None:
        """Run it to its end, starting it again when it fails, until that is given up."""
        failures = 0
        while True:
            began = time.monotonic()
            try:
                why, exit_code = await self._live()
            except asyncio.CancelledError:
                self._tell(f"not finished when its time was over. {self._way_on()}")
                raise
            except OSError as error:
                why, exit_code = f"cannot be started: {error.strerror}", 1
            if not why:
                return
            failures = 0 if time.monotonic() - began >= self._patience.steady_s else failures
            failures += 1
            after_s = restart_after(failures, exit_code, self._patience.backoff_s)
            if after_s is None or self._finishing.is_set():
                self._tell(f"{why}; given up, the run does not need it. {self._way_on()}")
                return
            self._tell(f"{why}; started again in {after_s:g} s")
            await self._pause(after_s)

    async def _live(self) -> tuple[str, int]:
        """One life of the process: why it ended, empty when all was done, and its exit code. Raises: OSError."""
        output = _Output(self._log, self._topic, self._hub.feed.publish)
        child = _Child(self._command)
        self.pid = child.pid
        told = False
        try:
            heard_at = time.monotonic()
            while not child.has_ended():
                if self._finishing.is_set() and not told:
                    told = True
                    child.finish()
                await self._pause(self._patience.tick_s)
                output.pump(child.output)
                words = child.words()
                if words:
                    heard_at = time.monotonic()
                if FLUSHED in words:
                    self._all_well()
                if time.monotonic() - heard_at > self._patience.stall_s:
                    return f"has not moved for {self._patience.stall_s:g} s, and was ended", 1
            for _ in range(MAX_LAST_LOOKS):
                if not output.pump(child.output):
                    break
            exit_code = await child.end()
            return ("" if exit_code == 0 and told else _why(exit_code, output.last)), exit_code
        finally:
            self.pid = 0
            await child.end()
            output.close()

    async def _pause(self, seconds: float) -> None:
        """Wait; when the run is over, only for a moment."""
        if self._finishing.is_set():
            await asyncio.sleep(min(seconds, FINISHING_TICK_S))
            return
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._finishing.wait(), seconds)

    def _way_on(self) -> str:
        return f"The record has everything: plt-tui export {self._run} --format {self._name}"

    def _tell(self, text: str) -> None:
        words = f"{self._topic}: {text}"
        if self._hub.feed.state.is_over:  # nothing is recorded any more
            self._say(words)
        else:
            self._hub.publish(Alert(topic=self._topic, text=words))

    def _all_well(self) -> None:
        state = self._hub.feed.state
        if self._topic in state.alerts and not state.is_over:
            self._hub.publish(Alert(topic=self._topic, text=""))


class _Child:
    """A process in a session of its own, with a socket that ties it to this one and a pipe for what it prints."""

    def __init__(self, command: Sequence[str]) -> None:
        """Raises: OSError, and nothing is left open."""
        with contextlib.ExitStack() as failed:
            self._life, theirs = socket.socketpair()
            failed.callback(self._life.close)
            self.output, printed = os.pipe()
            failed.callback(os.close, self.output)
            try:
                self._process = subprocess.Popen(
                    [*command, f"--life={theirs.fileno()}"],
                    stdin=subprocess.DEVNULL,
                    stdout=printed,
                    stderr=printed,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                    env={**os.environ, **_VARIABLES},
                )
            finally:
                theirs.close()
                os.close(printed)
            failed.pop_all()
        self._life.setblocking(False)
        os.set_blocking(self.output, False)
        self._is_open = True

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its session and group."""
        return self._process.pid

    def has_ended(self) -> bool:
        """True once the process has ended. It is not reaped, so that its id, and its group's, stay its own."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def words(self) -> bytes:
        """What it has said since the last call."""
        with contextlib.suppress(OSError):
            return self._life.recv(MAX_OUTPUT_BYTES)
        return b""

    def finish(self) -> None:
        """Say that the run is over."""
        with contextlib.suppress(OSError):
            self._life.send(SIGN)

    async def end(self) -> int:
        """End it and everything in its group; returns its exit code. Harmless when repeated."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
        if self._is_open:
            self._is_open = False
            self._life.close()
            os.close(self.output)
        give_up_at = time.monotonic() + KILL_PATIENCE_S
        while (exit_code := self._process.poll()) is None:
            if time.monotonic() > give_up_at:
                return -signal.SIGKILL
            await asyncio.sleep(0.005)
        return exit_code


class _Output:
    """What one process prints, on its way to a log of bounded size and to the views."""

    def __init__(self, path: Path, source: str, publish: Callable[[Event], None]) -> None:
        self._path = path
        self._source = source
        self._publish = publish
        self._partial = b""
        self.last = ""
        """The last line that holds something; one that tells of an error stays."""
        self._is_error = False

    def pump(self, descriptor: int) -> bool:
        """Take what is there, at most MAX_OUTPUT_BYTES; False when nothing is."""
        try:
            data = os.read(descriptor, MAX_OUTPUT_BYTES)
        except OSError:  # nothing yet, or the pipe is closed
            return False
        if not data:
            return False
        with contextlib.suppress(OSError):  # a full disk costs the log, and nothing else
            _append(self._path, data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        self._show(lines)
        self._partial = self._partial[:MAX_LINE_BYTES]
        return True

    def close(self) -> None:
        """Show a last line that has no end."""
        if self._partial:
            self._show([self._partial])
            self._partial = b""

    def _show(self, raw: Sequence[bytes]) -> None:
        now = time.time()
        lines: list[LogLine] = [parse_line(line, self._source, now) for line in raw[-MAX_LINES:]]
        for _, _, level, text in lines:
            if text.strip() and (level == "ERROR" or not self._is_error):
                self.last, self._is_error = text.strip(), level == "ERROR"
        if lines:
            self._publish(Logs(time=now, lines=lines, dropped=len(raw) - len(lines)))


def restart_after(failures: int, exit_code: int, backoff_s: Sequence[float]) -> float | None:
    """Seconds until an exporter that has failed so often in a row is started again; None: never.

    What only a person can mend, such as a package that is missing, is not tried again.
    """
    if exit_code == UsageError.exit_code or failures > len(backoff_s):
        return None
    return backoff_s[failures - 1]


def _why(exit_code: int, last: str) -> str:
    """How a process ended, in words."""
    if exit_code < 0:
        return f"was ended by {_signal_name(-exit_code)}"
    if exit_code == 0:
        return "has ended, and the run goes on"
    return f"{last} (exit code {exit_code})" if last else f"ended with exit code {exit_code}"


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _append(path: Path, data: bytes) -> None:
    """Write to the end of a log, which is put aside when it is long. Raises: OSError."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size >= MAX_LOG_BYTES:
            path.replace(path.with_name(path.name + ASIDE_SUFFIX))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
