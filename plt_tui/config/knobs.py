"""The values that can change while a run trains: their names, ranges and modes.

Knows no run: whether a value fits one is asked of `hyper.fitted`. Invariant: what `check_edit` returned needs no other check of
its range, in no process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from plt_tui.config.edits import EditMode
from plt_tui.errors import UsageError

LR_MODES: tuple[EditMode, ...] = ("set", "scale", "replan")
BATCH_MODES: tuple[EditMode, ...] = ("set", "keep")


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """A value that can change while the run trains."""

    section: str
    key: str
    help: str
    parse: Callable[[object], Any]
    modes: tuple[EditMode, ...] = ("set",)


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


def _whole(low: int, high: int, unit: str) -> Callable[[object], int]:
    in_range = _number(low, high)

    def parse(value: object) -> int:
        number = in_range(value)
        if number != int(number):
            raise UsageError(f"{value} is not a whole number of {unit}")
        return int(number)

    return parse


def _numbers(low: float, high: float, counts: range, example: str) -> Callable[[object], tuple[float, ...]]:
    number = _number(low, high)

    def parse(value: object) -> tuple[float, ...]:
        parts = value.split(",") if isinstance(value, str) else value
        if not isinstance(parts, list | tuple) or len(parts) not in counts:
            raise UsageError(f"{value!r}: give {example}")
        return tuple(number(part) for part in parts)

    return parse


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > 1000:
        raise UsageError("give a text of at most 1000 characters")
    return value


_steps = _whole(0, 10**9, "steps")
_sequences = _whole(1, 2**20, "sequences")
_micro_steps = _whole(1, 2**20, "micro-steps")

KNOBS: Mapping[str, Knob] = {
    "lr": Knob(section="optim", key="lr", help="learning rate, 0 to 10", parse=_number(0.0, 10.0), modes=LR_MODES),
    "grad_clip": Knob(section="train", key="grad_clip", help="largest gradient norm, 0: off", parse=_number(0.0, 1e6)),
    "weight_decay": Knob(section="optim", key="weight_decay", help="0 to 10", parse=_number(0.0, 10.0)),
    "betas": Knob(
        section="optim",
        key="betas",
        help="two numbers below 1, such as 0.9,0.95",
        parse=_numbers(0.0, 0.999999, range(2, 3), "two numbers, such as 0.9,0.95"),
    ),
    "batch_size": Knob(
        section="train",
        key="batch_size",
        help="sequences per rank and micro-step; keep: the same global batch",
        parse=_sequences,
        modes=BATCH_MODES,
    ),
    "accumulate": Knob(
        section="train",
        key="accumulate",
        help="micro-steps per step; keep: the same global batch",
        parse=_micro_steps,
        modes=BATCH_MODES,
    ),
    "weights": Knob(
        section="data",
        key="weights",
        help="shares of the corpora, such as 3,1",
        parse=_numbers(1e-6, 1e6, range(2, 1025), "one number for each corpus, such as 3,1"),
    ),
    "embedding_grad_scale": Knob(
        section="train", key="embedding_grad_scale", help="factor of the embedding's gradient, 0 to 1", parse=_number(0.0, 1.0)
    ),
    "eval_every": Knob(section="eval", key="every", help="steps between evaluations, 0: off", parse=_steps),
    "checkpoint_every": Knob(section="checkpoint", key="every", help="steps between checkpoints, 0: off", parse=_steps),
    "sample_every": Knob(section="sample", key="every", help="steps between samples, 0: off", parse=_steps),
    "log_every": Knob(section="metrics", key="log_every", help="steps between lines in the log, 0: off", parse=_steps),
    "prompt": Knob(section="sample", key="prompt", help="text that samples continue", parse=_text),
    "temperature": Knob(section="sample", key="temperature", help="of samples, 0 to 10", parse=_number(0.0, 10.0)),
    "top_k": Knob(section="sample", key="top_k", help="tokens to draw samples from, 0: all", parse=_whole(0, 2**31, "tokens")),
    "top_p": Knob(section="sample", key="top_p", help="likeliest share to draw from, up to 1", parse=_number(1e-6, 1.0)),
}

_LR_FACTOR = Knob(section="optim", key="lr", help="factor of the learning rate, 0 to 1000", parse=_number(0.0, 1000.0))
_LAYOUT = Knob(
    section="train",
    key="batch_size",
    help="batch_size and accumulate",
    parse=_numbers(1, 2**20, range(2, 3), "two whole numbers"),
)


def check_edit(name: object, value: object, mode: object = "set") -> tuple[str, Any, EditMode]:
    """The knob's name, its parsed value and the mode.

    Raises: UsageError naming the knob, the value seen and the allowed range.
    """
    knob = KNOBS.get(str(name))
    if knob is None:
        raise UsageError(f"unknown knob {name!r}; known: {', '.join(KNOBS)}")
    checked_mode = next((known for known in knob.modes if known == mode), None)
    if checked_mode is None:
        raise UsageError(f"{name}: unknown mode {mode!r}; {name} knows {', '.join(knob.modes)}")
    parser = _parser(knob, checked_mode, value)
    try:
        parsed = parser.parse(value)
    except UsageError as error:
        raise UsageError(f"{name}: {error} ({parser.help})") from None
    return str(name), tuple(map(int, parsed)) if parser is _LAYOUT else parsed, checked_mode


def _parser(knob: Knob, mode: EditMode, value: object) -> Knob:
    """What reads `value`: in some modes it is no value of the knob itself."""
    if mode == "scale":
        return _LR_FACTOR
    if mode == "keep" and isinstance(value, list | tuple):  # as it was applied
        return _LAYOUT
    return knob
