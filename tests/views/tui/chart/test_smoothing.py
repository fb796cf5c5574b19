"""plt_tui.views.tui.chart.smoothing: the fast average is the textbook one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.views.tui.chart.smoothing import LADDER, Ema, stepped


def textbook(values: list[float], weight: float) -> list[float]:
    """Debiased exponential moving average, one point after the other."""
    mean, bias, out = 0.0, 1.0, []
    for value in values:
        if math.isfinite(value):
            mean, bias = weight * mean + (1 - weight) * value, bias * weight
            out.append(mean / (1 - bias))
        else:
            out.append(value)
    return out


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.sampled_from([math.nan, math.inf, -math.inf]), max_size=400),
    weight=st.sampled_from(LADDER[1:]),
    pieces=st.integers(1, 6),
)
def test_it_equals_the_textbook_in_any_pieces(values: list[float], weight: float, pieces: int) -> None:
    """64 points at a time, and in whatever pieces they come, the curve is the same."""
    ema = Ema(weight)
    smoothed = np.concatenate([ema(part) for part in np.array_split(np.array(values, dtype=float), pieces)])
    np.testing.assert_allclose(smoothed, textbook(values, weight), rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("weight", LADDER[1:])
def test_a_constant_stays_itself_from_the_first_point(weight: float) -> None:
    """Without its bias the average starts at the first value, not at zero."""
    np.testing.assert_allclose(Ema(weight)(np.full(1000, 3.25)), 3.25, rtol=1e-12)


@pytest.mark.parametrize(
    ("weight", "rungs", "expected"),
    [(0.0, 1, 0.5), (0.0, -1, 0.0), (0.999, 1, 0.999), (0.9, -1, 0.8), (0.61, 1, 0.8)],
)
def test_steps_of_the_ladder(weight: float, rungs: int, expected: float) -> None:
    """Smoother and rougher walk the ladder and stop at its ends."""
    assert stepped(weight, rungs) == expected
