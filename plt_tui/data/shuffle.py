"""Keyed shuffles that are computed, not stored: any position of any shuffle costs the same.

Knows nothing of tokens. Invariant: `permute` is a bijection of `range(size)` for every key, and its values never change from
version to version, because they are the data order of runs that are to be resumed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U64 = npt.NDArray[np.uint64]

# splitmix64: Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators", doi 10.1145/2660193.2660195; the
# multipliers and shifts are those of Stafford's variant 13, as in Vigna's public-domain prng.di.unimi.it/splitmix64.c. The
# increment is 2**64 divided by the golden ratio, made odd.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SHIFTS = (np.uint64(30), np.uint64(27), np.uint64(31))

_ROUNDS = 6
"""Luby and Rackoff 1988 prove four rounds for large halves; two more even out very small epochs."""


def mix(values: U64) -> U64:
    """Unrelated numbers for neighbouring `values`: step and finalizer of splitmix64, for arrays (numpy warns of wrapped
    scalars).
    """
    values = values + _GOLDEN
    values = (values ^ (values >> _SHIFTS[0])) * _MULTIPLIERS[0]
    values = (values ^ (values >> _SHIFTS[1])) * _MULTIPLIERS[1]
    mixed: U64 = values ^ (values >> _SHIFTS[2])
    return mixed


def stream_keys(seed: int, numbers: U64) -> U64:
    """The key of each of the shuffles `numbers` that belong to `seed` (0 <= seed < 2**64)."""
    return mix(mix(np.array([seed], dtype=np.uint64)) + numbers * _GOLDEN)


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
        left, right = right, left ^ (mix(keys ^ right) & mask)
    joined: U64 = (left << bits) | right
    return joined
