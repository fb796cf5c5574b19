"""Every hyperparameter as a pure function of (config, edits, step): nothing is ever read back from an optimizer.

Views draw the remaining schedule with the same function that the ranks obey. Steps count from 1: step s is the s-th optimizer
update. Invariant: the same config and edits give the same floats in every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plt_tui.config.schema import OptimSection, RunConfig
from plt_tui.errors import UsageError

LrMode = Literal["set", "scale", "replan"]
LR_MODES: tuple[LrMode, ...] = ("set", "scale", "replan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """One applied `set` or `undo`: governs every step from `step` on until another edit or an undo of `id`."""

    id: str
    step: int
    name: str
    """A knob of KNOBS, or "undo"."""
    value: Any
    """The knob's new value; for "undo" the id of the edit that is taken back."""
    mode: LrMode = "set"
    """lr only. set: hold `value`; scale: multiply the curve by `value`; replan: continue to `value` at the last step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A value that can change while the run trains."""

    section: str
    key: str
    help: str
    parse: Callable[[object], Any]


def _number(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        try:
            number = float(value)  # type: ignore[arg-type]  # anything else raises, which is the point
        except (TypeError, ValueError, OverflowError):
            raise UsageError(f"{value!r} is not a number") from None
        if isinstance(value, bool) or not low <= number <= high:  # also false for NaN
            raise UsageError(f"{value} is outside {low:g} to {high:g}")
        return number

    return parse


def _steps(value: object) -> int:
    number = _number(0, 10**9)(value)
    if number != int(number):
        raise UsageError(f"{value} is not a whole number of steps")
    return int(number)


def _betas(value: object) -> tuple[float, float]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or len(parts) != 2:
        raise UsageError(f"{value!r}: give two numbers, such as 0.9,0.95")
    first, second = (_number(0.0, 0.999999)(part) for part in parts)
    return first, second


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise UsageError("give a text of at most 1000 characters")
    return value


KNOBS: Mapping[str, Knob] = {
    "lr": Knob(section="optim", key="lr", help="learning rate, 0 to 10", parse=_number(0.0, 10.0)),
    "grad_clip": Knob(section="train", key="grad_clip", help="largest gradient norm, 0: off", parse=_number(0.0, 1e6)),
    "weight_decay": Knob(section="optim", key="weight_decay", help="0 to 10", parse=_number(0.0, 10.0)),
    "betas": Knob(section="optim", key="betas", help="two numbers below 1, such as 0.9,0.95", parse=_betas),
    "eval_every": Knob(section="eval", key="every", help="steps between evaluations, 0: off", parse=_steps),
    "checkpoint_every": Knob(section="checkpoint", key="every", help="steps between checkpoints, 0: off", parse=_steps),
    "sample_every": Knob(section="sample", key="every", help="steps between samples, 0: off", parse=_steps),
    "prompt": Knob(section="sample", key="prompt", help="text that samples continue", parse=_text),
    "temperature": Knob(section="sample", key="temperature", help="of samples, 0 to 10", parse=_number(0.0, 10.0)),
}

_LR_FACTOR = Knob(section="optim", key="lr", help="factor of the learning rate, 0 to 1000", parse=_number(0.0, 1000.0))


def check_edit(name: object, value: object, mode: object = "set") -> tuple[str, Any, LrMode]:
    """The knob's name, its parsed value and the mode.

    Raises: UsageError naming the knob, the value seen and the allowed range.
    """
    knob = KNOBS.get(str(name))
    if knob is None:
        raise UsageError(f"unknown knob {name!r}; known: {', '.join(KNOBS)}")
    checked_mode = next((known for known in LR_MODES if known == mode), None)
    if checked_mode is None or (checked_mode != "set" and name != "lr"):
        raise UsageError(f"{name}: unknown mode {mode!r}; lr knows {', '.join(LR_MODES)}, the others only set")
    try:
        parsed = _LR_FACTOR.parse(value) if checked_mode == "scale" else knob.parse(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error} ({_LR_FACTOR.help if checked_mode == 'scale' else knob.help})") from None
    return str(name), parsed, checked_mode


def live_edits(edits: Sequence[Edit], step: int) -> list[Edit]:
    """The edits in force at `step`, in the order in which they were applied, undone ones left out."""
    undone = {edit.value for edit in edits if edit.name == "undo" and edit.step <= step}
    return [edit for edit in edits if edit.step <= step and edit.name != "undo" and edit.id not in undone]


def last_edit(edits: Sequence[Edit]) -> Edit | None:
    """The edit that a plain `undo` takes back."""
    alive = live_edits(edits, max((edit.step for edit in edits), default=0))
    return alive[-1] if alive else None


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
