"""On what the numbers were measured: date, machine, versions and commit, in one line."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import psutil

from plt_tui.control.gauges import usable_cores

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "textual")


def head_line() -> str:
    """Such as "2026-01-31, AMD EPYC, 2 cores, 16 GB memory, Python 3.12.1, torch 2.13.0, textual 8.2.8, commit 1a2b3c4"."""
    parts = [
        datetime.date.today().isoformat(),
        _cpu(),
        f"{usable_cores()} cores",
        f"{psutil.virtual_memory().total / 1e9:.0f} GB memory",
        f"Python {platform.python_version()}",
        *(f"{package} {version(package)}" for package in PACKAGES),
        f"commit {_commit()}",
    ]
    return ", ".join(parts)


def cpu_model(cpuinfo: str) -> str:
    """The processor's name in the text of /proc/cpuinfo (proc(5)), or empty."""
    names = (line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name"))
    return next(names, "")


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    return (cpu_model(path.read_text()) if path.exists() else "") or platform.processor() or platform.machine()


def _commit() -> str:
    """Short hash of the commit, "+dirty" when files differ from it; "unknown" outside a checkout."""
    if not (ROOT / ".git").exists():
        return "unknown"
    return _git("rev-parse", "--short", "HEAD") + ("+dirty" if _git("status", "--porcelain") else "")


def _git(*words: str) -> str:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0"}
    return subprocess.run(
        ["git", *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
