"""What goes wrong beside a run, and what the run notices of it: steps per second with a fault going on, against without.

One headless run of two ranks goes on all the time. Windows of a few seconds follow each other, in turn without and with one
fault; a fault's ratio is its window against the two around it. Without a flood of log lines means that the same lines go into a
file that nobody reads: to write them costs the machine something too, whoever reads them. The ranks stamp their steps
themselves, so a hub that is stopped hides nothing. Faults that write do so from threads of this process, which cost next to
nothing while they wait for the hub. Invariant: a window begins when its fault is in full swing, and the fault is over when the
next one begins.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psutil

from benchmarks.records import read_steps
from benchmarks.table import Row, row
from benchmarks.terminal import Terminal
from benchmarks.workplace import QUIET, Workplace, headless, ranks_of, started, wait_for_step, waited_s, workplace
from plt_tui.control.folder import RunFolder, RunInfo
from plt_tui.protocol.hello import hello

NAME = "bench"
SMALL = ("parallel.ranks=2", "train.batch_size=2", "train.steps=1000000", "metrics.log_every=0")
"""Steps of 20 to 50 ms on two cores: what disturbs shows more in a short step."""
FIRST_STEP = 50
SETTLE_S = 0.5
"""Left out after a fault has begun or ended."""
LINES_PER_S, LINES_AT_ONCE = 100_000, 1_000
LOG_LINE = b"a line of a rank's log, as long as one that a library writes when it has something to say\n"
LONG_LINE = b"x" * 10_000_000 + b"\n"
GARBAGE = bytes(range(256)) * 256
SENDING_S = 0.1
"""How long a flooding thread may wait for the hub before it looks whether it is to end."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The run beside which something goes wrong."""

    place: Workplace
    folder: RunFolder

    @property
    def socket(self) -> Path:
        """The hub's."""
        return Path(self._info.socket)

    @property
    def hub(self) -> psutil.Process:
        """The hub's process."""
        return psutil.Process(self._info.pid)

    @property
    def ranks(self) -> list[psutil.Process]:
        """The processes of the ranks."""
        return ranks_of(self.hub)

    @property
    def _info(self) -> RunInfo:
        info = self.folder.read_info()
        assert info is not None
        return info


Fault = Callable[[Scene], AbstractContextManager[None]]
"""Goes on while its context is open."""
LogPath = Callable[[Scene], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From `began` to `ended`, Unix time in seconds; what the hub has used and how long a rank waited for a core meanwhile."""

    began: float
    ended: float
    hub_cpu_s: float = 0.0
    waited_s: float = 0.0

    @property
    def hub_share(self) -> float:
        """What the hub has used, in percent of a core."""
        return 100 * self.hub_cpu_s / (self.ended - self.began)

    @property
    def waited_share(self) -> float:
        """How long a rank waited for a core, in percent of the time."""
        return 100 * self.waited_s / (self.ended - self.began)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hurt:
    """A window with a fault, and the two around it without."""

    before: Window
    during: Window
    after: Window


def measure(*, quick: bool) -> list[Row]:
    """For each fault the ratio with its budget, and what it costs the hub; the same for none, which shows the noise."""
    window_s, rounds = (1.0, 1) if quick else (2.5, 12)
    hurt: dict[str, list[Hurt]] = {what: [] for what in FAULTS}
    with workplace() as place, started(place, headless(NAME, *QUIET, *SMALL)):
        scene = Scene(place, place.run_folder(NAME))
        wait_for_step(scene.folder, FIRST_STEP)
        without, last = _nothing, _window(scene, _nothing, window_s)
        for number in range(rounds):
            faults = list(FAULTS.items())
            for what, fault in faults if number % 2 == 0 else faults[::-1]:
                if CONTROLS.get(what, _nothing) is not without:
                    without = CONTROLS.get(what, _nothing)
                    last = _window(scene, without, window_s)
                before, during = last, _window(scene, fault, window_s)
                last = _window(scene, without, window_s)
                hurt[what].append(Hurt(before=before, during=during, after=last))
        times = [step.time for step in read_steps(scene.folder)]
    step_ms = [1e3 / rate(times, windows.before) for windows in hurt[NOTHING]]
    return [*_rows(hurt, times), row("(one step with nothing wrong)", step_ms, "ms")]


def rate(times: Sequence[float], window: Window) -> float:
    """Steps per second in a window: `times` are the ends of all steps. Raises: ValueError with fewer than two steps in it."""
    first, last = bisect_left(times, window.began), bisect_left(times, window.ended) - 1
    if last <= first:
        raise ValueError(f"fewer than two steps within {window.ended - window.began:.1f} s: the run stood still")
    return (last - first) / (times[last] - times[first])


def ratio(times: Sequence[float], hurt: Hurt) -> float:
    """Steps per second with the fault over those in the two windows around it."""
    return 2 * rate(times, hurt.during) / (rate(times, hurt.before) + rate(times, hurt.after))


def more_waiting(hurt: Hurt) -> float:
    """How much longer a rank waited for a core than in the two windows around, in percent of the time."""
    return hurt.during.waited_share - (hurt.before.waited_share + hurt.after.waited_share) / 2


def _rows(hurt: Mapping[str, Sequence[Hurt]], times: Sequence[float]) -> Iterator[Row]:
    for what, windows in hurt.items():
        ratios = [ratio(times, window) for window in windows]
        words = f"steps/s with {what}, against without"
        yield row(f"({words})", ratios) if what == NOTHING else row(words, ratios, at_least=0.98)
        yield row(
            f"(ranks wait for a core with {what}, more than without)",
            [more_waiting(window) for window in windows],
            "% of the time",
        )
        yield row(f"(CPU of the hub with {what})", [window.during.hub_share for window in windows], "% of a core")


def _window(scene: Scene, fault: Fault, seconds: float) -> Window:
    with fault(scene):
        time.sleep(SETTLE_S)
        hub, ranks = scene.hub, scene.ranks
        began, before_s, waited_before_s = time.time(), cpu_s(hub), waited_s(ranks)
        time.sleep(seconds)
        used_s, waiting_s = cpu_s(hub) - before_s, waited_s(ranks) - waited_before_s
        return Window(began=began, ended=time.time(), hub_cpu_s=used_s, waited_s=waiting_s)


def cpu_s(process: psutil.Process) -> float:
    """CPU time of all its threads so far."""
    times = process.cpu_times()
    return times.user + times.system


# --- faults ----------------------------------------------------------------------------------------------------------------


@contextmanager
def _nothing(_: Scene) -> Iterator[None]:
    yield


@contextmanager
def _stopped_view(scene: Scene) -> Iterator[None]:
    with Terminal(scene.place, "attach", NAME) as terminal:
        terminal.wait_for("training")
        with _stopped(terminal.process.pid):
            yield


@contextmanager
def _stopped_hub(scene: Scene) -> Iterator[None]:
    with _stopped(scene.hub.pid):
        yield


@contextmanager
def _stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def _deaf_client(scene: Scene) -> Iterator[None]:
    with _connected(scene):
        yield


def _command_flood(scene: Scene) -> AbstractContextManager[None]:
    def notes() -> Iterator[bytes]:
        for number in count():
            command = {"id": f"{time.time_ns()}-{number}", "name": "note", "args": {"text": "a remark"}}
            yield json.dumps({"op": "command", "command": command}).encode() + b"\n"

    return _flood(scene, notes)


def _garbage_flood(scene: Scene) -> AbstractContextManager[None]:
    return _flood(scene, lambda: (GARBAGE for _ in count()))


@contextmanager
def _flood(scene: Scene, data: Callable[[], Iterator[bytes]]) -> Iterator[None]:
    """A client that sends as fast as it is taken, and comes again at once when it is cut."""

    def flood(is_over: threading.Event) -> None:
        while not is_over.is_set():
            with suppress(ConnectionError), _connected(scene) as client:
                client.settimeout(SENDING_S)
                for piece in data():
                    if not _sent(client, piece, is_over):
                        break

    with _in_thread(flood):
        yield


def _sent(client: socket.socket, piece: bytes, is_over: threading.Event) -> bool:
    """Send all of `piece`, however long that takes; False when it is over first. Raises: ConnectionError when it is cut."""
    while piece and not is_over.is_set():
        with suppress(TimeoutError):
            piece = piece[client.send(piece) :]
    return not piece


@contextmanager
def _connected(scene: Scene) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(scene.socket))
        client.sendall(json.dumps(hello("disturbance", readonly=False)).encode() + b"\n")
        yield client


def _log_flood(path: LogPath) -> Fault:
    return lambda scene: _writer(path(scene), LOG_LINE * LINES_AT_ONCE, LINES_AT_ONCE / LINES_PER_S)


def _long_log_line(path: LogPath) -> Fault:
    return lambda scene: _writer(path(scene), LONG_LINE, 1.0)


def _log_of_a_rank(scene: Scene) -> Path:
    """From outside into the log of rank 1, so that only what the hub makes of it is measured."""
    return scene.folder.rank_log(1)


def _unread_log(scene: Scene) -> Path:
    return scene.place.folder / "unread.log"


@contextmanager
def _writer(path: Path, piece: bytes, every_s: float) -> Iterator[None]:
    def write(is_over: threading.Event) -> None:
        with path.open("ab", buffering=0) as log:
            due = time.monotonic()
            while not is_over.wait(max(0.0, due - time.monotonic())):
                log.write(piece)
                due += every_s

    with _in_thread(write):
        yield


@contextmanager
def _in_thread(work: Callable[[threading.Event], None]) -> Iterator[None]:
    is_over = threading.Event()
    thread = threading.Thread(target=work, args=(is_over,))
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


NOTHING = "nothing wrong"
LOG_FLOOD, LONG_LOG_LINE = "100,000 lines a second in a rank's log", "a line of 10 MB in a rank's log every second"
FAULTS: Mapping[str, Fault] = {
    NOTHING: _nothing,
    "a UI that is stopped": _stopped_view,
    "a client that never reads": _deaf_client,
    "a client that floods the hub with commands": _command_flood,
    "a client that floods the hub with garbage": _garbage_flood,
    LOG_FLOOD: _log_flood(_log_of_a_rank),
    LONG_LOG_LINE: _long_log_line(_log_of_a_rank),
    "the hub stopped": _stopped_hub,
}
CONTROLS: Mapping[str, Fault] = {LOG_FLOOD: _log_flood(_unread_log), LONG_LOG_LINE: _long_log_line(_unread_log)}
"""What goes on in the windows around a fault, where that is not nothing."""
