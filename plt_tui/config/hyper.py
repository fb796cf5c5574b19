"""Every hyperparameter as a pure function of (config, edits, step): nothing is ever read back from an optimizer.

Views draw the remaining schedule with the same function that the ranks obey. Steps count from 1: step s is the s-th optimizer
update. Invariant: the same config and edits give the same floats in every process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from plt_tui.config.edits import Edit, EditMode, live_edits, skipped_batches
from plt_tui.config.knobs import KNOBS
from plt_tui.config.schema import OptimSection, RunConfig
from plt_tui.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How one rank's share of a global batch is cut."""

    batch_size: int
    """Sequences per rank and micro-step."""
    accumulate: int
    """Micro-steps per optimizer step."""

    @property
    def sequences(self) -> int:
        """Sequences per rank and optimizer step."""
        return self.batch_size * self.accumulate


def layout_at(config: RunConfig, edits: Sequence[Edit], step: int) -> Layout:
    """The layout in force at `step`."""
    layout = Layout(batch_size=config.train.batch_size, accumulate=config.train.accumulate)
    for edit in live_edits(edits, step):
        if edit.name in ("batch_size", "accumulate"):
            layout = _laid_out(layout, edit.name, edit.value)
    return layout


def _laid_out(layout: Layout, name: str, value: Any) -> Layout:
    if isinstance(value, list | tuple):  # both were given, so that the global batch stays
        return Layout(batch_size=value[0], accumulate=value[1])
    return replace(layout, **{name: int(value)})


def samples_taken(config: RunConfig, edits: Sequence[Edit], world_size: int, first: int, stop: int) -> int:
    """Sequences that `world_size` ranks train on, or leave out, in the steps `first` to `stop - 1`.

    Takes as long as there are edits, however many steps.
    """
    marks = sorted({first, stop, *(edit.step for edit in edits if first < edit.step < stop)})
    return sum(
        (skipped_batches(edits, start) + after - start) * layout_at(config, edits, start).sequences * world_size
        for start, after in pairwise(marks)
    )


def fitted(config: RunConfig, edits: Sequence[Edit], step: int, name: str, value: Any, mode: EditMode) -> Any:
    """The value that an edit of this run holds, which `check_edit` has found in range; in force from `step` on.

    Raises: UsageError when it does not fit this run, with what would.
    """
    if name == "weights" and len(value) != len(config.data.corpora):
        raise UsageError(f"weights: {len(value)} numbers for {len(config.data.corpora)} corpora; give one for each")
    if name == "embedding_grad_scale" and config.model.arch != "transformer":
        raise UsageError(f"embedding_grad_scale: a plug-in's model ({config.model.arch}) has no such factor")
    if mode != "keep" or isinstance(value, list | tuple):
        return value
    sequences = layout_at(config, edits, step).sequences
    if sequences % value:
        allowed = ", ".join(str(n) for n in range(1, sequences + 1) if sequences % n == 0)
        raise UsageError(f"{name}: {value} does not divide the {sequences} sequences per rank and step; allowed: {allowed}")
    other = sequences // value
    return (value, other) if name == "batch_size" else (other, value)


def base_lr(optim: OptimSection, total_steps: int, step: int) -> float:
    """The planned learning rate at `step` of `total_steps`, before any edit.

    Warmup: lr * step / warmup (Goyal et al. 2017, arXiv 1706.02677). Cosine: Loshchilov and Hutter 2016, arXiv 1608.03983.
    wsd: constant, then linear decay (Hu et al. 2024, arXiv 2404.06395).
    """
    if step <= optim.warmup:
        return optim.lr * step / max(1, optim.warmup)
    fall = optim.lr - optim.min_lr
    match optim.schedule:
        case "constant":
            return optim.lr
        case "wsd":
            decay_start = max(optim.warmup, total_steps - round(optim.decay_fraction * total_steps))
            return optim.lr - fall * _progress(decay_start, total_steps, step)
        case "linear":
            return optim.lr - fall * _progress(optim.warmup, total_steps, step)
        case "cosine":
            return optim.min_lr + fall * _half_cosine(_progress(optim.warmup, total_steps, step))


def lr_at(optim: OptimSection, total_steps: int, edits: Sequence[Edit], step: int) -> float:
    """The learning rate in force at `step`, edits included."""
    live = [edit for edit in live_edits(edits, step) if edit.name == "lr"]
    starts: list[float] = []
    for edit in live:  # a replan goes on from the curve as it was before it
        starts.append(_folded(optim, total_steps, live, starts, edit.step) if edit.mode == "replan" else math.nan)
    return _folded(optim, total_steps, live, starts, step)


def value_at(config: RunConfig, edits: Sequence[Edit], name: str, step: int) -> Any:
    """The value of any knob but lr in force at `step`."""
    if name in ("batch_size", "accumulate"):
        return getattr(layout_at(config, edits, step), name)
    knob = KNOBS[name]
    value = getattr(getattr(config, knob.section), knob.key)
    for edit in live_edits(edits, step):
        if edit.name == name:
            value = tuple(edit.value) if isinstance(edit.value, list) else edit.value
    return value


def _folded(optim: OptimSection, total_steps: int, edits: Sequence[Edit], starts: Sequence[float], at: int) -> float:
    """The rate at step `at` after the first `len(starts)` lr edits; `starts`: for each replan the rate that it goes on from.

    The last `set` or `replan` in force at `at` hides all before it, and behind it there are only factors.
    """
    factors: list[float] = []
    for edit, start in zip(reversed(edits[: len(starts)]), reversed(starts), strict=True):
        if edit.step > at:
            continue
        if edit.mode != "scale":
            rate = _anchored(edit, start, optim.schedule, total_steps, at)
            break
        factors.append(float(edit.value))
    else:
        rate = base_lr(optim, total_steps, at)
    for factor in reversed(factors):
        rate *= factor
    return rate


def _anchored(edit: Edit, start: float, schedule: str, total_steps: int, at: int) -> float:
    """What a `set`, or a `replan` from the rate `start`, gives at step `at`."""
    value = float(edit.value)
    if edit.mode == "set":
        return value
    progress = _progress(edit.step, total_steps, at)
    share = _half_cosine(progress) if schedule == "cosine" else 1.0 - progress
    return value + (start - value) * share


def _progress(first: int, last: int, step: int) -> float:
    return _clamp((step - first) / max(1, last - first))


def _half_cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def _clamp(share: float) -> float:
    return min(1.0, max(0.0, share))
