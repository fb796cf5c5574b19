"""Promises of mixtures: each corpus gets its share of every block, in its own order, at any distance from the start."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.data.cursor import Batches, WindowSamples
from plt_tui.data.mixture import BLOCK, assign, block_counts, mixture
from plt_tui.errors import DataError

SEEDS = st.integers(0, 2**64 - 1)
CHANGES = st.lists(
    st.tuples(st.integers(1, 3000), st.tuples(*[st.floats(0.01, 100.0)] * 3)), min_size=1, max_size=4, unique_by=lambda c: c[0]
).map(sorted)
"""Samples at which the weights of three corpora change, and to what."""
WEIGHTS = st.lists(st.floats(min_value=0, exclude_min=True, allow_infinity=False), min_size=1, max_size=40)


def indices(first: int, count: int) -> np.ndarray:
    """Sample indices in a row."""
    return np.arange(first, first + count, dtype=np.uint64)


def corpora(*lengths: int, seed: int = 7, weights: tuple[float, ...] = ()) -> Batches:
    """Corpora with context 4 whose tokens say which corpus (thousands) and position they are."""
    tokens = [np.arange(length, dtype=np.uint32) + 1000 * number for number, length in enumerate(lengths, start=1)]
    return Batches([WindowSamples(part, 4, seed + number) for number, part in enumerate(tokens)], seed, weights)


@pytest.mark.parametrize(
    ("weights", "counts"),
    [
        ((1.0,), (1024,)),
        ((1.0, 1.0), (512, 512)),
        ((0.9, 0.1), (922, 102)),
        ((2.0, 1.0, 1.0), (512, 256, 256)),
        ((1.0, 1.0, 1.0), (342, 341, 341)),
        ((1e-9, 1.0), (1, 1023)),
        ((1e-300, 1e308, 1.7e308), (1, 379, 644)),
    ],
)
def test_weights_are_shares_of_a_block(weights, counts):
    """By largest remainder, and no corpus is left out however small its weight."""
    assert block_counts(weights) == counts


@given(weights=WEIGHTS)
def test_counts_fill_a_block_and_follow_the_weights(weights):
    """Whatever the weights: 1024 together, each at least 1, and a larger weight never gets less."""
    counts = block_counts(weights)
    assert sum(counts) == BLOCK
    assert min(counts) >= 1
    ranked = [count for _, count in sorted(zip(weights, counts, strict=True))]
    assert all(small <= large + 1 for small, large in pairwise(ranked))


def test_more_corpora_than_a_block_has_samples_are_refused():
    """The message says how many can be mixed."""
    assert block_counts([1.0] * 1024) == (1,) * 1024
    with pytest.raises(DataError, match="1025 corpora, but at most 1024 can be mixed"):
        block_counts([1.0] * 1025)


@given(weights=WEIGHTS, seed=SEEDS, block=st.integers(0, 10**12))
def test_every_block_holds_each_corpus_exactly(weights, seed, block):
    """Block b holds samples b * count to (b + 1) * count - 1 of each corpus, each once, wherever it lies."""
    counts = block_counts(weights)
    source, own = assign(counts, seed, indices(block * BLOCK, BLOCK))
    for number, count in enumerate(counts):
        assert sorted(own[source == number].tolist()) == list(range(block * count, (block + 1) * count))


def test_blocks_are_shuffled_each_in_its_own_way():
    """The corpora are spread over a block, and no two blocks or seeds have the same order."""
    orders = [tuple(assign((512, 512), seed, indices(b * BLOCK, BLOCK))[0]) for seed in range(3) for b in range(20)]
    assert len(set(orders)) == 60
    assert all(200 < sum(order[:512]) < 312 for order in orders)  # 256 expected, standard deviation 8


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(1, 700), min_size=1, max_size=4), first=st.integers(0, 10**12), seed=st.integers(0, 2**63))
def test_a_mixture_does_not_depend_on_batch_sizes(cuts, first, seed):
    """The same indices give the same samples in one batch or in many."""
    batches = corpora(50, 90, 400, seed=seed % 1000, weights=(1.0, 5.0, 2.0))
    starts = first + np.cumsum([0, *cuts[:-1]])
    parts = np.concatenate([batches.batch(int(start), count) for start, count in zip(starts, cuts, strict=True)])
    assert np.array_equal(batches.batch(first, sum(cuts)), parts)


def test_each_corpus_comes_in_its_own_order():
    """A pass over a corpus in a mixture takes each of its windows once, as that corpus alone would."""
    mixed = corpora(409, 809, weights=(1.0, 3.0)).batch(0, 4 * BLOCK)
    assert mixed.shape == (4 * BLOCK, 5)
    rows = mixed[mixed[:, 0] < 2000]
    alone = WindowSamples(np.arange(409, dtype=np.uint32) + 1000, 4, 7)
    assert len(rows) == BLOCK
    expected = alone.take(indices(0, BLOCK))
    for block in range(4):
        part = slice(block * 256, (block + 1) * 256)
        assert sorted(rows[part].tolist()) == sorted(expected[part].tolist())


def test_without_weights_all_corpora_are_passed_over_at_about_the_same_time():
    """Shares follow the sizes, and an epoch is as many samples as all corpora have together."""
    batches = corpora(404, 804, 2804)
    assert batches.samples_per_epoch == 100 + 200 + 700
    source = batches.batch(0, 10 * BLOCK)[:, 0] // 1000
    assert [round(float(np.mean(source == number)), 2) for number in (1, 2)] == [0.10, 0.20]


def test_a_skip_costs_nothing():
    """10**12 samples further on is as near as the next one."""
    batches = corpora(50, 90, weights=(1.0, 5.0))
    batches.batch(0, 8)
    started = time.process_time()
    assert batches.batch(10**12, 8).shape == (8, 5)
    assert time.process_time() - started < 1.0


def test_targets_of_windows_are_counted():
    """Every window has as many targets as its context."""
    assert corpora(50, 90).num_targets(3, 8) == 8 * 4
    assert corpora(50).num_targets(3, 8) == 8 * 4


@settings(max_examples=60)
@given(changes=CHANGES, seed=st.integers(0, 2**64 - 1), length=st.integers(1, 5000))
def test_no_position_is_repeated_or_lost_where_weights_change(changes, seed, length):
    """Whatever was changed and wherever it cut a block short: a corpus gives each position once, none of them far behind."""
    mixed = mixture((1.0, 1.0, 1.0), block_counts((1.0, 1.0, 1.0)), seed)
    for first, weights in changes:
        mixed = mixed.reweighted(first, weights, block_counts(weights))
    last = mixed.segments[-1]
    whole = last.first + -(-length // BLOCK) * BLOCK
    source, position = mixed.assign(indices(0, whole))
    for number in range(3):
        given_ = position[source == number]
        left = last.unused_from(seed, whole)[number]
        assert sorted([*given_.tolist(), *left.left.tolist()]) == list(range(left.fresh))
        assert len(left.left) < BLOCK


@settings(max_examples=30)
@given(changes=CHANGES, seed=st.integers(0, 2**60))
def test_weights_change_what_follows_and_nothing_before(changes, seed):
    """Samples before a change are those of the run without it; every call leaves the batches it was asked of as they were."""
    before = corpora(50, 90, 400, seed=seed, weights=(1.0, 5.0, 2.0))
    for first, weights in changes:
        as_it_was = before.batch(0, 4000)
        after = before.reweighted(first, weights)
        assert np.array_equal(after.batch(0, first), as_it_was[:first])
        assert np.array_equal(before.batch(0, 4000), as_it_was)
        before = after
    assert before.segments == tuple(changes)


@settings(max_examples=30)
@given(changes=CHANGES, cuts=st.lists(st.integers(1, 900), min_size=1, max_size=6), seed=st.integers(0, 2**60))
def test_batches_go_over_a_change_of_weights(changes, cuts, seed):
    """One batch or many, made anew from what `segments` says: the same samples, corpora and numbers of targets."""
    batches = corpora(50, 90, 400, seed=seed)
    for first, weights in changes:
        batches = batches.reweighted(first, weights)
    again = corpora(50, 90, 400, seed=seed)
    for first, weights in batches.segments:
        again = again.reweighted(first, weights)
    starts = np.cumsum([0, *cuts[:-1]]).tolist()
    parts = [again.batch(start, count) for start, count in zip(starts, cuts, strict=True)]
    whole = batches.batch(0, sum(cuts))
    assert np.array_equal(whole, np.concatenate(parts))
    assert np.array_equal(batches.sources(0, sum(cuts)), whole[:, 0] // 1000 - 1)
    assert sum(again.num_targets(start, count) for start, count in zip(starts, cuts, strict=True)) == 4 * sum(cuts)


def test_new_weights_are_met_from_their_first_sample_on():
    """Blocks are counted from there: the first 1024 samples hold exactly the new shares."""
    batches = corpora(409, 809, weights=(1.0, 3.0)).reweighted(1500, (7.0, 1.0))
    source = batches.sources(1500, 2 * BLOCK)
    assert [int((source[block * BLOCK : (block + 1) * BLOCK] == 0).sum()) for block in range(2)] == [896, 896]


def test_weights_at_the_first_sample_are_those_of_the_constructor():
    """To change them before anything was trained on is to have begun with them."""
    begun, changed = corpora(50, 90, weights=(1.0, 5.0)), corpora(50, 90, weights=(3.0, 1.0)).reweighted(0, (1.0, 5.0))
    assert np.array_equal(changed.batch(0, 3000), begun.batch(0, 3000))
    assert changed.segments == ((0, (1.0, 5.0)),)


def test_weights_given_twice_for_a_sample_are_those_of_the_second_time():
    """Nothing was taken in between; without weights the corpora are mixed by their sizes again."""
    once = corpora(50, 90, weights=(1.0, 5.0)).reweighted(700, ())
    twice = corpora(50, 90, weights=(1.0, 5.0)).reweighted(700, (2.0, 2.0)).reweighted(700, ())
    assert np.array_equal(twice.batch(0, 3000), once.batch(0, 3000))
    assert once.segments == twice.segments == ((700, ()),)
    assert block_counts((11, 21))[0] == int((once.sources(700, BLOCK) == 0).sum())


@pytest.mark.parametrize(("first", "weights", "said"), [(699, (1.0, 1.0), "at 700 already"), (800, (1.0,), "for 2 corpora")])
def test_a_change_that_cannot_be_is_our_own_mistake(first, weights, said):
    """The past stays as it was, and every corpus has a weight."""
    batches = corpora(50, 90).reweighted(700, (1.0, 1.0))
    with pytest.raises(AssertionError, match=said):
        batches.reweighted(first, weights)


def test_a_change_a_trillion_samples_on_costs_nothing():
    """Blocks before it are counted, not gone through."""
    started = time.process_time()
    batches = corpora(50, 90, weights=(1.0, 5.0)).reweighted(10**12, (2.0, 1.0)).reweighted(2 * 10**12 + 1, (1.0, 1.0))
    assert batches.batch(2 * 10**12 - 4, 8).shape == (8, 5)
    assert time.process_time() - started < 1.0
