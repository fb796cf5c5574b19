"""Promises of datasets of several corpora or of packed rows, from `prepare` to batches."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from plt_tui.config.schema import DataSection
from plt_tui.data import shards, vocabulary
from plt_tui.data.cursor import EvalWindows, train_batches
from plt_tui.data.mixture import BLOCK
from plt_tui.data.packing import PAD
from plt_tui.data.prepare import Dataset, prepare
from plt_tui.data.sources import resolve
from plt_tui.data.tokens import dtype_for
from plt_tui.data.vocabulary import spread
from plt_tui.errors import DataError

END = 256


@pytest.fixture
def folder(tmp_path):
    """Corpora of distinct letters: a is one document, b has many short ones, c is short."""
    (tmp_path / "a.txt").write_text("a" * 4000)
    (tmp_path / "b.jsonl").write_text("".join('{"text": "' + "b" * (number % 70) + '"}\n' for number in range(200)))
    (tmp_path / "c.txt").write_text("c" * 50)
    (tmp_path / "d.txt").write_text("d" * 3000)
    return tmp_path


def run(folder: Path, *names: str, **settings: object) -> tuple[Dataset, DataSection]:
    """The dataset of files of `folder`, with its config."""
    train = [str(folder / name) for name in names]
    config = DataSection(**{"context": 16, "train": train if len(train) > 1 else train[0], **settings})
    return prepare(config, cache_dir=folder / "cache"), config


def test_each_corpus_holds_out_its_end(folder):
    """The held-out part is the last share of every corpus, joined in their order by end-of-text."""
    data, _ = run(folder, "a.txt", "d.txt", eval_fraction=0.1)
    assert [array.tolist() for array in data.train] == [[ord("a")] * 3600, [ord("d")] * 2700]
    assert data.eval.tolist() == [ord("a")] * 400 + [END] + [ord("d")] * 300
    assert data.num_train_tokens == 6300
    assert data.bytes_per_token == 700 / 701
    assert EvalWindows(data.eval, 16).num_windows == 43


def test_a_corpus_too_small_to_hold_out_anything_adds_no_end_of_text(folder):
    """End-of-text stands between held-out documents, not where there is none, wherever the small corpus is in the list."""
    (folder / "e.txt").write_text("e" * 18)
    for names in (("e.txt", "d.txt", "a.txt"), ("d.txt", "e.txt", "a.txt"), ("d.txt", "a.txt", "e.txt")):
        data, _ = run(folder, *names, eval_fraction=0.05)
        assert (data.eval == END).sum() == 1
        assert END not in (data.eval[0], data.eval[-1])


def test_what_is_held_out_is_long_enough_or_not_whatever_the_cache_holds(folder):
    """The tokens that count are those of the joined ends, prepared now or before."""
    names, need = ("a.txt", "d.txt"), {"eval_fraction": 0.01}  # 40 tokens, end-of-text, 30 tokens
    run(folder, *names, context=70, **need)
    with pytest.raises(DataError, match=r"71 held out .* needs at least 72"):
        run(folder, *names, context=71, **need)


def test_corpora_are_found_in_the_cache(folder):
    """The second call gives the same arrays, split and fingerprint; weights and packing share the tokens."""
    first, _ = run(folder, "a.txt", "d.txt")
    second, _ = run(folder, "a.txt", "d.txt")
    assert all(np.array_equal(one, two) for one, two in zip(first.train, second.train, strict=True))
    assert np.array_equal(first.eval, second.eval)
    assert first.fingerprint == second.fingerprint
    run(folder, "a.txt", "d.txt", weights=[1.0, 9.0], packing="best_fit")
    assert len([path for path in folder.glob("cache/tokens/*") if path.is_dir()]) == 1


def test_the_fingerprint_names_weights_and_packing(folder):
    """Other weights, another packing, another order of corpora: other samples, and so another name."""
    names = ("a.txt", "d.txt")
    prints = [
        run(folder, *names)[0].fingerprint,
        run(folder, *names, weights=[1.0, 2.0])[0].fingerprint,
        run(folder, *names, weights=[2.0, 1.0])[0].fingerprint,
        run(folder, *names, packing="best_fit")[0].fingerprint,
        run(folder, *reversed(names))[0].fingerprint,
        run(folder, "a.txt")[0].fingerprint,
        run(folder, "a.txt", packing="best_fit")[0].fingerprint,
    ]
    assert len(set(prints)) == len(prints)


def test_batches_follow_the_weights(folder):
    """A quarter of the sequences come from the corpus with a quarter of the weight."""
    data, config = run(folder, "a.txt", "d.txt", weights=[1.0, 3.0])
    batches = train_batches(data, config, seed=5)
    samples = batches.batch(0, 1024)
    assert samples.shape == (1024, 17)
    assert np.count_nonzero(samples[:, 0] == ord("a")) == 256
    assert batches.samples_per_epoch == (3800 - 16) // 16 + (2850 - 16) // 16
    assert batches.num_targets(0, 10) == 160


def test_packed_corpora_go_on_where_they_were_when_weights_change(folder):
    """In the middle of a block: whole blocks later every row was seen as often as any other of its corpus, give or take one."""
    for name, count in (("x.jsonl", 150), ("y.jsonl", 220)):
        texts = [f"{name[0]} {number:03} {'z' * (number % 9)}" for number in range(count)]
        (folder / name).write_text("".join(f'{{"text": "{text}"}}\n' for text in texts))
    data, config = run(folder, "x.jsonl", "y.jsonl", weights=[1.0, 1.0], packing="best_fit")
    changed = train_batches(data, config, seed=5).reweighted(137, (1.0, 4.0))
    rows, source = changed.batch(0, 137 + 3 * BLOCK), changed.sources(0, 137 + 3 * BLOCK)
    for number, packing in enumerate(data.packed):
        seen = Counter(tuple(row) for row in rows[source == number].tolist())
        assert len(seen) == packing.num_rows
        assert max(seen.values()) - min(seen.values()) <= 1
    across = changed.batch(130, 20)
    assert changed.num_targets(130, 20) == int((across[:, 1:] != PAD).sum())


def test_corpora_of_one_size_are_shuffled_apart(folder):
    """Equal corpora do not come in the same order side by side."""
    for name, start in (("x.npy", 0), ("y.npy", 10_000)):
        np.save(folder / name, np.arange(start, start + 5000, dtype="<u2"))
    data, config = run(folder, "x.npy", "y.npy", vocab_size=20_000)
    batches = train_batches(data, config, seed=5).batch(0, 512)[:, 0]
    x, y = batches[batches < 10_000], batches[batches >= 10_000] - 10_000
    assert len(set(x[:100].tolist()) & set(y[:100].tolist())) < 50


@pytest.mark.parametrize("context", [16, 64])
def test_packed_rows_hold_whole_documents(folder, context):
    """Rows of many short documents begin with one, hold it whole, and their targets are counted from the index."""
    data, config = run(folder, "b.jsonl", packing="best_fit", context=context)
    batches = train_batches(data, config, seed=1)
    rows = batches.batch(0, batches.samples_per_epoch)
    assert rows.shape == (data.packed[0].num_rows, context + 1)
    assert ((rows == PAD).cumsum(axis=1) <= (rows == PAD) * (context + 1)).all()  # at the end only
    assert batches.num_targets(0, len(rows)) == int((rows[:, 1:] != PAD).sum())
    document_tokens = int((data.train[0] == ord("b")).sum())
    assert document_tokens - len(rows) <= int((rows[:, 1:] == ord("b")).sum()) <= document_tokens
    assert EvalWindows(data.eval, context).num_windows > 0


def test_rows_are_packed_once_for_each_context(folder):
    """The index lies beside the tokens; another process or run maps it."""
    for _ in range(2):
        for context in (16, 32):
            run(folder, "a.txt", "b.jsonl", packing="best_fit", context=context)
    (entry,) = (path for path in folder.glob("cache/tokens/*") if path.is_dir())
    assert sorted(path.name for path in entry.iterdir() if path.is_dir()) == ["rows-16", "rows-32", "rows1-16", "rows1-32"]


def test_packing_needs_documents(folder):
    """Ids without a tokenizer have no end-of-text to tell documents apart."""
    np.save(folder / "x.npy", np.arange(5000, dtype="<u2"))
    with pytest.raises(DataError, match=r"best_fit needs .* data.train \(.*x.npy\) has no end-of-text; give data.tokenizer"):
        run(folder, "x.npy", vocab_size=5000, packing="best_fit")


def test_the_corpus_that_is_too_short_is_named(folder):
    """Of several, the first one that cannot fill a window."""
    with pytest.raises(DataError, match=r"data.train \([^,]*c.txt\): too short: 48 tokens to train on and 203 held out"):
        run(folder, "a.txt", "c.txt", context=100)


def test_a_file_that_is_all_white_space_is_named(folder):
    """Also when it is the second of a list."""
    (folder / "blank.txt").write_text(" \n" * 100)
    with pytest.raises(DataError, match=r"data.train \([^,]*blank.txt\): holds nothing but white space"):
        run(folder, "a.txt", "blank.txt")


def test_a_vocabulary_is_learned_from_all_corpora(folder):
    """Characters of every corpus can be written."""
    data, _ = run(folder, "a.txt", "d.txt", tokenizer="char")
    assert data.tokenizer.vocab_size == 3
    assert dtype_for(data.tokenizer.vocab_size) == data.train[1].dtype.str


def test_a_vocabulary_is_learned_from_parts_of_a_long_document(folder, monkeypatch):
    """The library holds many texts at once: none of them is long, and together they are the document."""
    seen: list[str] = []
    learn = vocabulary.train_char
    monkeypatch.setattr(vocabulary, "train_char", lambda texts: (seen.extend(texts), learn(seen))[1])
    (folder / "long.jsonl").write_text('{"text": "' + "some words " * 70_000 + '"}')
    run(folder, "long.jsonl", tokenizer="char")
    assert "".join(seen) == "some words " * 70_000
    assert max(map(len, seen)) <= shards.LONGEST_PART


def test_a_large_corpus_is_sampled_evenly_for_bpe(folder, monkeypatch):
    """About the limit is read, from the beginning of units all over the corpus; a small corpus is read whole."""
    text = "".join(f"{number:>99}\n" for number in range(5000))
    (folder / "large.txt").write_text(text)
    (source,) = resolve(DataSection(train=str(folder / "large.txt"))).train
    cut = vocabulary.units(source, 10_000)
    monkeypatch.setattr(vocabulary, "units", lambda source: cut)
    read = [piece.text for piece in spread(source, "text", 100_000)]
    assert 90_000 <= sum(map(len, read)) <= 120_000
    starts = [int(part[:99]) for part in read if part]
    assert max(starts) > 4500
    assert max(np.diff(starts)) < 600
    assert "".join(piece.text for piece in spread(source, "text", 10**9)) == text


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_progress_is_told_by_the_thread_that_asked(folder, tokenizer):
    """Whoever draws it need not be safe against several threads."""
    threads = set()

    def told(*_: object) -> None:
        threads.add(threading.get_ident())

    (folder / "e.txt").write_text("".join(f"line {number}\n" for number in range(1000)))
    config = DataSection(train=str(folder / "e.txt"), tokenizer=tokenizer, vocab_size=300, context=16)
    prepare(config, cache_dir=folder / "cache", on_progress=told)
    assert threads == {threading.get_ident()}
