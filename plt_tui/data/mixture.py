"""Which corpus a training sample comes from, as a pure function of (counts, seed, sample index).

Weights become whole numbers of samples out of a block of BLOCK. Every block holds exactly these numbers of each corpus,
shuffled by its own key, so shares are met from the first block on and any sample is found at once. A run that changes its
weights at some sample would call `assign` with the index counted from there and add what each corpus had given by then.
Invariant: over any number of whole blocks the positions within each corpus are 0, 1, 2, ... without a gap, each once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from plt_tui.data.shuffle import U64, permute, stream_keys
from plt_tui.errors import DataError

BLOCK = 1024
"""Samples of a block. Shares are multiples of 1 / BLOCK; a larger block would let a small corpus repeat samples within it."""
_MIXTURE_STREAM = 0x4D495854555245  # "MIXTURE": keeps these shuffles apart from those within a corpus


def block_counts(weights: Sequence[float]) -> tuple[int, ...]:
    """Samples of each corpus in a block, at least 1: those of `weights` (any scale, all > 0) by largest remainder.

    Raises: DataError for more than BLOCK corpora.
    """
    if len(weights) > BLOCK:
        raise DataError(f"data.train: {len(weights)} corpora, but at most {BLOCK} can be mixed; join some files by a glob")
    largest = max(weights)  # divided by first, because a sum of the largest floats is infinite
    shares = np.array([weight / largest for weight in weights], dtype=np.float64)
    exact = shares / shares.sum() * BLOCK
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: max(0, BLOCK - int(counts.sum()))]] += 1
    while counts.sum() > BLOCK:  # corpora too small for a sample of their own were given one
        counts[np.argmax(counts)] -= 1
    return tuple(counts.tolist())


def assign(counts: Sequence[int], seed: int, index: U64) -> tuple[npt.NDArray[np.intp], U64]:
    """For each sample of `index` (N,): the corpus it comes from, and its position among the samples of that corpus; both (N,).

    `counts`: what `block_counts` gave, which add up to BLOCK; 0 <= `seed` < 2**64.
    """
    block, position = np.divmod(index, np.uint64(BLOCK))
    slot = permute(position, stream_keys(seed ^ _MIXTURE_STREAM, block), BLOCK)
    ends = np.cumsum(np.array(counts, dtype=np.uint64))
    corpus = np.searchsorted(ends, slot, side="right")
    per_block = np.array(counts, dtype=np.uint64)[corpus]
    return corpus, block * per_block + slot - (ends[corpus] - per_block)
