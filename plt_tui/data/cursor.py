"""The batch cursor: which tokens sample number i is, as a pure function of (seed, i).

An epoch is a shuffle of non-overlapping windows, cut at a phase that differs from epoch to epoch. The shuffle is a keyed
permutation that is computed, not stored, so any position costs the same and a resume or a skip is a number. Ranks are unknown
here: a caller asks for the global sample indices it is to train on. Invariant: `batch(0, a + b)` is `batch(0, a)` followed by
`batch(a, b)`, whatever the split.

Shapes: N = number of samples asked for, C = context.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Tokens = npt.NDArray[np.unsignedinteger[Any]]
U64 = npt.NDArray[np.uint64]

# splitmix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", doi 10.1145/2660193.2660195; the
# multipliers and shifts are those of Stafford's variant 13, as in Vigna's public-domain prng.di.unimi.it/splitmix64.c. The
# increment is 2**64 divided by the golden ratio, made odd.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))

_ROUNDS = 6
"""Luby and Rackoff 1988 prove four rounds for large halves; two more even out very small epochs."""
_PHASE_STREAM = np.uint64(0x5048415345)  # "PHASE": keeps the phase apart from the round keys


class Batches:
    """Training samples of a token array, in the order that `seed` gives."""

    def __init__(self, tokens: Tokens, context: int, seed: int) -> None:
        """`tokens`: (T,) with T > `context`; 0 <= `seed` < 2**64."""
        assert len(tokens) > context, f"{len(tokens)} tokens hold no window of {context + 1}"
        self._windows = _windows(tokens, context)
        self._context = np.uint64(context)
        self._seed_key = _mix(np.array([seed], dtype=np.uint64))
        self.samples_per_epoch = max(1, (len(tokens) - context) // context)
        """The same in every epoch, whatever its phase."""
        self._num_phases = np.uint64(len(tokens) - self.samples_per_epoch * context)

    def batch(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Samples `first` to `first + count - 1` counted from the start of training: int64 (N, C + 1)."""
        index = np.arange(first, first + count, dtype=np.uint64)
        epoch, position = np.divmod(index, np.uint64(self.samples_per_epoch))
        keys = _mix(self._seed_key + epoch * _GOLDEN)
        phase = _mix(keys ^ _PHASE_STREAM) % self._num_phases
        start = phase + permute(position, keys, self.samples_per_epoch) * self._context
        samples: npt.NDArray[np.int64] = self._windows[start.astype(np.intp)].astype(np.int64)
        return samples


class EvalWindows:
    """Held-out tokens as windows that follow each other: every token but the first and a short tail is a target once."""

    def __init__(self, tokens: Tokens, context: int) -> None:
        """`tokens`: (T,) with T > `context`."""
        assert len(tokens) > context, f"{len(tokens)} tokens hold no window of {context + 1}"
        self._windows = _windows(tokens, context)[::context]
        self.num_windows = len(self._windows)

    def batch(self, first: int, count: int) -> npt.NDArray[np.int64]:
        """Windows `first` to `first + count - 1`, fewer at the end: int64 (up to N, C + 1)."""
        return self._windows[first : first + count].astype(np.int64)


def permute(positions: U64, keys: U64, size: int) -> U64:
    """Where each position of `range(size)` lies after the shuffle that its key names: uint64 (N,), a bijection per key.

    A balanced Feistel network over the next power of four, walked on until the image falls into the range (cycle walking:
    Black and Rogaway 2002, "Ciphers with arbitrary finite domains"): at worst four walks on average.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    image = _feistel(positions, keys, half_bits)
    while (outside := np.flatnonzero(image >= np.uint64(size))).size:
        image[outside] = _feistel(image[outside], keys[outside], half_bits)
    return image


def _feistel(values: U64, keys: U64, half_bits: int) -> U64:
    bits = np.uint64(half_bits)
    mask = np.uint64((1 << half_bits) - 1)
    left: U64 = values >> bits
    right: U64 = values & mask
    for _ in range(_ROUNDS):
        keys = keys + _GOLDEN
        left, right = right, left ^ (_mix(keys ^ right) & mask)
    joined: U64 = (left << bits) | right
    return joined


def _mix(values: U64) -> U64:
    """Step and finalizer of splitmix64, for arrays only: numpy warns when a scalar wraps."""
    values = values + _GOLDEN
    values = (values ^ (values >> _SHIFTS[0])) * _MULTIPLIERS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _MULTIPLIERS[1]
    mixed: U64 = values ^ (values >> _SHIFTS[2])
    return mixed


def _windows(tokens: Tokens, context: int) -> Tokens:
    """Every window of `context + 1` tokens as a view, (T - C, C + 1): nothing is copied or read here."""
    return np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), context + 1)
