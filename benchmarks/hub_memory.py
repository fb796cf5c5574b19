"""Memory of the hub after a run of a million steps, and its peak while a view attaches: see `hub_load`, which is measured."""

from __future__ import annotations

import json
import subprocess
import sys

from benchmarks.machine import ROOT
from benchmarks.table import Row, row
from benchmarks.workplace import DEADLINE_S

LIMIT_MB = 300


def measure(*, quick: bool) -> list[Row]:
    """Resident memory, and its peak."""
    steps = 20_000 if quick else 1_000_000
    said = [_load(steps) for _ in range(1 if quick else 3)]
    return [
        row(f"hub memory after {steps:,} steps", [each["rss_bytes"] / 1e6 for each in said], "MB", at_most=LIMIT_MB),
        row(f"hub memory after {steps:,} steps, peak", [each["peak_bytes"] / 1e6 for each in said], "MB", at_most=LIMIT_MB),
    ]


def _load(steps: int) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.hub_load", str(steps)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=DEADLINE_S,
        check=True,
    )
    values: dict[str, int] = json.loads(done.stdout)
    return values
