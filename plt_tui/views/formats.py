"""Numbers as people read them: measured values, counts, sizes, durations.

Pure; knows no screen. Invariant: every function takes any float, NaN and infinities included, and gives a few ASCII characters.
"""

from __future__ import annotations

import math


def scientific(value: float, digits: int) -> str:
    """A value as "3.00e-4", with `digits` after the point."""
    if value == 0:
        return "0"
    mantissa, exponent = f"{value:.{digits}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def format_value(value: float) -> str:
    """A measured value with 3-4 significant digits: "2.312", "0.0120", "12.34", "3.00e-4", "1.23e6", "NaN"."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    exponent = int(f"{value:.3e}".split("e")[1])  # after rounding: 9.9996 counts as 10
    if exponent < -3 or (exponent == -3 and abs(value) < 1e-3) or exponent > 4:
        return scientific(value, 2)
    if exponent < -1:
        return f"{value:.{2 - exponent}f}"
    return f"{value:.{max(0, 3 - max(exponent, 0))}f}"


def format_count(value: float) -> str:
    """A count with at most 3 significant digits and a decimal unit: "250", "1.5k", "250k", "1.23M", "4T"."""
    if not math.isfinite(value):
        return format_value(value)
    for power, unit in ((0, ""), (3, "k"), (6, "M"), (9, "B")):
        scaled = value / 10**power
        if abs(scaled) < 999.5:
            return f"{_three_digits(scaled)}{unit}"
    scaled = value / 1e12
    return f"{_three_digits(scaled)}T" if abs(scaled) < 999.5 else scientific(value, 2)


def _three_digits(value: float) -> str:
    decimals = 0 if abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    text = f"{value:.{decimals}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def format_bytes(value: float) -> str:
    """A size with 3 significant digits and a binary unit: "512 B", "1.5 KiB", "15.7 GiB"."""
    if not math.isfinite(value):
        return format_value(value)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 999.5:
            return f"{_three_digits(value)} {unit}"
        value /= 1024
    return f"{_three_digits(value)} PiB" if abs(value) < 999.5 else f"{value:.3g} PiB"


def format_duration(seconds: float) -> str:
    """A time span in its two largest units: "420ms", "4.2s", "42s", "12m 05s", "1h 02m", "3d 04h"; "?" when not finite."""
    if not math.isfinite(seconds):
        return "?"
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not hours:
        return f"{minutes}m {whole % 60:02d}s"
    return f"{hours}h {minutes % 60:02d}m" if not days else f"{days}d {hours % 24:02d}h"
