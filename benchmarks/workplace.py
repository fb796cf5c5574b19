"""Where a benchmark works: a temporary folder with its own caches and runs, and every process that it starts there.

Knows how to start and end `plt-tui`, not what is measured. Invariant: after `workplace` is left, no process that was started in
it is alive and its folder is gone, however the benchmark ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.records import newest_step
from plt_tui.config.sources import ENVIRONMENT
from plt_tui.control.folder import RunFolder

PLT_TUI = str(Path(sysconfig.get_path("scripts"), "plt-tui"))
QUIET = ("parallel.device=cpu", "eval.every=0", "sample.every=0", "checkpoint.every=0")
"""Settings of the quick start on the CPU with nothing but steps until its end."""
DEADLINE_S = 900.0
"""Longest life of anything that is started here."""
STOP_S = 60.0
POLL_S = 0.05

_MARK = "PLT_TUI_CACHE"
"""Set to a folder of the workplace, and inherited by everything that is started in it: so detached processes are found."""
_LEFT_OUT = (*ENVIRONMENT, "COLUMNS", "LINES", "XDG_RUNTIME_DIR", "PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS")
"""Variables of the caller that would change what is measured, or where sockets lie."""


@dataclass(frozen=True, slots=True)
class Workplace:
    """A folder to work in and the environment of what is started there."""

    folder: Path
    environment: Mapping[str, str]

    def run_folder(self, name: str) -> RunFolder:
        """The folder of the run `name` of a `plt-tui` started here."""
        return RunFolder(self.folder / "runs" / name)

    def execute(self, command: Sequence[str], *, cwd: Path | None = None) -> None:
        """Run `command` to its end; its output is thrown away.

        Raises: RuntimeError with its last words when it fails, subprocess.TimeoutExpired after DEADLINE_S.
        """
        done = subprocess.run(
            command,
            cwd=cwd or self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=DEADLINE_S,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with exit code {done.returncode}: {said}")


@contextmanager
def workplace() -> Iterator[Workplace]:
    """A fresh workplace."""
    with tempfile.TemporaryDirectory(prefix="plt-tui-bench-") as name:
        folder = Path(name)
        mark = str(folder / "cache")
        kept = {key: value for key, value in os.environ.items() if key not in _LEFT_OUT}
        try:
            yield Workplace(folder, {**kept, _MARK: mark})
        finally:
            _end_marked(mark)


def run_words(name: str, *settings: str) -> list[str]:
    """Arguments of `plt-tui` for the quick start with `settings` ("section.key=value")."""
    return ["run", "--name", name, *(word for setting in settings for word in ("--set", setting))]


def headless(name: str, *settings: str) -> list[str]:
    """The command of a headless run of the quick start."""
    return [PLT_TUI, *run_words(name, *settings), "--no-ui", "--json"]


@contextmanager
def started(place: Workplace, command: Sequence[str], *, stdout: int = subprocess.DEVNULL) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is told to end (SIGTERM) when the context is left; it is killed after DEADLINE_S."""
    process = subprocess.Popen(
        command, cwd=place.folder, env=place.environment, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.DEVNULL
    )
    watchdog = threading.Timer(DEADLINE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        end(process)
        watchdog.cancel()
        if process.stdout is not None:
            process.stdout.close()


def end(process: subprocess.Popen[bytes]) -> None:
    """Ask `process` to end, kill it after STOP_S, and reap it."""
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop_hub(folder: RunFolder) -> None:
    """End the detached hub of a run that a view has started, and return when nobody holds the run any more."""
    wait_until(lambda: folder.read_info() is not None or not folder.is_live(), STOP_S)
    info = folder.read_info()
    if info is not None and folder.is_live():
        os.kill(info.pid, signal.SIGTERM)
        wait_until(lambda: not folder.is_live(), STOP_S)


def wait_until(condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition` holds, looked at every POLL_S. Raises: TimeoutError after `deadline_s`."""
    give_up_at = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"waited {deadline_s:g} s in vain")
        time.sleep(POLL_S)


def wait_for_step(folder: RunFolder, step: int) -> None:
    """Return once a live run has written down `step`. Raises: RuntimeError when it has ended, TimeoutError."""

    def is_reached() -> bool:
        if folder.read_info() is not None and not folder.is_live():
            raise RuntimeError(f"{folder.name} ended before step {step}")
        return newest_step(folder) >= step

    wait_until(is_reached)


def ranks_of(hub: psutil.Process) -> list[psutil.Process]:
    """The processes of its ranks, in no order."""
    return [child for child in hub.children() if any("spawn_main" in word for word in child.cmdline())]


def waited_s(processes: Sequence[psutil.Process]) -> float:
    """How long the threads of a process have waited for a core so far, on average of `processes`.

    The second figure of /proc/PID/task/TID/schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst).
    """
    paths = [path for process in processes for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    return sum(int(path.read_text().split()[1]) for path in paths) / 1e9 / len(processes)


def _end_marked(mark: str) -> None:
    """Kill what still runs here; the resource trackers of multiprocessing last, which tidy up after the others."""
    left = _marked(mark)
    trackers = [process for process in left if _is_tracker(process)]
    _kill([process for process in left if process not in trackers])
    psutil.wait_procs(trackers, timeout=2)
    _kill(_marked(mark))


def _marked(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(_MARK) == mark:
                found.append(process)
    return found


def _is_tracker(process: psutil.Process) -> bool:
    with suppress(psutil.Error):
        return any("resource_tracker" in word for word in process.cmdline())
    return False


def _kill(processes: Sequence[psutil.Process]) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=5)
