"""Promises of best-fit packing: whole documents where they fit, every token a target once, rows nearly full."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.data import packing
from plt_tui.data.cursor import Batches, RowSamples
from plt_tui.data.packing import PAD, Packing, best_fit_decreasing, document_stops, pack, row_tokens

END = 0
DOCUMENTS = st.lists(st.integers(1, 60), min_size=1, max_size=30)


def joined(lengths: list[int], *, is_last_open: bool) -> np.ndarray:
    """Documents as distinct tokens; each ends with END, but the last one may go on."""
    tokens = np.arange(1, sum(lengths) + 1, dtype=np.uint32)
    tokens[np.cumsum(lengths)[: len(lengths) - is_last_open] - 1] = END
    return tokens


def packed(tokens: np.ndarray, context: int) -> Packing:
    """The rows of `tokens`."""
    return pack(document_stops([tokens], END), context, is_last_open=bool(tokens[-1] != END))


def rows_of(tokens: np.ndarray, context: int) -> list[list[int]]:
    """All rows, without their padding."""
    index = packed(tokens, context)
    table = row_tokens(tokens, index, np.arange(index.num_rows), context + 1)
    filled = (table != PAD).sum(axis=1)
    assert (table[np.arange(context + 1) >= filled[:, np.newaxis]] == PAD).all()
    return [row[:count].tolist() for row, count in zip(table, filled, strict=True)]


@given(lengths=DOCUMENTS, context=st.integers(1, 40), is_last_open=st.booleans())
def test_every_token_is_a_target_once(lengths, context, is_last_open):
    """All tokens but the first of a row are targets: together each token once, but no first token of a document in front."""
    tokens = joined(lengths, is_last_open=is_last_open)
    rows = rows_of(tokens, context)
    targets = Counter(token for row in rows for token in row[1:] if token != END)
    starts = {int(token) for token in tokens[np.cumsum([0, *lengths[:-1]])]} - {END}
    in_front = {row[0] for row in rows} & starts
    assert targets == Counter(token for token in tokens.tolist() if token != END and token not in in_front)
    ends_in_front = sum(row[0] == END for row in rows)  # documents of nothing but END, in rows that begin with one
    assert sum(row[1:].count(END) for row in rows) == int((tokens == END).sum()) - ends_in_front


@given(lengths=DOCUMENTS, context=st.integers(1, 40), is_last_open=st.booleans())
def test_documents_that_fit_stay_whole(lengths, context, is_last_open):
    """A document of at most context + 1 tokens lies in one row; a row begins with a document or with a part of a longer one."""
    tokens = joined(lengths, is_last_open=is_last_open)
    rows = rows_of(tokens, context)
    places = {token: number for number, row in enumerate(rows) for token in row if token != END}
    stops = np.cumsum(lengths)
    for start, stop in zip(stops - lengths, stops, strict=True):
        words = [token for token in tokens[start:stop].tolist() if token != END]
        if stop - start <= context + 1:
            assert len({places[token] for token in words}) <= 1
            assert all(row[0] not in words[1:] for row in rows)


@given(lengths=DOCUMENTS, context=st.integers(1, 40))
def test_nothing_follows_a_document_that_goes_on(lengths, context):
    """The token that the split has cut a document at is the last of its row."""
    tokens = joined(lengths, is_last_open=True)
    rows = [row for row in rows_of(tokens, context) if tokens[-1] in row]
    assert [row[-1] for row in rows] == [tokens[-1]]


@given(lengths=st.lists(st.integers(1, 50), max_size=60), extra=st.integers(0, 30))
def test_bulk_placing_is_best_fit(lengths, extra):
    """The spaces that are left are those of the textbook's best-fit decreasing, one thing after the other."""
    capacity = max(lengths, default=1) + extra
    rows, order = best_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    used = Counter()
    for row, thing in zip(rows.tolist(), order.tolist(), strict=True):
        used[row] += lengths[thing]
    spaces: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [space for space in spaces if space >= length]
        if fitting:
            spaces.remove(min(fitting))
        spaces.append((min(fitting) if fitting else capacity) - length)
    assert sorted(capacity - total for total in used.values()) == sorted(spaces)


def test_documents_are_found_across_blocks():
    """A document ends behind its end-of-text, in whichever block that is."""
    tokens = np.array([5, END, END, 7, 8, END, 9], dtype=np.uint16)
    for cut in range(8):
        assert document_stops([tokens[:cut], tokens[cut:]], END).tolist() == [2, 3, 6, 7]


def test_rows_of_realistic_documents_are_nearly_full():
    """Log-normal lengths: less than one token in a thousand is padding."""
    lengths = np.maximum(2, np.random.default_rng(0).lognormal(np.log(400), 1.2, 50_000).astype(np.int64))
    for context in (128, 2048):
        made = pack(np.cumsum(lengths), context, is_last_open=False)
        assert made.token_offsets[-1] / (made.num_rows * (context + 1)) > 0.999


def test_batches_of_rows_are_a_shuffle_of_all_rows(tmp_path):
    """An epoch is every row once, in another order each time; targets are counted without reading tokens."""
    tokens = joined([9, 30, 4, 17, 2, 2, 8, 60, 5], is_last_open=False)
    packing.save(packed(tokens, 10), tmp_path / "rows")
    samples = RowSamples(tokens, packing.load(tmp_path / "rows"), 10, seed=3)
    batches = Batches([samples], 3)
    epochs = [batches.batch(number * batches.samples_per_epoch, batches.samples_per_epoch) for number in range(3)]
    expected = sorted(map(tuple, (row + [PAD] * (11 - len(row)) for row in rows_of(tokens, 10))))
    assert all(sorted(map(tuple, epoch.tolist())) == expected for epoch in epochs)
    assert len({epoch.tobytes() for epoch in epochs}) == 3
    assert epochs[0].dtype == np.int64
    for first, count in ((0, 3), (2, 1), (5, 40)):
        assert batches.num_targets(first, count) == int((batches.batch(first, count)[:, 1:] != PAD).sum())


def test_half_an_index_does_not_open(tmp_path):
    """A file that is missing or cut short is found before a row is read."""
    folder = tmp_path / "rows"
    packing.save(packed(joined([5, 6], is_last_open=False), 4), folder)
    whole = (folder / "starts.npy").read_bytes()
    (folder / "starts.npy").write_bytes(whole[:-4])
    with pytest.raises(ValueError, match="mmap length"):
        packing.load(folder)
    (folder / "starts.npy").unlink()
    with pytest.raises(FileNotFoundError):
        packing.load(folder)
