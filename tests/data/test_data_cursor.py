"""Promises of the batch cursor: a shuffle without a table, the same for any split into batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.data.cursor import Batches, EvalWindows, WindowSamples
from plt_tui.data.shuffle import permute

SEEDS = st.integers(0, 2**63 - 1)
GOLDEN_EPOCH_0 = [672, 208, 944, 688, 704, 752, 496, 32]
GOLDEN_EPOCH_1M = [325, 549, 277, 197, 501, 229, 805, 85]


def shuffled(size: int, key: int) -> list[int]:
    """Image of range(size)."""
    positions = np.arange(size, dtype=np.uint64)
    return permute(positions, np.full(size, key, dtype=np.uint64), size).tolist()


def windows(tokens: np.ndarray, context: int, seed: int) -> Batches:
    """The samples of one corpus of joined documents."""
    return Batches([WindowSamples(tokens, context, seed)], seed)


def counting(length: int) -> np.ndarray:
    """Tokens that are their own position."""
    return np.arange(length, dtype=np.uint32)


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_permutation_hits_every_position_once(size, key):
    """For any size and key the image of range(size) is range(size)."""
    assert sorted(shuffled(size, key)) == list(range(size))


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1])
def test_permutation_is_a_bijection_at_large_sizes(size):
    """Around a power of four, where most or fewest walks are needed, nothing is lost or doubled."""
    assert np.bincount(shuffled(size, 99), minlength=size).tolist() == [1] * size


def test_small_shuffles_are_even():
    """All 24 orders of four windows come up about equally often over many keys."""
    keys = np.repeat(np.arange(12_000, dtype=np.uint64) * np.uint64(7919), 4)
    images = permute(np.tile(np.arange(4, dtype=np.uint64), 12_000), keys, 4).reshape(-1, 4)
    _, counts = np.unique(images, axis=0, return_counts=True)
    assert len(counts) == 24
    assert counts.min() > 400  # 500 expected, standard deviation 22
    assert counts.max() < 600


def test_samples_of_one_seed_are_pinned():
    """Golden values: a change of the data order would break every exact resume, so it must be deliberate."""
    batches = windows(counting(1000), 16, seed=1337)
    assert batches.samples_per_epoch == 61
    assert batches.batch(0, 8)[:, 0].tolist() == GOLDEN_EPOCH_0
    assert batches.batch(61 * 1_000_000, 8)[:, 0].tolist() == GOLDEN_EPOCH_1M


@given(length=st.integers(3, 400), context=st.integers(1, 60), seed=SEEDS, epoch=st.integers(0, 2**40))
def test_samples_are_consecutive_tokens_inside_the_corpus(length, context, seed, epoch):
    """Every sample of any epoch is context + 1 tokens in a row, and an epoch takes no target twice."""
    if length <= context:
        length += context
    batches = windows(counting(length), context, seed)
    samples = batches.batch(epoch * batches.samples_per_epoch, batches.samples_per_epoch)
    assert samples.shape == (batches.samples_per_epoch, context + 1)
    assert samples.dtype == np.int64
    assert (np.diff(samples, axis=1) == 1).all()
    targets = samples[:, 1:].ravel()
    assert len(np.unique(targets)) == len(targets) > (length - 1) - 2 * context


@given(cuts=st.lists(st.integers(1, 50), min_size=1, max_size=8), first=st.integers(0, 10**12), seed=SEEDS)
def test_order_does_not_depend_on_batch_sizes(cuts, first, seed):
    """The same indices give the same samples in one batch or in many, at any distance from the start."""
    batches = windows(counting(777), 10, seed)
    whole = batches.batch(first, sum(cuts))
    starts = first + np.cumsum([0, *cuts[:-1]])
    assert np.array_equal(whole, np.concatenate([batches.batch(int(s), n) for s, n in zip(starts, cuts, strict=True)]))


def test_ranks_together_see_what_one_rank_sees():
    """Two ranks that take every other half batch read the samples that one rank reads."""
    batches = windows(counting(5000), 32, seed=5)
    for step in range(40):
        halves = [batches.batch(step * 8 + rank * 4, 4) for rank in range(2)]
        assert np.array_equal(np.concatenate(halves), batches.batch(step * 8, 8))


def test_epochs_differ_in_order_and_in_window_edges():
    """Two epochs of one seed neither come in the same order nor cut the text at the same places."""
    batches = windows(counting(2000), 16, seed=3)
    count = batches.samples_per_epoch
    starts = [batches.batch(epoch * count, count)[:, 0] for epoch in range(20)]
    assert len({tuple(np.argsort(epoch)) for epoch in starts}) == 20
    assert len({int(epoch.min()) for epoch in starts}) > 10


def test_seeds_differ():
    """Neighbouring seeds give unrelated orders."""
    tokens = counting(2000)
    assert len({tuple(windows(tokens, 16, seed).batch(0, 20)[:, 0]) for seed in range(50)}) == 50


@pytest.mark.parametrize(("length", "context"), [(17, 16), (33, 16), (47, 16), (48, 16), (100, 7), (9, 1), (2, 1)])
def test_every_token_is_seen(length, context):
    """Over some epochs every position of the corpus is read, the very first and last included."""
    batches = windows(counting(length), context, seed=11)
    assert set(batches.batch(0, 400 * batches.samples_per_epoch).ravel().tolist()) == set(range(length))


def test_shortest_corpus_is_one_sample():
    """A corpus of context + 1 tokens is one sample, again and again."""
    batches = windows(counting(9), 8, seed=0)
    assert batches.samples_per_epoch == 1
    assert batches.batch(5, 3).tolist() == [list(range(9))] * 3


@pytest.mark.parametrize(("length", "context", "windows"), [(9, 8, 1), (16, 8, 1), (17, 8, 2), (1000, 7, 142), (2, 1, 1)])
def test_eval_windows_follow_each_other(length, context, windows):
    """Window i predicts tokens i * context + 1 to (i + 1) * context; the last batch is cut short."""
    held_out = EvalWindows(counting(length), context)
    assert held_out.num_windows == windows
    rows = np.concatenate([held_out.batch(first, 5) for first in range(0, windows, 5)])
    assert rows.shape == (windows, context + 1)
    assert rows.dtype == np.int64
    assert rows[:, 1:].ravel().tolist() == list(range(1, windows * context + 1))


def test_tokens_are_read_from_a_memory_map(tmp_path):
    """A uint16 file is enough; nothing needs to be loaded first."""
    counting(500).astype("<u2").tofile(tmp_path / "t.bin")
    mapped = np.memmap(tmp_path / "t.bin", dtype="<u2", mode="r")
    assert np.array_equal(windows(mapped, 8, 1).batch(0, 9), windows(counting(500), 8, 1).batch(0, 9))
