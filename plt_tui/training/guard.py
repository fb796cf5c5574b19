"""Finds the step whose loss or gradient norm is out of line, and decides what is done about it.

Carries out nothing: the rank loop does, and records it. The measure is that of OLMo-core's SkipStepOptimizer and of llm.c's
outlier detector: standard deviations above the mean of the last 128 steps. Theirs forget their window at a resume, and a NaN
that enters OLMo's skips the next 128 updates; here the window lies in checkpoints and holds finite numbers only.
Invariant: the same window and the same values give the same findings to the bit, whatever way the window came about, so that
ranks that feed it sums over all ranks decide alike, and a restored or replayed run decides as the first did.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from plt_tui.config.schema import GuardSection

Quantity = Literal["loss", "grad_norm"]
ActName = Literal["warn", "skip", "lower", "rewind", "stop"]

LEAST_SPREAD = 1e-3
"""A standard deviation below this share of the mean counts as this share: a series that hardly moves must not alarm at a jitter
in its last digits. Losses of neighbouring batches differ by more, even with millions of tokens in each."""

_WORDS: Mapping[Quantity, str] = {"loss": "loss", "grad_norm": "gradient norm"}

_UNIT_BITS = 128
"""Sums count whole units of 2**-128, which is less than the smallest normal float32: what is computed in float32 fits."""
_UNIT = 2.0**-_UNIT_BITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is out of line at one step."""

    what: Quantity
    value: float
    z: float
    """Standard deviations above the mean; NaN when `value` is no finite number."""
    mean: float
    steps: int
    """How many steps mean and standard deviation are taken over."""

    @property
    def is_finite(self) -> bool:
        """False for NaN and infinity."""
        return math.isfinite(self.value)

    def __str__(self) -> str:
        if not self.is_finite:
            return f"{_WORDS[self.what]} is {self.value}"
        return (
            f"{_WORDS[self.what]} {self.value:.4g} is {self.z:.1f} standard deviations above the mean {self.mean:.4g} "
            f"of {self.steps} steps"
        )


@dataclass(frozen=True, slots=True)
class Act:
    """What is done about a finding; `reason` in words for people, with the limit or cool-down that decided."""

    name: ActName
    reason: str


class Windows:
    """The last losses and gradient norms of the line that the run is on. Not shared between threads."""

    def __init__(self, section: GuardSection) -> None:
        self._section = section
        self._of: dict[Quantity, _Window] = {"loss": _Window(section.window), "grad_norm": _Window(section.window)}

    def look(self, loss: float, grad_norm: float) -> Finding | None:
        """The worse of a step's two values when it is out of line with the steps added before; the window stays as it is.

        None while fewer than half of the window's steps are known, unless a value is no finite number.
        """
        values: dict[Quantity, float] = {"loss": loss, "grad_norm": grad_norm}
        found = [self._of[what].judge(what, value) for what, value in values.items()]
        broken = next((finding for finding in found if not finding.is_finite), None)
        if broken is not None:
            return broken
        worst = max(found, key=lambda finding: finding.z)
        return worst if self._section.spike != "off" and worst.z >= self._section.z else None

    def add(self, loss: float, grad_norm: float) -> None:
        """Let a step's values count for the steps after it; what is no finite number is left out."""
        for window, value in zip(self._of.values(), (loss, grad_norm), strict=True):
            if math.isfinite(value):
                window.add(value)

    def state(self) -> dict[str, list[float]]:
        """The values, oldest first: JSON gives them back to the same bits."""
        return {what: list(window.values) for what, window in self._of.items()}

    @classmethod
    def restored(cls, section: GuardSection, state: Mapping[str, Sequence[float]]) -> Windows:
        """The windows that said `state`, cut to the window of `section`; quantities that are not in it begin empty."""
        windows = cls(section)
        for what, window in windows._of.items():
            window.extend(state.get(what, ()))
        return windows


class _Window:
    """The last values of one quantity.

    Its sums are whole numbers, and so they are exact: taking the oldest value out again leaves no rounding behind that would
    depend on the past, squares cancel without loss, and a step costs the same whatever the size.
    """

    __slots__ = ("_size", "_squares", "_total", "values")

    def __init__(self, size: int) -> None:
        self._size = size
        self.values: deque[float] = deque()
        self._total = 0
        self._squares = 0

    def add(self, value: float) -> None:
        self.values.append(value)
        self._count(value, 1)
        if len(self.values) > self._size:
            self._count(self.values.popleft(), -1)

    def extend(self, values: Iterable[float]) -> None:
        for value in values:
            self.add(value)

    def judge(self, what: Quantity, value: float) -> Finding:
        """What is to be said about `value`: z is minus infinity while too little is known to compare it with."""
        count = len(self.values)
        if not math.isfinite(value):
            return Finding(what=what, value=value, z=math.nan, mean=math.nan, steps=count)
        if count < max(2, self._size // 2):
            return Finding(what=what, value=value, z=-math.inf, mean=math.nan, steps=count)
        mean = self._total / (count << _UNIT_BITS)  # of whole numbers: correctly rounded
        variance = (count * self._squares - self._total**2) // (count * (count - 1))
        deviation = math.isqrt(variance) / (1 << _UNIT_BITS)
        spread = max(deviation, LEAST_SPREAD * abs(mean), _UNIT)
        return Finding(what=what, value=value, z=(value - mean) / spread, mean=mean, steps=count)

    def _count(self, value: float, times: int) -> None:
        numerator, denominator = value.as_integer_ratio()
        units = (numerator << _UNIT_BITS) // denominator
        self._total += times * units
        self._squares += times * units * units


def decide(finding: Finding, guard: GuardSection, *, step: int, last_act_step: int | None, acts: int) -> Act:
    """What is done about `finding` at `step`. Pure.

    last_act_step: the step at which the guard last did more than warn; for a rewind the one that it went back to. acts: how
    often it did so. No cool-down holds for a value that is no finite number, since warning does not help against it.
    """
    policy = guard.spike if finding.is_finite else guard.non_finite
    assert policy != "off"  # nothing is found then
    words = str(finding)
    if policy == "warn":
        return Act("warn", words)
    if finding.is_finite and last_act_step is not None and step - last_act_step <= guard.cooldown:
        return Act("warn", f"{words}; only a warning within {guard.cooldown} steps of the act at step {last_act_step}")
    if policy != "stop" and acts >= guard.limit:
        return Act("stop", f"{words}; to {policy} would be act {acts + 1}, and the limit is {guard.limit}")
    return Act(policy, words)
