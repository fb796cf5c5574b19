"""Promises of parallel tokenising: the same tokens for any number of workers and after any kill, and no memory but pieces."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

from plt_tui.config.schema import DataSection
from plt_tui.data import progress, shards
from plt_tui.data.corpus import Piece, split
from plt_tui.data.prepare import Dataset, prepare
from plt_tui.data.progress import Meter
from plt_tui.data.shards import num_workers, piece_works, tokenise
from plt_tui.data.tokenizer import ByteTokenizer, IdTokenizer, from_json
from plt_tui.errors import DataError

LINE = "line {} of a text with é in it\n"


class ManyWords(ByteTokenizer):
    """Bytes of a vocabulary without end-of-text."""

    end_of_text = None  # type: ignore[assignment]


def meter() -> Meter:
    """One that tells nobody."""
    return Meter("tokenising", 0, lambda *_: None)


def run(works, target: Path, tokenizer=None) -> bytes:
    """The joined tokens as bytes, and nothing else left but what is known of the shards."""
    target.parent.mkdir(exist_ok=True)
    file = tokenise(works, tokenizer or ByteTokenizer(), target, "data.train (x)", meter())
    tokens = np.fromfile(target, dtype="<u2")
    assert len(tokens) == file.count
    assert not list(target.parent.glob("shards/*.bin"))
    return bytes(np.where(tokens == 256, ord("|"), tokens).astype(np.uint8))


def expected(found: list[Piece], mark: str) -> bytes:
    """Documents that have text, joined by `mark`."""
    documents = [""]
    for piece in found:
        documents[-1] += piece.text
        if piece.ends_document:
            documents.append("")
    return mark.join(filter(None, documents)).encode()


PIECES = [Piece("a", False, 1), Piece("", True, 0), Piece("bc", True, 2), Piece("", False, 0), Piece("d", False, 1)]


@pytest.mark.parametrize("mark", ["|", ""])
def test_end_of_text_stands_where_documents_meet_wherever_shards_do(tmp_path, mark):
    """Any order of pieces with and without text, cut into shards in any way, gives the documents of the pieces."""
    tokenizer = ByteTokenizer() if mark else ManyWords()
    for number, order in enumerate(permutations(PIECES)):
        cut = 1 + number % 5
        works = [order[first : first + cut].__iter__ for first in range(0, 5, cut)]
        assert run(works, tmp_path / str(number) / "train.bin", tokenizer) == expected(list(order), mark)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_the_number_of_workers_changes_nothing(tmp_path, monkeypatch, workers):
    """Works that end in any order are joined in theirs, and few are taken ahead of what is done."""
    monkeypatch.setattr(shards, "num_workers", lambda: workers)
    taken, done = [], []

    def work(number: int):
        def read():
            if number % 3 == 0:
                time.sleep(0.002)  # others overtake
            yield Piece(LINE.format(number), False, 1)
            done.append(number)

        return read

    def works():
        for number in range(60):
            assert number - len(done) <= 2 * workers + 1
            taken.append(number)
            yield work(number)

    assert run(works(), tmp_path / "train.bin") == "".join(map(LINE.format, range(60))).encode()


def test_a_failing_work_ends_all(tmp_path):
    """The error of one worker stops the others at their next piece, and no thread stays."""

    def endless():
        while True:
            yield Piece("x", False, 1)

    def failing():
        raise DataError("at byte 7")
        yield

    with pytest.raises(DataError, match="at byte 7"):
        run([endless, failing], tmp_path / "train.bin")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tokenise")]


def test_text_that_cannot_be_encoded_names_its_corpus(tmp_path):
    """A tokenizer that cannot spell a text says so with the corpus in front."""
    with pytest.raises(DataError, match=r"data.train \(x\): the character 'z'"):
        run(piece_works([Piece("xyz", True, 3)]), tmp_path / "t.bin", from_json({"kind": "char", "characters": "xy"}))
    with pytest.raises(DataError, match=r"data.train \(x\): token ids without a tokenizer"):
        run(piece_works([Piece("xyz", True, 3)]), tmp_path / "t.bin", IdTokenizer(300))


@pytest.mark.parametrize("unit", ["x", "a line\n", "\n" + "é" * 300_000 + "\n\n"], ids=["no lines", "lines", "long lines"])
def test_a_long_document_is_encoded_in_parts(tmp_path, monkeypatch, unit):
    """However long it is, as a JSON line or a row may be: so memory stays flat. It stays one document."""
    text, lengths = unit * (700_000 // len(unit)), []
    encode = ByteTokenizer.encode
    monkeypatch.setattr(ByteTokenizer, "encode", lambda self, part: (lengths.append(len(part)), encode(self, part))[1])
    pieces = [Piece("before", True, 1), Piece(text, True, 2), Piece("behind", True, 3)]
    assert run(piece_works(pieces), tmp_path / "train.bin", ManyWords()) == f"before{text}behind".encode()
    assert max(lengths) <= shards.LONGEST_PART
    assert run(piece_works(pieces), tmp_path / "other.bin") == expected(pieces, "|")


def test_parts_of_a_document_end_with_lines():
    """Words stay whole where there are lines, and the bytes are counted once."""
    parts = list(split(Piece("one\ntwo\nlonger than it\n", True, 9), 8))
    assert [part.text for part in parts] == ["one\ntwo\n", "longer t", "han it\n"]
    assert [part.ends_document for part in parts] == [False, False, True]
    assert [part.source_bytes for part in parts] == [9, 0, 0]
    assert list(split(Piece("", True, 0), 8)) == [Piece("", True, 0)]


def test_pieces_are_gathered_to_a_megabyte():
    """Many small documents are one work, and none is lost."""
    made = [list(work()) for work in piece_works(Piece("x" * 400_000, True, 1) for _ in range(7))]
    assert [len(part) for part in made] == [3, 3, 1]


def test_workers_are_the_cores_of_this_process():
    """At most 16, at least one."""
    assert 1 <= num_workers() <= 16


def test_progress_is_told_now_and_then(monkeypatch):
    """At the beginning, at most ten times a second, never beyond the whole, and at the end."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    told: list[tuple] = []
    known = Meter("reading", 1000, lambda *report: told.append(report))
    for _ in range(40):
        clock[0] += 0.03
        known.add(30)
        known.tell()
    known.finish()
    done = [report[1] for report in told]
    assert told[0] == ("reading", 0, 1000, "bytes")
    assert done[-1] == 1000
    assert done == sorted(done)
    assert 10 <= len(told) <= 14
    told.clear()
    unknown = Meter("reading", 0, lambda *report: told.append(report))
    unknown.add(5)
    unknown.finish()
    assert told == [("reading", 0, 0, "bytes"), ("reading", 5, 5, "bytes")]


WORKER = """
import sys, time
from pathlib import Path
from plt_tui.config.schema import DataSection
from plt_tui.data import progress, shards
from plt_tui.data.prepare import prepare

shards.SHARD_BYTES, progress.INTERVAL_S = 4096, 0.0
cache = Path(sys.argv[2])

def finished():
    return [path for path in cache.glob("tokens/*.partial/shards/*.bin") if path.with_suffix(".json").exists()]

def on_progress(task, done, total, unit):
    if task == "tokenising" and done > 0.4 * total:
        while len(finished()) < 2:  # by other threads: this one, which joins them, is here
            time.sleep(0.01)
        print("far enough", flush=True)
        sys.stdin.readline()

config = DataSection(train=sys.argv[1], tokenizer=sys.argv[3], vocab_size=300, context=16)
prepare(config, cache_dir=cache, on_progress=on_progress)
"""


class Preparation:
    """A corpus of many small shards, prepared here or in a process that is killed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.corpus = folder / "corpus.txt"
        self.corpus.write_text("".join(map(LINE.format, range(6000))), encoding="utf-8")
        self.cache = folder / "cache"
        self.made = 0
        make = shards._make

        def counting(*arguments):
            self.made += 1
            return make(*arguments)

        monkeypatch.setattr(shards, "SHARD_BYTES", 4096)
        monkeypatch.setattr(shards, "_make", counting)

    def run(self, tokenizer: str, cache: Path | None = None) -> tuple[Dataset, list[str]]:
        """The dataset, and the tasks that were reported."""
        self.made = 0
        tasks: list[str] = []
        config = DataSection(train=str(self.corpus), tokenizer=tokenizer, vocab_size=300, context=16)
        return prepare(config, cache_dir=cache or self.cache, on_progress=lambda task, *_: tasks.append(task)), tasks

    def kill_one(self, tokenizer: str) -> Path:
        """Another process prepares and is killed when 0.4 of the bytes are done; what it leaves."""
        command = [sys.executable, "-c", WORKER, str(self.corpus), str(self.cache), tokenizer]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout.readline() == "far enough\n"
            finally:
                process.kill()
        (stage,) = self.cache.glob("tokens/*.partial")
        return stage


@pytest.fixture
def preparation(tmp_path, monkeypatch):
    """About sixty shards."""
    return Preparation(tmp_path, monkeypatch)


@pytest.mark.parametrize("tokenizer", ["byte", "bpe"])
def test_a_killed_preparation_goes_on_behind_its_finished_shards(preparation, tokenizer):
    """After SIGKILL the vocabulary is not learned again, finished shards are not made again, and the tokens are the same."""
    undisturbed, _ = preparation.run(tokenizer, preparation.cache.with_name("other"))
    all_shards = preparation.made
    stage = preparation.kill_one(tokenizer)
    assert list(stage.glob("shards/*.json"))
    assert (stage / "train.bin").stat().st_size > 0
    resumed, tasks = preparation.run(tokenizer)
    assert preparation.made < 0.7 * all_shards
    assert set(tasks) == {"tokenising"}
    assert resumed.fingerprint == undisturbed.fingerprint
    assert np.array_equal(resumed.train[0], undisturbed.train[0])
    (entry,) = (path for path in preparation.cache.glob("tokens/*") if path.is_dir())
    assert sorted(path.name for path in entry.iterdir()) == ["meta.json", "tokenizer.json", "train.bin"]


def test_a_damaged_shard_is_made_again(preparation):
    """A shard on disk that is not what its record says, and one with half a record, are not used."""
    undisturbed, _ = preparation.run("byte", preparation.cache.with_name("other"))
    stage = preparation.kill_one("byte")
    first, second = sorted(stage.glob("shards/*.bin"))[-2:]
    for shard in (first, second):
        shard.write_bytes(shard.read_bytes()[::-1])
    second.with_suffix(".json").write_text('{"count": 3')
    resumed, _ = preparation.run("byte")
    assert resumed.fingerprint == undisturbed.fingerprint


@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda content: b"\1" + content[1:]])
def test_damaged_joined_tokens_are_found(preparation, damage):
    """What was joined before the kill is checked; when it is damaged all is removed, and the next call starts from nothing."""
    undisturbed, _ = preparation.run("byte", preparation.cache.with_name("other"))
    joined = preparation.kill_one("byte") / "train.bin"
    joined.write_bytes(damage(joined.read_bytes()))
    with pytest.raises(DataError, match="an interrupted preparation left are damaged and are removed now; start again"):
        preparation.run("byte")
    again, _ = preparation.run("byte")
    assert again.fingerprint == undisturbed.fingerprint


def test_another_plan_starts_from_nothing(preparation, monkeypatch):
    """Shards of another size are of no use."""
    stage = preparation.kill_one("byte")
    monkeypatch.setattr(shards, "SHARD_BYTES", 8192)
    preparation.run("byte")
    assert preparation.made == -(-preparation.corpus.stat().st_size // 8192)
    assert not stage.exists()


def test_what_nobody_goes_on_with_is_removed_after_two_weeks(preparation):
    """An abandoned preparation of a corpus that has changed since does not fill the disk for ever."""
    stage = preparation.kill_one("byte")
    preparation.corpus.write_text("another text\n" * 1000, encoding="utf-8")
    preparation.run("byte")
    assert stage.exists()
    long_ago = time.time() - 15 * 24 * 3600
    os.utime(stage, (long_ago, long_ago))
    preparation.corpus.write_text("one more text\n" * 1000, encoding="utf-8")
    preparation.run("byte")
    assert not stage.exists()
