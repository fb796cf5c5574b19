"""What it costs that all ranks agree at every step: a loop of two CPU ranks with the exchange against the same loop without it.

Both run in turn in the same processes (`agreed_ddp`). Compared is block with block, each as long as the rank that took longest.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass

from benchmarks.machine import ROOT
from benchmarks.table import Row, row
from benchmarks.workplace import workplace

RANKS = 2
PAIRS = 110
"""Pairs of blocks of 20 steps: 2200 steps of each loop."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds of one step, as the mean over a block, by both loops."""

    plain_s: float
    agreed_s: float


def measure(*, quick: bool) -> list[Row]:
    """The share of a step that the exchange costs, with its budget, and the step itself."""
    with workplace() as place:
        out = place.folder / "agreement"
        words = ["--ranks", str(RANKS), "--pairs", str(4 if quick else PAIRS)]
        place.execute([sys.executable, "-m", "benchmarks.agreed_ddp", str(out), *words], cwd=ROOT)
        said = [json.loads((out / f"rank-{rank}.json").read_text()) for rank in range(RANKS)]
    pairs = slowest(said)
    return [
        row(f"cost of agreement, in a step on {RANKS} CPU ranks", [cost(pair) for pair in pairs], "%", at_most=1.0),
        row("(one step without it)", [pair.plain_s * 1e3 for pair in pairs], "ms"),
        row("(one step with it)", [pair.agreed_s * 1e3 for pair in pairs], "ms"),
    ]


def cost(pair: Pair) -> float:
    """What the exchange adds to a step, in per cent of it."""
    return 100.0 * (pair.agreed_s / pair.plain_s - 1.0)


def slowest(said: list[dict[str, list[float]]]) -> list[Pair]:
    """The pairs of blocks of all ranks together; `said`: seconds of a step by loop and block, for each rank."""
    plain, agreed = ([max(each) for each in zip(*(rank[loop] for rank in said), strict=True)] for loop in ("plain", "agreed"))
    return [Pair(*seconds) for seconds in zip(plain, agreed, strict=True)]
