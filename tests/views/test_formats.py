"""plt_tui.views.formats: numbers as people read them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.views.formats import format_bytes, format_count, format_duration, format_value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (7, "7"),
        (999, "999"),
        (1000, "1k"),
        (1234, "1.23k"),
        (1500, "1.5k"),
        (250_000, "250k"),
        (999_499, "999k"),
        (999_999, "1M"),
        (1_234_567, "1.23M"),
        (-1500, "-1.5k"),
        (4e12, "4T"),
        (3e18, "3.00e18"),
        (0.5, "0.5"),
        (math.nan, "NaN"),
    ],
)
def test_format_count(value: float, text: str) -> None:
    """Counts have at most three digits and a unit."""
    assert format_count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (2.3123, "2.312"),
        (9.9996, "10.00"),
        (12.345, "12.35"),
        (123.45, "123.5"),
        (12345.6, "12346"),
        (1234567.0, "1.23e6"),
        (0.23456, "0.235"),
        (0.012345, "0.0123"),
        (0.0012345, "0.00123"),
        (0.0003, "3.00e-4"),
        (-2.5, "-2.500"),
        (math.nan, "NaN"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (5e-324, "4.94e-324"),
    ],
)
def test_format_value(value: float, text: str) -> None:
    """Measured values keep three or four significant digits."""
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0ms"),
        (0.42, "420ms"),
        (0.9999, "1.0s"),
        (4.2, "4.2s"),
        (9.97, "10s"),
        (59.6, "1m 00s"),
        (725, "12m 05s"),
        (3720, "1h 02m"),
        (86400 * 3 + 4 * 3600, "3d 04h"),
        (-5, "-5.0s"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    """Durations have their two largest units."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (512, "512 B"), (1536, "1.5 KiB"), (16.9e9, "15.7 GiB"), (1023 * 1024, "1 MiB"), (1e18, "888 PiB")],
)
def test_format_bytes(size: float, text: str) -> None:
    """Sizes have three digits and a binary unit."""
    assert format_bytes(size) == text


@given(value=st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_has_a_short_text_of_plain_characters(value: float) -> None:
    """No format raises, and none shifts a table or needs more than ASCII."""
    texts = [style(value) for style in (format_value, format_count, format_bytes)]
    assert all(1 <= len(text) <= 16 for text in texts)
    assert all(text.isascii() for text in [*texts, format_duration(value)])
