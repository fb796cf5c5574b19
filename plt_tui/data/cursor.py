"""The batch cursor: which tokens sample number i is, as a pure function of (seed, i).

An epoch is a shuffle of non-overlapping windows, cut at a phase that differs from epoch to epoch, or of packed rows. The
shuffle is a keyed permutation that is computed, not stored, so any position costs the same and a resume or a skip is a number.
Ranks are unknown here: a caller asks for the global sample indices it is to train on. Invariant: `batch(0, a + b)` is
`batch(0, a)` followed by `batch(a, b)`, whatever the split.

Shapes: N = number of samples asked for, C = context.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from plt_tui.config.schema import DataSection
from plt_tui.data.mixture import block_counts, mixture
from plt_tui.data.packing import Packing, num_row_targets, row_tokens
from plt_tui.data.prepare import Dataset
from plt_tui.data.shuffle import U64, mix, permute, stream_keys

Tokens = npt.NDArray[np.unsignedinteger[Any]]
Ids = npt.NDArray[np.int64]

_PHASE_STREAM = np.uint64(0x5048415345)  # "PHASE": keeps the phase apart from the keys of the shuffle
_CORPUS_STREAM = 0x434F52505553  # "CORPUS": keeps the orders of several corpora apart


class Samples(Protocol):
    """The training samples of one corpus."""

    samples_per_epoch: int
    """The same in every epoch."""

    def take(self, index: U64) -> Ids:
        """The samples `index` (N,), counted from the first epoch on: (N, C + 1)."""

    def num_targets(self, index: U64) -> int:
        """Targets in these samples, without reading them."""


class WindowSamples:
    """Windows of C + 1 tokens that share one token with the next, so that every token is a target once."""

    def __init__(self, tokens: Tokens, context: int, seed: int) -> None:
        """`tokens`: (T,) with T > `context`; 0 <= `seed` < 2**64."""
        assert len(tokens) > context, f"{len(tokens)} tokens hold no window of {context + 1}"
        self._windows = _windows(tokens, context)
        self._context = context
        self._seed = seed
        self.samples_per_epoch = max(1, (len(tokens) - context) // context)
        self._num_phases = np.uint64(len(tokens) - self.samples_per_epoch * context)

    def take(self, index: U64) -> Ids:
        """The windows that `index` names: (N, C + 1)."""
        position, keys = _shuffled(index, self.samples_per_epoch, self._seed)
        phase = mix(keys ^ _PHASE_STREAM) % self._num_phases
        start = phase + position * np.uint64(self._context)
        samples: Ids = self._windows[start.astype(np.intp)].astype(np.int64)
        return samples

    def num_targets(self, index: U64) -> int:
        """C for each window."""
        return len(index) * self._context


class RowSamples:
    """Packed rows of at most C + 1 tokens, filled up with PAD."""

    def __init__(self, tokens: Tokens, packing: Packing, context: int, seed: int) -> None:
        """`packing`: of `tokens` (T,) for `context`; 0 <= `seed` < 2**64."""
        self._tokens = tokens
        self._packing = packing
        self._context = context
        self._seed = seed
        self.samples_per_epoch = packing.num_rows

    def take(self, index: U64) -> Ids:
        """The rows that `index` names: (N, C + 1)."""
        return row_tokens(self._tokens, self._packing, self._rows(index), self._context + 1)

    def num_targets(self, index: U64) -> int:
        """All tokens of a row but its first."""
        return num_row_targets(self._packing, self._rows(index))

    def _rows(self, index: U64) -> npt.NDArray[np.intp]:
        return _shuffled(index, self.samples_per_epoch, self._seed)[0].astype(np.intp)


class Batches:
    """Training samples of one corpus, or of several mixed by weight, in the order that `seed` gives. Never changes."""

    def __init__(self, corpora: Sequence[Samples], seed: int, weights: Sequence[float] = ()) -> None:
        """`weights`: one for each corpus, in any scale; none: as many samples of each corpus as it has in an epoch.

        Raises: DataError when there are more corpora than can be mixed.
        """
        self._corpora = tuple(corpora)
        self._mixture = mixture(weights, self._block_counts(weights), seed)
        self.samples_per_epoch = sum(corpus.samples_per_epoch for corpus in corpora)
        """As many samples as all corpora together have; `weights` decide how often each is seen by then."""

    @property
    def segments(self) -> tuple[tuple[int, tuple[float, ...]], ...]:
        """The arguments of each `reweighted` that led here, in order: with them the same can be made again."""
        return tuple((segment.first, segment.weights) for segment in self._mixture.segments[1:])

    def reweighted(self, first: int, weights: Sequence[float]) -> Batches:
        """The same samples before `first`, and from there on the corpora mixed by `weights`, as in the constructor.

        Each corpus goes on with the samples that it has not given yet: in each of its epochs it gives every one once, as if the
        weights had never changed. `first`: behind the one of the last call, or the same, which takes that call back.
        """
        changed = copy.copy(self)
        changed._mixture = self._mixture.reweighted(first, weights, self._block_counts(weights))
        return changed

    def batch(self, first: int, count: int) -> Ids:
        """Samples `first` to `first + count - 1` since the start of training: (N, C + 1), N >= 1; PAD fills short rows."""
        parts = [(where, corpus.take(index)) for where, corpus, index in self._by_corpus(first, count)]
        rows = np.empty((count, parts[0][1].shape[1]), dtype=np.int64)
        for where, samples in parts:
            rows[where] = samples
        return rows

    def num_targets(self, first: int, count: int) -> int:
        """Targets in these samples that are no padding. Reads no tokens."""
        return sum(corpus.num_targets(index) for _, corpus, index in self._by_corpus(first, count))

    def sources(self, first: int, count: int) -> npt.NDArray[np.intp]:
        """The number of the corpus that each of these samples is from, counted from 0: (N,)."""
        return self._assigned(first, count)[0]

    def _by_corpus(self, first: int, count: int) -> list[tuple[npt.NDArray[np.intp], Samples, U64]]:
        """For each corpus that gives some of these samples: their places in the batch, and their indices in the corpus."""
        source, index = self._assigned(first, count)
        places = [(np.flatnonzero(source == number), self._corpora[number]) for number in np.unique(source)]
        return [(where, corpus, index[where]) for where, corpus in places]

    def _assigned(self, first: int, count: int) -> tuple[npt.NDArray[np.intp], U64]:
        """For each of these samples: the number of its corpus, and its index in that corpus; both (N,)."""
        index = np.arange(first, first + count, dtype=np.uint64)
        if len(self._corpora) == 1:  # in its own order, whatever its weight
            return np.zeros(count, dtype=np.intp), index
        return self._mixture.assign(index)

    def _block_counts(self, weights: Sequence[float]) -> tuple[int, ...]:
        return block_counts(weights or [corpus.samples_per_epoch for corpus in self._corpora])


class EvalWindows:
    """Held-out tokens as windows that follow each other: every token but the first and a short tail is a target once."""

    def __init__(self, tokens: Tokens, context: int) -> None:
        """`tokens`: (T,) with T > `context`."""
        assert len(tokens) > context, f"{len(tokens)} tokens hold no window of {context + 1}"
        self._windows = _windows(tokens, context)[::context]
        self.num_windows = len(self._windows)

    def batch(self, first: int, count: int) -> Ids:
        """Windows `first` to `first + count - 1`, fewer at the end: int64 (up to N, C + 1)."""
        return self._windows[first : first + count].astype(np.int64)


def train_batches(dataset: Dataset, config: DataSection, seed: int) -> Batches:
    """The training samples of `dataset`, which was prepared with `config`; 0 <= `seed` < 2**64.

    Raises: DataError when there are more corpora than can be mixed.
    """
    corpora: list[Samples] = []
    for number, tokens in enumerate(dataset.train):
        own_seed = seed if number == 0 else int(stream_keys(seed ^ _CORPUS_STREAM, np.array([number], dtype=np.uint64))[0])
        if dataset.packed:
            corpora.append(RowSamples(tokens, dataset.packed[number], config.context, own_seed))
        else:
            corpora.append(WindowSamples(tokens, config.context, own_seed))
    return Batches(corpora, seed, config.weights)


def _shuffled(index: U64, samples_per_epoch: int, seed: int) -> tuple[U64, U64]:
    """The place of each sample in its epoch's unshuffled order, and the key of its epoch; both (N,)."""
    epoch, position = np.divmod(index, np.uint64(samples_per_epoch))
    keys = stream_keys(seed, epoch)
    return permute(position, keys, samples_per_epoch), keys


def _windows(tokens: Tokens, context: int) -> Tokens:
    """Every window of `context + 1` tokens as a view, (T - C, C + 1): nothing is copied or read here."""
    return np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), context + 1)
