"""Which corpus a training sample comes from, as a pure function of (weights and where they changed, seed, sample index).

Weights become whole numbers of samples out of a block of BLOCK. Every block holds exactly these numbers of each corpus,
shuffled by its own key, so shares are met from the first block on and any sample is found at once. Weights that change at some
sample begin a segment: its blocks are counted from there, and each corpus goes on with the positions that it has not given
yet. A block that was cut short has given some positions and not others between them; those it has left come first.
Invariant: the positions that a corpus gives are 0, 1, 2, ..., each once, wherever weights change; after whole blocks there is
no gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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


@dataclass(frozen=True, slots=True, eq=False)
class Unused:
    """The positions of a corpus that are still to be given: those of `left`, in this order, then all from `fresh` on."""

    left: U64
    fresh: int

    def at(self, place: U64) -> U64:
        """The positions at the places `place` (N,) of that order."""
        is_left = place < len(self.left)
        positions: U64 = place + np.uint64(self.fresh) - np.uint64(len(self.left))  # may wrap, but only where it is replaced
        positions[is_left] = self.left[place[is_left]]
        return positions

    def after(self, opened: int, kept: U64) -> Unused:
        """What is unused once the first `opened` places were given, all but those in `kept`."""
        fresh = self.fresh + max(0, opened - len(self.left))
        return Unused(np.concatenate((self.at(kept), self.left[opened:])), fresh)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Segment:
    """Samples whose corpora the same weights choose."""

    first: int
    """Index of the first one."""
    weights: tuple[float, ...]
    """As they were asked for."""
    counts: tuple[int, ...]
    """Samples of each corpus in a block."""
    unused: tuple[Unused, ...]
    """What each corpus has left at `first`."""

    def assign(self, seed: int, index: U64) -> tuple[npt.NDArray[np.intp], U64]:
        """As the function `assign`, for samples that are not before `first`."""
        source, place = assign(self.counts, seed, index - np.uint64(self.first))
        for number in np.unique(source):
            own = source == number
            place[own] = self.unused[number].at(place[own])
        return source, place

    def unused_from(self, seed: int, stop: int) -> tuple[Unused, ...]:
        """What each corpus has left at sample `stop`."""
        taken = stop - self.first
        num_blocks = -(-taken // BLOCK)  # the last one may be cut short
        source, place = assign(self.counts, seed, np.arange(taken, num_blocks * BLOCK, dtype=np.uint64))
        return tuple(
            unused.after(num_blocks * count, place[source == number])
            for number, (unused, count) in enumerate(zip(self.unused, self.counts, strict=True))
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mixture:
    """Corpora mixed by weights that may change at some samples."""

    seed: int
    segments: tuple[Segment, ...]
    """At least one; the first begins with sample 0, and none begins before the one in front of it."""

    def assign(self, index: U64) -> tuple[npt.NDArray[np.intp], U64]:
        """For each sample of `index` (N,): its corpus, and its position among the samples of that corpus; both (N,)."""
        if len(self.segments) == 1:  # as most are: nothing was given before
            return assign(self.segments[0].counts, self.seed, index)
        source, position = np.empty(len(index), dtype=np.intp), np.empty_like(index)
        starts = np.array([segment.first for segment in self.segments], dtype=np.uint64)
        number = np.searchsorted(starts, index, side="right") - 1
        for present in np.unique(number):
            where = number == present
            source[where], position[where] = self.segments[present].assign(self.seed, index[where])
        return source, position

    def reweighted(self, first: int, weights: Sequence[float], counts: tuple[int, ...]) -> Mixture:
        """The same up to sample `first`, and from there on by `counts` in a block; `weights`: what they were made of.

        `first` lies behind the start of the last segment, or is it: then what began there is replaced.
        """
        last = self.segments[-1]
        assert first >= last.first, f"weights change at sample {first}, but did so at {last.first} already"
        assert len(counts) == len(last.counts), f"{len(counts)} weights for {len(last.counts)} corpora"
        # The segment that a mixture begins with always stays: without any samples it is never met.
        kept = self.segments[:-1] if first == last.first and len(self.segments) > 1 else self.segments
        unused = last.unused_from(self.seed, first)
        return replace(self, segments=(*kept, Segment(first=first, weights=tuple(weights), counts=counts, unused=unused)))


def mixture(weights: Sequence[float], counts: tuple[int, ...], seed: int) -> Mixture:
    """Corpora mixed by `counts` in a block from the first sample on; `weights`: what they were made of; 0 <= `seed` < 2**64."""
    nothing_given = tuple(Unused(np.empty(0, dtype=np.uint64), 0) for _ in counts)
    begin = Segment(first=0, weights=tuple(weights), counts=counts, unused=nothing_given)
    return Mixture(seed=seed, segments=(begin,))
