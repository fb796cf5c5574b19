"""The machine's gauges: CPU cores, memory, GPUs and disk that this process may use, read once a second in a thread of its own.

Says what the run may use, not what the host has: CPU affinity, control groups and CUDA_VISIBLE_DEVICES count. Does not report
the ranks; they speak for themselves. Invariant: a sensor that fails costs its own value only, and one that hangs nobody's time.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil

from plt_tui.control.cgroup import CpuUse, MemoryUse, cpu_quota, cpu_use, memory_use
from plt_tui.control.nvml import NO_DRIVER, DriverNvml, Nvml, NvmlError, VisibleGpus
from plt_tui.protocol.events import Gauges
from plt_tui.protocol.text import safe_line

FIRST_READ_S = 0.2
"""From the start of the thread to its first reading: a core's use is a difference over time."""

_GPUS_FOR = {
    "docker": "--gpus all",
    "podman": "--device nvidia.com/gpu=all",
    "kubernetes": "a limit of nvidia.com/gpu",
    "apptainer": "--nv",
}
"""How each kind of container is given the GPUs of its machine."""

_logger = logging.getLogger(__name__)
_ValueT = TypeVar("_ValueT")
_OtherT = TypeVar("_OtherT")


def usable_cores() -> int:
    """CPU cores' worth of time that this process may use, at least 1."""
    return cores_within(len(_allowed_cores()), cpu_quota())


def cores_within(allowed: int, quota: float | None) -> int:
    """Whole cores in a CPU quota, at least 1.

    Rounds down: a rank that the kernel stops in the middle of a step to keep within the quota holds up all other ranks.
    """
    return allowed if quota is None else max(1, min(allowed, int(quota)))


def visible_gpus() -> list[int]:
    """Ordinals N of torch's `cuda:N` devices; empty without a driver, without a visible GPU, or with a CPU build of torch."""
    from importlib.metadata import version  # 15 ms that reading gauges does not need

    return gpu_ordinals(VisibleGpus(DriverNvml(), os.environ.get("CUDA_VISIBLE_DEVICES")), version("torch"))


def gpu_ordinals(gpus: VisibleGpus, torch_version: str) -> list[int]:
    """Ordinals of `gpus` that a torch of `torch_version` can compute on; importing torch to ask it would take seconds."""
    if torch_version.endswith("+cpu"):
        return []
    try:
        return list(range(len(gpus.keys())))
    except NvmlError:
        return []
    finally:
        gpus.close()


class Sensors:
    """Reads everything at once. One thread only: psutil remembers the CPU times of the last reading by thread."""

    def __init__(
        self, nvml: Nvml | None = None, visible: str | None = None, disk: Path | None = None, container: str = ""
    ) -> None:
        """`visible`: the value of CUDA_VISIBLE_DEVICES, None when it is not set; `disk`: a path on the disk to watch;
        `container`: the kind of container that this is, see `cgroup`.
        """
        self._gpus = VisibleGpus(nvml or DriverNvml(), visible)
        self._disk = disk
        self._container = container
        self._last_use: tuple[float, CpuUse] | None = None
        """What the control group had used at the last reading, and when that was."""
        self._complaints: set[tuple[str, type[Exception]]] = set()

    def prime(self) -> None:
        """Begin the interval over which the first `read` measures the cores."""
        self._guarded("CPU", _core_percents, None)

    def read(self, now: float) -> Gauges:
        """All gauges, stamped `now` (Unix seconds). What cannot be read is empty: no cores, 0 bytes in all, no GPUs."""
        memory = self._guarded("memory", _memory, MemoryUse(used_bytes=0, total_bytes=0))
        gpus, gpu_reason = self._read_gpus()
        quota, used, throttled = self._guarded("CPU quota", self._read_quota, (None, None, None))
        return Gauges(
            time=now,
            cores=self._guarded("CPU", _core_percents, []),
            memory_used_bytes=memory.used_bytes,
            memory_total_bytes=memory.total_bytes,
            gpus=gpus,
            gpu_reason=gpu_reason,
            disk_free_bytes=self._guarded("disk", self._read_disk, None),
            cpu_quota=quota,
            cpu_used=used,
            cpu_throttled=throttled,
        )

    def close(self) -> None:
        """Let go of the GPU driver."""
        self._guarded("GPU", self._gpus.close, None)

    def _read_disk(self) -> int | None:
        return None if self._disk is None else free_bytes(self._disk)

    def _read_quota(self) -> tuple[float | None, float | None, float | None]:
        """The quota, where it is below the cores that may be used, and what was used of it since the last reading."""
        now, use, last = time.monotonic(), cpu_use(), self._last_use
        if use is None or use.quota >= len(_allowed_cores()):
            return None, None, None
        self._last_use = (now, use)
        return (use.quota, *used_since(last[1], use, now - last[0])) if last is not None else (use.quota, None, None)

    def _read_gpus(self) -> tuple[list[dict[str, Any]], str]:
        try:
            return self._gpus.read(), ""
        except NvmlError as error:
            how = _GPUS_FOR.get(self._container)
            hint = f" in this container ({self._container}: {how})" if how and str(error) == NO_DRIVER else ""
            return [], f"{error}{hint}"
        except Exception as error:  # noqa: BLE001 - whatever a broken driver raises is the reason that people see
            return [], f"NVML: {safe_line(str(error) or type(error).__name__)}"

    def _guarded(self, sensor: str, read: Callable[[], _ValueT], otherwise: _OtherT) -> _ValueT | _OtherT:
        """What `read` returns, or `otherwise` when it raises, and a line in the log for each new kind of failure."""
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - a sensor must not take the others with it, whatever it raises
            complaint = (sensor, type(error))
            if complaint not in self._complaints:
                self._complaints.add(complaint)
                _logger.warning("%s gauge: %s: %s", sensor, type(error).__name__, error)
            return otherwise


class GaugeReader:
    """Reads `sensors` every `interval_s` in a daemon thread and hands each reading to `on_gauges`, in that thread.

    The pause comes after the reading: a slow driver is asked less often, and never twice at once.
    """

    def __init__(self, on_gauges: Callable[[Gauges], None], *, interval_s: float = 1.0, sensors: Sensors | None = None) -> None:
        self._on_gauges = on_gauges
        self._interval_s = interval_s
        self._sensors = sensors or Sensors(visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="gauges", daemon=True)

    def start(self) -> None:
        """Begin to read. Once only."""
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        """End the thread; one that hangs in a driver for longer than `timeout_s` is left behind and hands over nothing more."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            self._sensors.prime()
            pause_s = min(FIRST_READ_S, self._interval_s)
            while not self._stopping.wait(pause_s):
                gauges = self._sensors.read(time.time())
                if not self._stopping.is_set():
                    self._on_gauges(gauges)
                pause_s = self._interval_s
        except Exception:
            _logger.exception("no more gauges: the receiver failed")
        finally:
            self._sensors.close()


def of_cores(percents: Sequence[float], allowed: Collection[int]) -> list[float]:
    """The entries of `percents` (one per core that is online, in order of number) that belong to the `allowed` cores.

    Numbers have gaps where cores are offline: as many entries as allowed cores are theirs, whatever the numbers.
    """
    if len(percents) == len(allowed):
        return list(percents)
    return [percents[core] for core in sorted(allowed) if core < len(percents)]


def used_since(before: CpuUse, now: CpuUse, seconds: float) -> tuple[float | None, float | None]:
    """CPUs' worth of time that a group has used, and the share of its periods in which it was held back; None: unknown."""
    used = (now.used_s - before.used_s) / seconds if seconds > 0 else None
    periods = now.periods - before.periods
    return used, (now.throttled - before.throttled) / periods if periods > 0 else None


def tighter(host: MemoryUse, group: MemoryUse | None) -> MemoryUse:
    """The control group's memory where its limit is below the host's memory, else the host's: "no limit" can read as 2**63."""
    return group if group is not None and group.total_bytes < host.total_bytes else host


def free_bytes(path: Path) -> int:
    """What this user may still write to the disk that `path` lies on, or will lie on once it is made. Raises: OSError."""
    place = path.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def _core_percents() -> list[float]:
    return of_cores(psutil.cpu_percent(percpu=True), _allowed_cores())


def _memory() -> MemoryUse:
    host = psutil.virtual_memory()
    return tighter(MemoryUse(used_bytes=host.total - host.available, total_bytes=host.total), memory_use())


def _allowed_cores() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))
