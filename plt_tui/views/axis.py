"""Ticks of an axis with their labels, and the range it shows.

Pure; does not draw. Invariant: every function takes any float, NaN and infinities included, and gives text or ticks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

from plt_tui.views.formats import format_value, scientific

NumberFormat = Callable[[float], str]

LARGEST = 1e300
"""Ranges are kept inside it, so that no arithmetic on an axis overflows."""
_SMALLEST = 5e-324
"""The smallest float above zero."""
_CLOCK_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200)
"""Seconds between ticks that people count in, below a day."""
_DAY_S = 86_400
_UNITS = ((_DAY_S, "d"), (3600, "h"), (60, "m"), (1, "s"))


def nice_step(span: float, n: int) -> float:
    """The smallest step of 1, 2 or 5 times a power of ten that cuts `span` (> 0) into at most `n` parts."""
    rough = max(span / max(n, 1), _SMALLEST)
    power = 10.0 ** math.floor(math.log10(rough))
    if power == 0.0 or not math.isfinite(power):
        return rough
    # The tolerance keeps 0.30000000000000004 / 3 at step 0.1.
    return power * next(factor for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))


def nice_ticks(low: float, high: float, n: int) -> list[float]:
    """Multiples of a 1-2-5 step in [low, high], about `n` and at least two; none where the range is empty or not finite."""
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or n < 1 or not math.isfinite(high - low):
        return []
    step = nice_step(high - low, n)
    first, last = _multiples(low, high, step)
    for finer in (2, 4):
        if last <= first:
            step = nice_step(high - low, finer * n)
            first, last = _multiples(low, high, step)
    if not 0 < last - first < 10 * n:  # below the resolution of float64 around low
        return [low, high]
    # Dividing by a whole number prints 0.3 where 3 * 0.1 prints 0.30000000000000004.
    inverse = round(1 / step) if step < 1 and math.isfinite(1 / step) else 0
    return [index / inverse if inverse else index * step for index in range(first, last + 1)]


def _multiples(low: float, high: float, step: float) -> tuple[int, int]:
    """The first and the last multiple of `step` in [low, high], as factors."""
    return math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)


def log_ticks(low: float, high: float, n: int) -> list[float]:
    """Powers of ten in [low, high] (both > 0), thinned to at most `n`; 1-2-5 steps where fewer than two powers lie inside."""
    if not (0 < low < high < math.inf) or n < 1:
        return []
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first >= 1:
        stride = -(-(last - first + 1) // n)
        return [10.0**power for power in range(first, last + 1) if power % stride == 0]
    ticks = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1.0, 2.0, 5.0)]
    inside = [tick for tick in ticks if low <= tick <= high]
    return inside[:n] if len(inside) >= 3 else nice_ticks(low, high, n)


def duration_ticks(low: float, high: float, n: int) -> list[float]:
    """Seconds in [low, high] at whole steps of a clock, about `n` and at least two; none where `nice_ticks` gives none."""
    ticks = nice_ticks(low, high, n)
    rough = (high - low) / n if ticks else 0.0
    if rough <= 1.0 or rough > LARGEST:
        return ticks
    days = max(1.0, nice_step((high - low) / _DAY_S, n)) * _DAY_S
    step = next((step for step in _CLOCK_STEPS if step >= rough), days)
    for finer in (step, *(finer for finer in reversed(_CLOCK_STEPS) if finer < step)):
        first, last = _multiples(low, high, finer)
        if 0 < last - first < 10 * n and last < 1e15:
            return [float(index * finer) for index in range(first, last + 1)]
    return ticks


def padded_range(low: float, high: float) -> tuple[float, float]:
    """A range around [low, high] whose ends are quarter ticks, so that it stays the same while the extremes move a little."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return 0.0, 1.0
    low, high = (min(max(end, -LARGEST), LARGEST) for end in (low, high))
    if high - low <= max(abs(high) * 1e-12, 1e-300):
        margin = abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    step = nice_step(high - low, 5) / 4
    return math.floor(low / step - 0.2) * step, math.ceil(high / step + 0.2) * step


def tick_labels(ticks: Sequence[float], style: NumberFormat | None = None) -> list[str]:
    """One label a tick: by `style` where that tells them apart, else with as many digits as the step needs."""
    if style is not None:
        labels = [style(tick) for tick in ticks]
        if len(set(labels)) == len(labels):
            return labels
    return _aligned(ticks)


def _aligned(ticks: Sequence[float]) -> list[str]:
    largest = max((abs(tick) for tick in ticks), default=0.0)
    gaps = [after - before for before, after in itertools.pairwise(ticks)]
    step = min(gaps, default=largest) or 1.0
    if (largest >= 1e6 and largest / step < 1e3) or 0 < largest < 1e-2:
        digits = max(0, math.floor(math.log10(largest)) - math.floor(math.log10(step) + 1e-9))
        return [scientific(tick, min(digits, 15)) for tick in ticks]
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{min(decimals, 15)}f}" for tick in ticks]


def format_tick(value: float) -> str:
    """A tick of a log axis in few characters: "0.01", "1", "5e-5", "1e6"."""
    if not math.isfinite(value) or value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:g}"
    text = f"{value:.2e}"
    mantissa, exponent = text.split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def format_clock(seconds: float) -> str:
    """A time span down to its last unit that is not zero: "0", "0.5s", "45s", "1m30s", "2h", "1h00m30s", "1d12h"."""
    if not abs(seconds) < 1e15:
        return format_value(seconds)
    if seconds < 0:
        return f"-{format_clock(-seconds)}"
    seconds = round(seconds, 3)
    if seconds < 60:
        return f"{seconds:g}s" if seconds else "0"
    parts: list[str] = []
    for size, unit in _UNITS:
        count, seconds = divmod(seconds, size) if size > 1 else (round(seconds, 3), 0.0)
        if parts or count:
            parts.append(f"{count:g}{unit}" if not parts else f"{'0' if count < 10 else ''}{count:g}{unit}")
    while float(parts[-1][:-1]) == 0:
        parts.pop()
    return "".join(parts)
