"""What a rank's process is told at birth, and the first code it runs.

Nothing heavy is imported here: the environment of the process (threads, parent-death signal, log file) is set before the entry
point, and with it torch, is loaded. Invariant: a rank whose hub dies at any time after its first line dies too.
"""

from __future__ import annotations

import ctypes
import faulthandler
import importlib
import io
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from plt_tui.protocol.link import HUB_GONE_EXIT_CODE, Queues, RankEnd

_PR_SET_PDEATHSIG = 1
"""prctl(2), Linux: signal sent to this process when the thread that started it ends."""

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
"""Ignored by ranks: a Ctrl-C or a batch system reaches the whole process group, but only the hub decides what a stop means."""
STACKS_SIGNAL = signal.SIGUSR1
"""Makes a rank write the stacks of all its threads to its log, also while the main thread hangs in native code."""

SAFE_PATH, OURS = "PYTHONSAFEPATH", "plt-tui"
"""From Python 3.11 on any value keeps the working folder out of `sys.path`; this one is the hub's, for a rank's birth."""

MAX_LOG_BYTES = 256 << 20
"""Size at which a rank's log is put aside: one that prints 10 MB/s must not take the disk that checkpoints need."""
ASIDE_SUFFIX = ".1"
"""Ends the name of a log that was put aside, in the place of the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankSpec:
    """Everything a rank must know; built-in values only, because it is pickled for the new process."""

    entry: str
    """Where the rank's code is: "package.module:function", called with (spec, link)."""
    run_dir: str
    meeting_file: str
    """Where the ranks of this attempt find each other: an empty file, and no other attempt ever uses its name."""
    hub_pid: int
    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    """"cpu" or "cuda:N"."""
    threads: int = 1
    resume: str = "auto"
    """"auto": the newest good checkpoint, if any; "never": from scratch; else the path of a checkpoint."""
    edits: list[dict[str, Any]] = field(default_factory=list)
    """Applied edits of the journal, as fields of `config.edits.Edit`."""
    known_step: int = 0
    """Steps that the record holds already: computed again, they follow it, and the guard decides nothing."""
    guard_acts: int = 0
    """Acts of the guard so far, on all branches."""
    until: int = 0
    """Only for a rerun: the last step to compute."""
    paused: bool = False
    """Begin in a pause: the run was paused when its ranks had to be restarted."""
    plugins: tuple[str, ...] = ()
    """Absolute paths of the files given as `--plugin`."""


def rank_process(spec: RankSpec, queues: Queues) -> None:
    """Body of a rank's process. Called by multiprocessing in the new process only."""
    _die_with_parent(spec.hub_pid)
    if os.environ.get(SAFE_PATH) == OURS:
        del os.environ[SAFE_PATH]  # what the user's code starts is no business of ours
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    _write_output_to(os.path.join(spec.run_dir, "logs", f"rank-{spec.rank}.log"))  # noqa: PTH118  (no pathlib before torch)
    faulthandler.enable(file=2)  # a crash in native code leaves its stacks too
    faulthandler.register(STACKS_SIGNAL, file=2, all_threads=True)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(spec.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch asks for it when `train.deterministic` is set
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # so that cuda:N is the GPU that NVML calls N
    module_name, function_name = spec.entry.split(":")
    main: Callable[[RankSpec, RankEnd], int] = getattr(importlib.import_module(module_name), function_name)
    link = RankEnd(queues)
    exit_code = main(spec, link)
    link.close()
    sys.stdout.flush()
    os._exit(exit_code)  # threads of collectives that wait for a lost peer must not hold up the end


def _die_with_parent(hub_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != hub_pid:  # the hub died before the line above took effect
        os._exit(HUB_GONE_EXIT_CODE)


def _write_output_to(path: str) -> None:
    """Send everything that this process prints, native libraries included, to the end of the file at `path`."""
    _point_output_at(path)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(path)), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    sys.stderr = sys.stdout


def _point_output_at(path: str) -> None:
    """Make `path`, or nothing where it cannot be opened, what descriptors 1 and 2 write to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:  # a full disk, or somebody made room on one by deleting logs
        descriptor = os.open(os.devnull, os.O_WRONLY)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


class _Output(io.FileIO):
    """Descriptor 1 as a file that loses what cannot be written: a full disk must not end the training of who prints."""

    def __init__(self, path: str) -> None:
        super().__init__(1, "w", closefd=False)
        self._path = path

    def write(self, data: Any) -> int:
        """Write `data`, or a part of it; say that all of it was written where none can be."""
        try:
            if os.fstat(1).st_size >= MAX_LOG_BYTES:
                os.replace(self._path, self._path + ASIDE_SUFFIX)  # noqa: PTH105  (no pathlib before torch)
                _point_output_at(self._path)
            return super().write(data)
        except OSError:
            return len(data)
