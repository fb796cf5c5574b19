"""What a container or a batch system lets this process use: the CPU quota and the memory limit of its control group.

Reads the files of version 2 (`cpu.max`, `cpu.stat`, `memory.max`, `memory.events`) and version 1 (`cpu.cfs_quota_us`,
`cpuacct.usage`, `memory.limit_in_bytes`, `memory.oom_control`) and changes none. A parent group's limit holds for its children
too. Invariant: where no group sets a limit the answer is None, not a guess.
Source: Linux kernel, Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
_OOM_FILES = ("memory.events", "memory.oom_control")
"""Where a group's kills are counted, in version 2 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuUse:
    """What a group with a quota has used since it was made, and in how many of its periods it was held back."""

    quota: float
    """CPUs' worth of time that it may use."""
    used_s: float
    periods: int
    throttled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryUse:
    """Bytes in use, page cache that can be dropped not counted, of `total_bytes`."""

    used_bytes: int
    total_bytes: int


def cpu_quota(root: Path = ROOT, membership: Path = MEMBERSHIP) -> float | None:
    """CPUs' worth of time that the groups of this process may use, or None when none of them is limited."""
    quotas = [_quota_of(folder) for folder in _folders(root, membership, "cpu")]
    return min((quota for quota in quotas if quota is not None), default=None)


def cpu_use(root: Path = ROOT, membership: Path = MEMBERSHIP) -> CpuUse | None:
    """Use and quota of the group whose CPU quota is the lowest; None when none is limited, or it does not tell."""
    limited = [(quota, folder) for folder in _folders(root, membership, "cpu") if (quota := _quota_of(folder)) is not None]
    if not limited:
        return None
    quota, folder = min(limited, key=lambda pair: pair[0])
    counts = parse_counts(_read(folder / "cpu.stat") or "")
    used_s = counts.get("usage_usec", -1) / 1e6
    if used_s < 0:
        used_s = int(_read(folder / "cpuacct.usage") or -1) / 1e9
    if used_s < 0:
        return None
    return CpuUse(quota=quota, used_s=used_s, periods=counts.get("nr_periods", 0), throttled=counts.get("nr_throttled", 0))


def memory_use(root: Path = ROOT, membership: Path = MEMBERSHIP) -> MemoryUse | None:
    """Use and limit of the group whose memory limit is the lowest, or None when none is limited."""
    uses = [_memory_of(folder) for folder in _folders(root, membership, "memory")]
    return min((use for use in uses if use is not None), key=lambda use: use.total_bytes, default=None)


def oom_kills(root: Path = ROOT, membership: Path = MEMBERSHIP) -> int:
    """How many processes of this process's own group the kernel has killed because memory ran out; 0 where nobody counts.

    A kill counts in the group of the killed, whichever limit was reached; a parent counts those of other programs too.
    """
    texts = (_read(folder / name) for folder in _folders(root, membership, "memory") for name in _OOM_FILES)
    return next((parse_oom_kills(text) for text in texts if text is not None), 0)


def group_folders(membership: str, controller: str) -> list[PurePosixPath]:
    """Folders of the group and of its parents, relative to the mount, from the text of `/proc/PID/cgroup`.

    A line is "0::/path" in version 2 and "N:cpu,cpuacct:/path" in version 1, where each controller has its own tree. In a
    container the path can be one of the host that is not mounted here: then only the parents, at last the mount itself, exist.
    """
    folders: list[PurePosixPath] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            tree = controller if controllers else "."
            own = PurePosixPath(path.lstrip("/"))
            folders += [tree / folder for folder in (own, *own.parents)]
    return list(dict.fromkeys(folders))


def parse_cpu_max(text: str) -> float | None:
    """CPUs in a `cpu.max` file: "200000 100000" is 2.0, "max 100000" is None."""
    quota, period = text.split()
    return None if quota == "max" else int(quota) / int(period)


def parse_cfs(quota: str, period: str) -> float | None:
    """CPUs in `cpu.cfs_quota_us` and `cpu.cfs_period_us`; a quota of -1 is none."""
    return int(quota) / int(period) if int(quota) > 0 else None


def parse_counts(text: str) -> dict[str, int]:
    """The counters of a `cpu.stat` file, a name and a number to a line."""
    return {name: int(count) for name, count in (line.split() for line in text.splitlines())}


def parse_limit(text: str) -> int | None:
    """Bytes in a `memory.max` or `memory.limit_in_bytes` file; "max" is None."""
    return None if text.strip() == "max" else int(text)


def parse_inactive_file(stat: str) -> int:
    """Bytes of idle page cache in a `memory.stat` file, children included: version 1 calls that `total_inactive_file`."""
    values = dict(line.split() for line in stat.splitlines())
    return int(values.get("total_inactive_file", values.get("inactive_file", 0)))


def parse_oom_kills(text: str) -> int:
    """The counter in a `memory.events` (version 2) or `memory.oom_control` (version 1, since Linux 4.13) file."""
    return int(dict(line.split() for line in text.splitlines()).get("oom_kill", 0))


def container(root: Path, environ: Mapping[str, str]) -> str:
    """What kind of container this process is in, as far as it shows; empty where it does not. root: the root folder."""
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    if environ.get("APPTAINER_CONTAINER") or environ.get("SINGULARITY_CONTAINER"):
        return "apptainer"
    if (root / "run/.containerenv").exists():
        return "podman"
    return "docker" if (root / ".dockerenv").exists() else ""


def _folders(root: Path, membership: Path, controller: str) -> list[Path]:
    return [root / folder for folder in group_folders(_read(membership) or "", controller)]


def _quota_of(folder: Path) -> float | None:
    if (cpu_max := _read(folder / "cpu.max")) is not None:
        return parse_cpu_max(cpu_max)
    quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return parse_cfs(quota, period) if quota is not None and period is not None else None


def _memory_of(folder: Path) -> MemoryUse | None:
    limit, used = _read(folder / "memory.max"), _read(folder / "memory.current")
    if limit is None:
        limit, used = _read(folder / "memory.limit_in_bytes"), _read(folder / "memory.usage_in_bytes")
    total_bytes = parse_limit(limit) if limit is not None else None
    if total_bytes is None or used is None:
        return None
    idle_bytes = parse_inactive_file(_read(folder / "memory.stat") or "")
    return MemoryUse(used_bytes=max(0, int(used) - idle_bytes), total_bytes=total_bytes)


def _read(path: Path) -> str | None:
    """Text of `path`; None when it is not there or not for us: outside Linux, in the root group, in a sandbox."""
    try:
        text = path.read_text(encoding="ascii")
    except OSError:
        return None
    return text or None
