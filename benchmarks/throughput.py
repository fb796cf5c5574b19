"""Tokens per second of plt-tui against a bare torch DDP loop (`bare_ddp`) on the quick start, one rank per core.

Both in turn, ABBA, so that a machine that warms up or slows down favours neither. Compared pair by pair is the median time of a
step, and the whole time, in which work that is not done at every step counts too. Invariant: nothing is compared unless both
gave the same losses.
"""

from __future__ import annotations

import json
import math
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

from benchmarks.machine import ROOT
from benchmarks.records import read_steps, step_seconds
from benchmarks.table import Row, row
from benchmarks.workplace import QUIET, Workplace, headless, workplace
from plt_tui.config.load import load, to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control import placement
from plt_tui.control.gauges import usable_cores

FIRST_STEP = 20
"""Steps before it are warm-up."""
CHECKED_STEP = 10
LOSS_TOLERANCE = 1e-6
"""Relative. Both add the same gradients, with three and more ranks perhaps in another order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds per step of one training."""

    median_s: float
    mean_s: float
    losses: list[float]
    """Mean over the ranks, by step."""


def measure(*, quick: bool) -> list[Row]:
    """The ratio with its budget, taken in two ways, and both speeds."""
    steps, num_pairs = (40, 1) if quick else (150, 4)
    settings = (*QUIET, f"train.steps={steps}")
    config = load(None, sets=settings).config
    ranks = placement.place(config.parallel, usable_cores(), [])
    tokens = len(ranks.devices) * config.train.batch_size * config.data.context
    pairs: list[tuple[Pace, Pace]] = []
    with workplace() as place:
        for number in range(num_pairs):
            runs = {
                "ours": partial(_ours, place, f"ours-{number}", settings, steps),
                "bare": partial(_bare, place, f"bare-{number}", config, ranks),
            }
            order = ("ours", "bare") if number % 2 == 0 else ("bare", "ours")
            paces = {name: runs[name]() for name in order}
            _require_same_losses(paces["ours"], paces["bare"])
            pairs.append((paces["ours"], paces["bare"]))
    what = f"tokens/s against a bare torch DDP loop, {len(ranks.devices)} ranks"
    return [
        row(f"{what}, by median step", [bare.median_s / ours.median_s for ours, bare in pairs], at_least=1.0),
        row(f"{what}, by the whole time", [bare.mean_s / ours.mean_s for ours, bare in pairs], at_least=1.0),
        row("(plt-tui, headless)", [tokens / ours.median_s for ours, _ in pairs], "tokens/s"),
        row("(bare loop)", [tokens / bare.median_s for _, bare in pairs], "tokens/s"),
    ]


def _ours(place: Workplace, name: str, settings: tuple[str, ...], steps: int) -> Pace:
    place.execute(headless(name, *settings))
    recorded = read_steps(place.run_folder(name))
    assert len(recorded) == steps, f"{len(recorded)} steps on record, {steps} asked for"
    return pace([step.time for step in recorded], [step.loss for step in recorded])


def _bare(place: Workplace, name: str, config: RunConfig, ranks: placement.Placement) -> Pace:
    out, config_file = place.folder / name, place.folder / f"{name}.toml"
    config_file.write_text(to_toml(config))
    num_ranks = len(ranks.devices)
    module = [sys.executable, "-m", "benchmarks.bare_ddp", str(config_file), str(out)]
    place.execute([*module, "--ranks", str(num_ranks), "--threads", str(ranks.threads)], cwd=ROOT)
    said = [_read(out / f"rank-{rank}.json") for rank in range(num_ranks)]
    losses = [fmean(values) for values in zip(*(each["losses"] for each in said), strict=True)]
    return pace(said[0]["ends_s"], losses)


def _read(path: Path) -> dict[str, list[float]]:
    values: dict[str, list[float]] = json.loads(path.read_text())
    return values


def pace(ends_s: list[float], losses: list[float]) -> Pace:
    """The pace from FIRST_STEP to the last step; `ends_s[i]` is when step i + 1 ended."""
    seconds = step_seconds(ends_s, FIRST_STEP, len(ends_s))
    return Pace(median_s=median(seconds), mean_s=fmean(seconds), losses=losses)


def _require_same_losses(ours: Pace, bare: Pace) -> None:
    mine, other = ours.losses[CHECKED_STEP - 1], bare.losses[CHECKED_STEP - 1]
    if not math.isclose(mine, other, rel_tol=LOSS_TOLERANCE):
        raise RuntimeError(f"not the same work: loss {mine!r} of plt-tui and {other!r} of the bare loop at step {CHECKED_STEP}")
