"""Gauges: what the run may use, and a thread that no sensor can stop."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from plt_tui.control import gauges
from plt_tui.control.cgroup import CpuUse, MemoryUse
from plt_tui.control.gauges import (
    GaugeReader,
    Sensors,
    cores_within,
    free_bytes,
    gpu_ordinals,
    of_cores,
    tighter,
    usable_cores,
    used_since,
)
from plt_tui.control.nvml import NvmlError, VisibleGpus
from plt_tui.protocol.events import Gauges
from plt_tui.protocol.framing import decode, encode

DEADLINE_S = 10.0
NO_DRIVER = NvmlError("no NVIDIA driver")


class NoGpus:
    """An NVML that cannot be opened: it waits for `gate`, then raises `error`."""

    def __init__(self, error: Exception = NO_DRIVER) -> None:
        self._error = error
        self.gate = threading.Event()
        self.gate.set()
        self.asked = threading.Event()

    def open(self) -> None:
        self.asked.set()
        assert self.gate.wait(DEADLINE_S)
        raise self._error


class TwoGpus:
    """As much of an NVML as it takes to count GPUs."""

    def open(self) -> None: ...

    def close(self) -> None: ...

    def count(self) -> int:
        return 2

    def device(self, key: Any) -> Any:
        return key

    def uuid(self, device: Any) -> str:
        return f"GPU-{device}"


@pytest.mark.parametrize(
    ("allowed", "quota", "cores"), [(8, None, 8), (8, 2.0, 2), (8, 2.9, 2), (8, 0.5, 1), (2, 16.0, 2), (1, None, 1)]
)
def test_usable_cores_are_whole_cores_within_affinity_and_quota(allowed: int, quota: float | None, cores: int) -> None:
    """The lower of affinity and quota counts, rounded down, and at least one."""
    assert cores_within(allowed, quota) == cores


def test_this_process_has_between_one_core_and_all_of_them() -> None:
    """The real answer of this machine is in range."""
    assert 1 <= usable_cores() <= (psutil.cpu_count() or 1)


@pytest.mark.parametrize(
    ("percents", "allowed", "shown"),
    [
        ([10.0, 20.0, 30.0, 40.0], {1, 3}, [20.0, 40.0]),
        ([10.0, 20.0], {0, 1}, [10.0, 20.0]),
        ([10.0, 20.0], {0, 2}, [10.0, 20.0]),
        ([10.0, 20.0], {1, 2, 5}, [20.0]),
        ([], {0}, []),
    ],
)
def test_only_the_allowed_cores_are_shown(percents: list[float], allowed: set[int], shown: list[float]) -> None:
    """Cores that the process may not use are left out, also where offline cores leave gaps in the numbers."""
    assert of_cores(percents, allowed) == shown


@pytest.mark.parametrize(
    ("group", "total"),
    [(None, 64), (MemoryUse(used_bytes=1, total_bytes=8), 8), (MemoryUse(used_bytes=1, total_bytes=2**63), 64)],
)
def test_the_lower_of_host_and_group_memory_is_shown(group: MemoryUse | None, total: int) -> None:
    """A control group's limit replaces the host's memory only where it is lower."""
    assert tighter(MemoryUse(used_bytes=3, total_bytes=64), group).total_bytes == total


@pytest.mark.parametrize(
    ("nvml", "torch_version", "ordinals"),
    [
        (TwoGpus(), "2.13.0+cu130", [0, 1]),
        (TwoGpus(), "2.13.0", [0, 1]),
        (TwoGpus(), "2.13.0+cpu", []),
        (NoGpus(), "2.13.0", []),
    ],
)
def test_gpus_count_only_for_a_torch_that_can_use_them(nvml: Any, torch_version: str, ordinals: list[int]) -> None:
    """A CPU build of torch has no GPU, nor has a machine without a driver."""
    assert gpu_ordinals(VisibleGpus(nvml, None), torch_version) == ordinals


def test_a_reading_of_this_machine_is_whole_and_survives_json() -> None:
    """The real sensors give cores in range and memory in use below the memory there is, and the event keeps its values."""
    sensors = Sensors(NoGpus())
    sensors.prime()
    reading = sensors.read(now=12.5)
    assert reading.time == 12.5
    assert 1 <= len(reading.cores) <= (psutil.cpu_count() or 1)
    assert all(0.0 <= use <= 100.0 for use in reading.cores)
    assert 0 < reading.memory_used_bytes < reading.memory_total_bytes
    assert (reading.gpus, reading.gpu_reason) == ([], "no NVIDIA driver")
    assert decode(encode(reading)) == reading


def test_the_free_space_is_that_of_the_disk_where_checkpoints_will_lie(tmp_path: Path) -> None:
    """What df says is available, also before the folder is made, and for a path that is not absolute."""
    disk = os.statvfs(tmp_path)
    for path in (tmp_path, tmp_path / "not" / "made" / "yet"):
        free = Sensors(NoGpus(), disk=path).read(now=0.0).disk_free_bytes
        assert free == pytest.approx(disk.f_bavail * disk.f_frsize, abs=1 << 30)  # others write meanwhile
    assert free_bytes(Path("runs")) == pytest.approx(free_bytes(Path.cwd()), abs=1 << 30)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")], ids=str)
def test_free_space_that_cannot_be_read_is_unknown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: OSError
) -> None:
    """None, one line in the log, and all other gauges; none at all where no disk is to be watched."""

    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(gauges.os, "statvfs", fail)
    sensors = Sensors(NoGpus(), disk=Path("/"))
    with caplog.at_level(logging.WARNING):
        readings = [sensors.read(now=0.0) for _ in range(2)]
    assert [reading.disk_free_bytes for reading in readings] == [None, None]
    assert readings[0].memory_total_bytes > 0
    assert [record.message for record in caplog.records] == [f"disk gauge: {type(error).__name__}: {error}"]
    assert Sensors(NoGpus()).read(now=0.0).disk_free_bytes is None


def use(used_s: float, periods: int = 0, throttled: int = 0, *, quota: float = 0.5) -> CpuUse:
    """What a control group has used so far."""
    return CpuUse(quota=quota, used_s=used_s, periods=periods, throttled=throttled)


@pytest.mark.parametrize(
    ("before", "now", "seconds", "shown"),
    [
        (use(10.0), use(12.0), 4.0, (0.5, None)),
        (use(10.0, 100, 20), use(10.0, 110, 22), 1.0, (0.0, 0.2)),
        (use(10.0), use(11.0), 0.0, (None, None)),
    ],
)
def test_what_a_group_uses_is_a_difference_over_time(before: CpuUse, now: CpuUse, seconds: float, shown: object) -> None:
    """Cores' worth of time, and the share of periods in which it was held back; unknown where nothing has passed."""
    assert used_since(before, now, seconds) == shown


def test_below_a_quota_the_group_s_own_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second reading on; a quota that all cores together stay below is none, nor is a missing one."""
    readings = iter([use(1.0), use(2.0, 10, 5), use(2.0, quota=4096.0), None])
    monkeypatch.setattr(gauges, "cpu_use", lambda: next(readings))
    sensors = Sensors(NoGpus())
    first, second, *free = (sensors.read(now=float(second)) for second in range(4))
    assert (first.cpu_quota, first.cpu_used, first.cpu_throttled) == (0.5, None, None)
    assert (second.cpu_quota, second.cpu_throttled) == (0.5, 0.5)
    assert second.cpu_used is not None
    assert second.cpu_used > 0
    assert [(reading.cpu_quota, reading.cpu_used) for reading in free] == [(None, None)] * 2
    assert decode(encode(second)) == second


@pytest.mark.parametrize(
    ("container", "error", "reason"),
    [
        ("", NO_DRIVER, "no NVIDIA driver"),
        ("docker", NO_DRIVER, "no NVIDIA driver in this container (docker: --gpus all)"),
        ("apptainer", NO_DRIVER, "no NVIDIA driver in this container (apptainer: --nv)"),
        ("kubernetes", NO_DRIVER, "no NVIDIA driver in this container (kubernetes: a limit of nvidia.com/gpu)"),
        ("docker", NvmlError("no permission"), "no permission"),
    ],
)
def test_in_a_container_the_reason_says_how_it_gets_gpus(container: str, error: Exception, reason: str) -> None:
    """A driver that is missing there may be on the machine all the same."""
    reading = Sensors(NoGpus(error), container=container).read(now=0.0)
    assert (reading.gpus, reading.gpu_reason) == ([], reason)


def test_a_broken_gpu_library_is_a_reason_and_no_crash() -> None:
    """Whatever the library raises, people read why the GPUs are missing, with escape sequences made visible."""
    reading = Sensors(NoGpus(error=OSError("bad \x1b[31m library"))).read(now=0.0)
    assert (reading.gpus, reading.gpu_reason) == ([], "NVML: bad \\x1b[31m library")
    assert reading.memory_total_bytes > 0


def test_a_failing_sensor_leaves_the_others_and_one_line_in_the_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without CPU times the cores are unknown, memory still stands, and the log is not flooded."""

    def unreadable(**_: object) -> list[float]:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(gauges, "psutil", SimpleNamespace(cpu_percent=unreadable, virtual_memory=psutil.virtual_memory))
    sensors = Sensors(NoGpus())
    with caplog.at_level(logging.WARNING):
        readings = [sensors.read(now=float(second)) for second in range(3)]
    assert [reading.cores for reading in readings] == [[], [], []]
    assert all(reading.memory_total_bytes > 0 for reading in readings)
    assert [record.message for record in caplog.records] == ["CPU gauge: PermissionError: /proc/stat"]


def test_the_reader_hands_over_readings_until_it_is_stopped() -> None:
    """Readings arrive one after the other while it runs, with the cores' use known from the first, and none afterwards."""
    readings: Queue[Gauges] = Queue()
    reader = GaugeReader(readings.put, interval_s=0.02, sensors=Sensors(NoGpus()))
    reader.start()
    first, second = (readings.get(timeout=DEADLINE_S) for _ in range(2))
    reader.stop()
    assert first.time <= second.time
    assert first.cores
    assert not reader._thread.is_alive()


def test_stopping_a_reader_that_never_started_is_harmless() -> None:
    """The hub can clean up after a start that failed half-way."""
    GaugeReader(lambda _: None, sensors=Sensors(NoGpus())).stop()


def test_a_hanging_driver_does_not_hold_up_the_stop() -> None:
    """`stop` waits its time and no longer, and the late reading is handed to nobody."""
    nvml = NoGpus()
    nvml.gate.clear()
    readings: Queue[Gauges] = Queue()
    reader = GaugeReader(readings.put, interval_s=0.0, sensors=Sensors(nvml))
    reader.start()
    assert nvml.asked.wait(DEADLINE_S)
    reader.stop(timeout_s=0.01)
    assert reader._thread.is_alive()
    nvml.gate.set()
    reader.stop(timeout_s=DEADLINE_S)
    assert not reader._thread.is_alive()
    assert readings.empty()


def test_a_receiver_that_fails_ends_the_gauges_and_is_named_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that is gone, such as a closed event loop, never becomes an unhandled error of the thread."""

    def gone(_: Gauges) -> None:
        raise RuntimeError("Event loop is closed")

    reader = GaugeReader(gone, interval_s=0.0, sensors=Sensors(NoGpus()))
    reader.start()
    reader._thread.join(DEADLINE_S)
    assert not reader._thread.is_alive()
    assert "the receiver failed" in caplog.text
