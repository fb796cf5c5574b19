"""The process of one exporter: `plt_tui.exporters NAME RUN_DIR ...`, started by the hub; or its work alone.

It reads the record of the run as it grows, so the hub does not wait for it and sends it nothing. A connected socket ties the
two together: to the hub go signs of life, from it comes a word when the run has ended; when the hub is gone, so is this
process, with all that it has started. Invariant: what is not of one exporter's own making (memory, time, its end) is bounded
here or by the hub.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import re
import resource
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

from plt_tui.control.exports import DEFAULT_PROJECT, FLUSHED, FOLDER, SIGN
from plt_tui.control.folder import RunFolder
from plt_tui.errors import PltTuiError, UsageError
from plt_tui.exporters.base import GROUP, Factory, StartOver
from plt_tui.exporters.copy import Copy
from plt_tui.exporters.place import held, run_id, start_over
from plt_tui.plugins import Plugins
from plt_tui.protocol.text import safe_line

POLL_S = 1.0
"""How often the record is looked at."""
MAX_DATA_BYTES = 2 << 30
"""Memory that an exporter may take for itself, beside libraries and files that it maps."""
_PR_SET_PDEATHSIG = 1
_SECRETS = (
    (re.compile(r"://[^/@\s]+@"), "://***@"),
    (re.compile(r"\b(token|[a-z_]*key|password|secret)=[^&\s'\"]+", re.IGNORECASE), r"\1=***"),
)
"""How a password stands in an address, and what is said instead."""


class Life(Protocol):
    """What an exporter's work is told from outside."""

    @property
    def is_finishing(self) -> bool:
        """True once nobody records any more: what is there then is all that comes."""

    def wait(self, timeout_s: float) -> None:
        """Return after `timeout_s`, or as soon as `is_finishing` has become True."""

    def beat(self) -> None:
        """Say that the work goes on."""

    def flushed(self) -> None:
        """Say that the place was kept."""


class Foreground:
    """The life of an export that a person waits for: of all that is recorded by now."""

    is_finishing = True

    def wait(self, timeout_s: float) -> None:
        """Not at all."""

    def beat(self) -> None:
        """Nobody looks."""

    def flushed(self) -> None:
        """Nobody looks."""


class Lifeline:
    """The life of an exporter that a hub has started: the hub holds the other end of `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._finishing = threading.Event()
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()

    @property
    def is_finishing(self) -> bool:
        """True once the hub has said that the run is over."""
        return self._finishing.is_set()

    def wait(self, timeout_s: float) -> None:
        """See Life. A wait is no hang."""
        self.beat()
        self._finishing.wait(timeout_s)

    def beat(self) -> None:
        """See Life."""
        self._say(SIGN)

    def flushed(self) -> None:
        """See Life."""
        self._say(FLUSHED)

    def _say(self, word: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody has listened for long, or nobody is left, which `_watch` sees
            self._socket.send(word, socket.MSG_DONTWAIT)

    def _watch(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(1):
                self._finishing.set()
        if os.getpgrp() == os.getpid():  # as a hub starts it: with all that it has started
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(1)


def follow(factory: Factory, folder: RunFolder, path: Path, life: Life, *, directory: Path, project: str) -> Copy | None:
    """Copy the run in `folder` until `life` says that it is over; None when nothing is recorded.

    path: where the place is kept. Raises: RunInUse, StorageError, UsageError, and whatever the exporter raises.
    """
    while not run_id(folder):
        if life.is_finishing:
            return None
        life.wait(POLL_S)
    copied = partial(Copy, factory, folder, path, directory=directory, project=project, beat=life.beat, flushed=life.flushed)
    with held(path):
        try:
            return _to_the_end(copied(), life)
        except StartOver as lost:
            print(f"WARNING {lost}; the run is handed over from its beginning", flush=True)  # noqa: T201  (goes to the hub)
            start_over(path, run_id(folder))
        return _to_the_end(copied(), life)


def _to_the_end(copy: Copy, life: Life) -> Copy:
    with contextlib.closing(copy):
        while True:
            is_over = life.is_finishing
            if copy.go_on(time.monotonic(), to_the_end=is_over):
                continue
            if is_over:
                break
            life.wait(POLL_S)
        copy.finish()
        return copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What `export_record` has handed over."""

    steps: int
    events: int


def export_record(
    name: str, folder: RunFolder, *, output: Path | None = None, project: str = "", plugins: Plugins | None = None
) -> Exported:
    """Hand all that is recorded and was not handed over yet to the exporter `name`, in this process.

    output: a folder for its files, and for a place of its own: what other exports have handed over does not count there.
    Raises: UsageError for an unknown exporter or a run without a record; RunInUse while the run's hub exports to it;
    StorageError; whatever the exporter raises.
    """
    factory: Factory = (plugins or Plugins()).find("exporters", name)
    directory = output or folder.path / FOLDER / name
    path = (output or folder.path / FOLDER) / f"{name}.json"
    copy = follow(factory, folder, path, Foreground(), directory=directory, project=project or DEFAULT_PROJECT)
    if copy is None:
        raise UsageError(f"{folder.path}: nothing is recorded yet; export it once it trains")
    return Exported(steps=copy.num_steps, events=copy.num_events)


def main() -> int:
    """Body of the process; returns its exit code."""
    parser = argparse.ArgumentParser(prog="plt_tui.exporters", description=f"Runs one exporter of the group {GROUP}.")
    parser.add_argument("name")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--hub", type=int, required=True, help="process id of the hub")
    parser.add_argument("--life", type=int, required=True, help="descriptor of a socket that the hub holds the other end of")
    parser.add_argument("--project", default=DEFAULT_PROJECT)
    parser.add_argument("--plugin", action="append", default=[], help="absolute path of a plug-in's file")
    arguments = parser.parse_args()
    _stay_small(arguments.hub)
    life = Lifeline(arguments.life)
    folder = RunFolder(arguments.run_dir)
    exports = folder.path / FOLDER
    name = arguments.name
    try:
        factory: Factory = Plugins(tuple(arguments.plugin)).find("exporters", name)
        follow(factory, folder, exports / f"{name}.json", life, directory=exports / name, project=arguments.project)
    except PltTuiError as error:
        _end(f"ERROR {safe_line(str(error))}", error.exit_code)
    except BaseException as error:  # noqa: BLE001  (the border of the process: its hub is told the last line)
        print(without_secrets(traceback.format_exc()), file=sys.stderr)  # noqa: T201  (goes to the hub, as below)
        _end(f"ERROR {type(error).__name__}: {safe_line(str(error))}", 1)
    sys.stdout.flush()
    return 0


def without_secrets(text: str) -> str:
    """`text` without the passwords that addresses in it hold: trackers put the address they could not use into their errors."""
    for pattern, kept in _SECRETS:
        text = pattern.sub(kept, text)
    return text


def _stay_small(hub_pid: int) -> None:
    """Die with the hub, and take little of what the ranks need: the processor when it is idle, no GPU, bounded memory."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for path, text in (("/proc/self/autogroup", "10"), ("/proc/self/oom_score_adj", "1000")):
            with contextlib.suppress(OSError):  # where the kernel groups no sessions, or lets nobody say so
                Path(path).write_text(text)
    if os.getppid() != hub_pid:  # it has died before the lines above took effect
        os._exit(1)
    with contextlib.suppress(OSError, ValueError):  # a lower limit is in force already
        resource.setrlimit(resource.RLIMIT_DATA, (MAX_DATA_BYTES, MAX_DATA_BYTES))


def _end(last_words: str, exit_code: int) -> None:
    """Leave at once: a thread of a tool that has failed must not keep the process."""
    print(without_secrets(last_words), file=sys.stderr, flush=True)  # noqa: T201  (goes to the hub, through a pipe)
    sys.stdout.flush()
    os._exit(exit_code)
