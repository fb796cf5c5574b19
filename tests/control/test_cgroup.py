"""Limits of control groups: the files of both versions, and which of several groups counts."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest

from plt_tui.control import cgroup
from plt_tui.control.cgroup import CpuUse, MemoryUse

GIB = 2**30


def _write_tree(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("max 100000\n", None), ("200000 100000\n", 2.0), ("150000 100000\n", 1.5), ("50000 100000\n", 0.5)],
)
def test_cpu_max_is_quota_over_period(text: str, cpus: float | None) -> None:
    """`cpu.max` means quota / period CPUs, and "max" no limit."""
    assert cgroup.parse_cpu_max(text) == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1\n", None), ("0\n", None), ("250000\n", 2.5)])
def test_cfs_quota_is_a_number_of_cpus_unless_negative(quota: str, cpus: float | None) -> None:
    """Version 1 writes "no quota" as -1."""
    assert cgroup.parse_cfs(quota, "100000\n") == cpus


@pytest.mark.parametrize(("text", "limit"), [("max\n", None), ("1073741824\n", GIB), ("9223372036854771712\n", 2**63 - 4096)])
def test_memory_limit_is_bytes_or_none(text: str, limit: int | None) -> None:
    """A limit is a number of bytes, and "max" is none."""
    assert cgroup.parse_limit(text) == limit


@pytest.mark.parametrize(
    ("stat", "idle"),
    [("anon 5\ninactive_file 7\n", 7), ("inactive_file 7\ntotal_inactive_file 9\n", 9), ("anon 5\n", 0), ("", 0)],
)
def test_idle_page_cache_counts_children_in_both_versions(stat: str, idle: int) -> None:
    """Version 1 has the children's share only in `total_inactive_file`; version 2's `inactive_file` holds it already."""
    assert cgroup.parse_inactive_file(stat) == idle


@pytest.mark.parametrize(
    ("membership", "folders"),
    [
        ("0::/a/b\n", ["a/b", "a", "."]),
        ("0::/\n", ["."]),
        ("4:cpu,cpuacct:/a\n3:memory:/m\n", ["cpu/a", "cpu"]),
        ("1:cpu:/\n0::/\n", ["cpu", "."]),
        ("1:name=systemd:/x:y\n", []),
        ("", []),
    ],
)
def test_own_group_and_its_parents_are_looked_at(membership: str, folders: list[str]) -> None:
    """Every group from the process's own up to the mount is named, own first, in the tree of its version."""
    assert cgroup.group_folders(membership, "cpu") == [PurePosixPath(folder) for folder in folders]


V2 = "0::/job/step\n"
V1 = "5:memory:/job\n4:cpu,cpuacct:/job\n"


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        (V2, {"job/step/cpu.max": "max 100000\n", "job/cpu.max": "300000 100000\n"}, 3.0),
        (V2, {"job/step/cpu.max": "150000 100000\n", "job/cpu.max": "300000 100000\n"}, 1.5),
        (V2, {"job/step/cpu.max": "max 100000\n"}, None),
        ("0::/not/mounted/here\n", {"cpu.max": "100000 100000\n"}, 1.0),
        (V1, {"cpu/job/cpu.cfs_quota_us": "50000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}, 0.5),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        (V2, {}, None),
    ],
)
def test_lowest_cpu_quota_on_the_way_up_counts(
    tmp_path: Path, membership: str, files: dict[str, str], quota: float | None
) -> None:
    """A parent's quota holds for its children, a missing file is no limit, and without a limit there is no number."""
    _write_tree(tmp_path, {"membership": membership, **files})
    assert cgroup.cpu_quota(tmp_path, tmp_path / "membership") == quota


STAT = "usage_usec 2500000\nuser_usec 1\nnr_periods 40\nnr_throttled 10\nthrottled_usec 5\n"


@pytest.mark.parametrize(
    ("membership", "files", "use"),
    [
        (
            V2,
            {"job/step/cpu.max": "max 100000\n", "job/cpu.max": "200000 100000\n", "job/cpu.stat": STAT},
            CpuUse(quota=2.0, used_s=2.5, periods=40, throttled=10),
        ),
        (
            V1,
            {
                "cpu/job/cpu.cfs_quota_us": "50000\n",
                "cpu/job/cpu.cfs_period_us": "100000\n",
                "cpu/job/cpuacct.usage": "1500000000\n",
                "cpu/job/cpu.stat": "nr_periods 4\nnr_throttled 1\nthrottled_time 7\n",
            },
            CpuUse(quota=0.5, used_s=1.5, periods=4, throttled=1),
        ),
        (V2, {"job/cpu.max": "200000 100000\n"}, None),  # it does not tell what it uses
        (V2, {"job/cpu.max": "max 100000\n", "job/cpu.stat": STAT}, None),
        (V2, {}, None),
    ],
)
def test_the_use_of_the_group_with_the_lowest_quota_counts(
    tmp_path: Path, membership: str, files: dict[str, str], use: CpuUse | None
) -> None:
    """Time used, and periods in which it was held back; nothing where no quota is set."""
    _write_tree(tmp_path, {"membership": membership, **files})
    assert cgroup.cpu_use(tmp_path, tmp_path / "membership") == use


@pytest.mark.parametrize(
    ("files", "environ", "kind"),
    [
        ((), {}, ""),
        ((".dockerenv",), {}, "docker"),
        (("run/.containerenv",), {}, "podman"),
        ((".dockerenv",), {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
        ((), {"APPTAINER_CONTAINER": "a.sif"}, "apptainer"),
        ((), {"SINGULARITY_CONTAINER": "a.sif"}, "apptainer"),
    ],
)
def test_a_container_is_known_by_its_marks(tmp_path: Path, files: tuple[str, ...], environ: dict[str, str], kind: str) -> None:
    """Files and variables that its engine leaves; no mark, no guess."""
    _write_tree(tmp_path, dict.fromkeys(files, ""))
    assert cgroup.container(tmp_path, environ) == kind


@pytest.mark.parametrize(
    ("membership", "files", "use"),
    [
        (
            V2,
            {
                "job/memory.max": f"{8 * GIB}\n",
                "job/memory.current": f"{5 * GIB}\n",
                "job/memory.stat": f"anon 1\ninactive_file {2 * GIB}\n",
                "job/step/memory.max": "max\n",
                "job/step/memory.current": f"{GIB}\n",
            },
            MemoryUse(used_bytes=3 * GIB, total_bytes=8 * GIB),
        ),
        (
            V1,
            {
                "memory/job/memory.limit_in_bytes": f"{4 * GIB}\n",
                "memory/job/memory.usage_in_bytes": f"{2 * GIB}\n",
                "memory/job/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB}\n",
                "memory/memory.limit_in_bytes": "9223372036854771712\n",
                "memory/memory.usage_in_bytes": f"{9 * GIB}\n",
            },
            MemoryUse(used_bytes=GIB, total_bytes=4 * GIB),
        ),
        (V2, {"job/memory.max": "max\n", "job/memory.current": "1\n"}, None),
        (V2, {}, None),
    ],
)
def test_tightest_memory_limit_counts_without_idle_page_cache(
    tmp_path: Path, membership: str, files: dict[str, str], use: MemoryUse | None
) -> None:
    """The group with the lowest limit answers, and page cache that can be dropped is not memory in use."""
    _write_tree(tmp_path, {"membership": membership, **files})
    assert cgroup.memory_use(tmp_path, tmp_path / "membership") == use


@pytest.mark.parametrize(
    ("membership", "files", "kills"),
    [
        (V2, {"job/step/memory.events": "low 0\nmax 9\noom 3\noom_kill 2\n"}, 2),
        (V2, {"job/step/memory.events": "oom_kill 2\n", "job/memory.events": "oom_kill 5\n"}, 2),
        (V2, {"job/memory.events": "oom_kill 5\n"}, 5),
        (V1, {"memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"}, 4),
        (V1, {"memory/job/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, 0),
        (V2, {}, 0),
    ],
)
def test_kills_for_want_of_memory_are_counted(tmp_path: Path, membership: str, files: dict[str, str], kills: int) -> None:
    """In the own group only: a parent's number grows when another program of the user is killed too."""
    _write_tree(tmp_path, {"membership": membership, **files})
    assert cgroup.oom_kills(tmp_path, tmp_path / "membership") == kills


def test_a_system_without_control_groups_has_no_limits(tmp_path: Path) -> None:
    """Outside Linux neither file nor folder exists, and that is no error."""
    assert cgroup.cpu_quota(tmp_path / "none", tmp_path / "membership") is None
    assert cgroup.cpu_use(tmp_path / "none", tmp_path / "membership") is None
    assert cgroup.memory_use(tmp_path / "none", tmp_path / "membership") is None
    assert cgroup.oom_kills(tmp_path / "none", tmp_path / "membership") == 0
