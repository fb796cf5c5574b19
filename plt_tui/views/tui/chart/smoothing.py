"""Debiased exponential moving average over the points of a series, 64 points at a time.

Does not touch the raw points: the chart keeps them as a faint line. Invariant: fed in any pieces, it gives the same curve as
one pass over all points (up to rounding), and non-finite points pass through without entering the mean.
"""

from __future__ import annotations

import itertools

import numpy as np

from plt_tui.views.tui.chart.series import Floats

LADDER = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Smoothing steps of the `smoother` and `rougher` actions: weight of the past, 0 is off."""

_LARGEST = float(np.finfo(np.float64).max)
_CHUNK = 64


class Ema:
    """m <- w m + (1 - w) y, shown as m / (1 - w^t) so that it starts at the first value instead of at 0.

    Bias correction: Kingma and Ba, "Adam" (2014), section 3. w: weight of the past, 0 <= w < 1.
    """

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._mean = 0.0
        self._bias = 1.0
        """w^t after t finite points."""
        powers = np.arange(_CHUNK)
        lag = powers[:, None] - powers[None, :]
        self._kernel = np.where(lag >= 0, (1 - weight) * weight ** np.maximum(lag, 0).astype(np.float64), 0.0)
        """(64, 64): row i gives what points 0..i of a chunk add to the mean after point i."""
        self._decay = weight ** (powers + 1.0)

    def __call__(self, values: Floats) -> Floats:
        """The smoothed curve of the next `values` (K,)."""
        finite = np.isfinite(values)
        smoothed: Floats = values.copy()
        smoothed[finite] = self._advance(values[finite])
        return smoothed

    def _advance(self, values: Floats) -> Floats:
        chunks = -(-len(values) // _CHUNK)
        if not chunks:
            return values
        padded = np.zeros(chunks * _CHUNK)
        padded[: len(values)] = values
        inner = padded.reshape(chunks, _CHUNK) @ self._kernel.T
        whole = float(self._decay[-1])
        ends = inner[:-1, -1].tolist()
        before = list(itertools.accumulate(ends, lambda mean, added: whole * mean + added, initial=self._mean))
        means = (inner + np.outer(before, self._decay)).reshape(-1)[: len(values)]
        biases = np.outer(self._bias * whole ** np.arange(chunks), self._decay).reshape(-1)[: len(values)]
        self._mean, self._bias = float(means[-1]), float(biases[-1])
        with np.errstate(over="ignore"):  # of values next to the largest float: a mean is never larger, but its rounding is
            debiased: Floats = np.clip(means / (1.0 - biases), -_LARGEST, _LARGEST)
        return debiased


def stepped(weight: float, rungs: int) -> float:
    """The weight `rungs` steps up (smoother) or down (rougher) the ladder from the rung nearest to `weight`."""
    nearest = min(range(len(LADDER)), key=lambda index: abs(LADDER[index] - weight))
    return LADDER[min(max(nearest + rungs, 0), len(LADDER) - 1)]
