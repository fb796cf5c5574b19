"""Promises of `prepare`: the right tokens, split, named and cached; one process works, others wait."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from plt_tui.config.schema import DataSection
from plt_tui.data.cache import default_cache_dir
from plt_tui.data.prepare import Dataset, prepare
from plt_tui.data.tokenizer import END_OF_TEXT, train_bpe
from plt_tui.errors import DataError

TEXT = "".join(f"line {number} of a text with é in it\n" for number in range(200))


class Workspace:
    """A folder with corpora and its own cache."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.reports: list[tuple[str, float, float, str]] = []

    def write(self, name: str, content: str | bytes) -> str:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def prepare(self, **settings: object) -> Dataset:
        self.reports.clear()
        config = DataSection(**{"context": 16, **settings})
        return prepare(config, cache_dir=self.cache, on_progress=lambda *report: self.reports.append(report))

    @property
    def entries(self) -> list[Path]:
        return sorted(path for path in (self.cache / "tokens").iterdir() if path.is_dir())


@pytest.fixture
def space(tmp_path):
    """A fresh workspace: the user's own cache is never touched."""
    return Workspace(tmp_path)


def test_bytes_of_a_file_are_its_tokens(space):
    """A text file is one document: its bytes, the last 5 % of them held out, nothing added."""
    data = space.prepare(train=space.write("a.txt", TEXT))
    raw = TEXT.encode()
    assert data.train[0].tolist() + data.eval.tolist() == list(raw)
    assert len(data.eval) == int(len(raw) * 0.05)
    assert isinstance(data.train[0], np.memmap)
    assert data.train[0].dtype == np.uint16
    assert data.bytes_per_token == 1.0
    assert not data.train[0].flags.writeable


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_documents_are_joined_by_end_of_text(space, tokenizer):
    """One end-of-text stands between documents, none at the ends and none for empty documents."""
    for name, content in {"a.txt": "", "b.txt": TEXT, "c.txt": "", "d.txt": f"{END_OF_TEXT}x", "e.txt": TEXT}.items():
        space.write(f"docs/{name}", content)
    data = space.prepare(train=str(space.folder / "docs"), tokenizer=tokenizer, vocab_size=300)
    ids = np.concatenate([data.train[0], data.eval])
    marks = np.flatnonzero(ids == data.tokenizer.end_of_text)
    parts = [data.tokenizer.decode(part[part != data.tokenizer.end_of_text]) for part in np.split(ids, marks)]
    assert parts == [TEXT, f"{END_OF_TEXT}x", TEXT]


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_separate_held_out_corpus(space, tokenizer):
    """With `data.eval` all of `data.train` is trained on, and bytes per token are those of the held-out text."""
    held_out = TEXT[::-1].replace("7", "8")
    train, eval_ = space.write("a.txt", TEXT), space.write("b.txt", held_out)
    data = space.prepare(train=train, eval=eval_, tokenizer=tokenizer, vocab_size=300)
    assert data.tokenizer.decode(data.train[0]) == TEXT
    assert data.tokenizer.decode(data.eval) == held_out
    assert data.bytes_per_token == len(held_out.encode()) / len(data.eval)


def test_held_out_text_with_a_new_character_fails(space):
    """A character tokenizer cannot measure text that it cannot spell; the message names corpus and character."""
    settings = {"train": space.write("a.txt", TEXT), "eval": space.write("b.txt", TEXT + "ß"), "tokenizer": "char"}
    with pytest.raises(DataError, match=r"data.eval .*b.txt\): the character 'ß' \(U\+00DF\)"):
        space.prepare(**settings)
    assert space.entries == []


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe"])
def test_second_call_finds_the_first_ones_work(space, tokenizer):
    """The cache gives the same dataset without doing anything."""
    settings = {"train": space.write("a.txt", TEXT), "tokenizer": tokenizer, "vocab_size": 300}
    first = space.prepare(**settings)
    assert space.reports[-1][0] == "tokenising"
    assert space.reports[-1][1] == space.reports[-1][2] == len(TEXT.encode())
    second = space.prepare(**settings)
    assert space.reports == []
    assert len(space.entries) == 1
    assert np.array_equal(first.train[0], second.train[0])
    assert np.array_equal(first.eval, second.eval)
    assert (first.fingerprint, first.bytes_per_token) == (second.fingerprint, second.bytes_per_token)
    assert first.tokenizer.to_json() == second.tokenizer.to_json()
    assert not list(space.cache.rglob("*.partial"))


def test_fingerprint_names_the_data_not_its_place(space):
    """Moving a file changes nothing; a changed byte, split or tokenizer changes the fingerprint."""
    path = space.write("a.txt", TEXT)
    settings = {
        "same, elsewhere": {"train": space.write("moved/b.txt", TEXT)},
        "byte": {"train": space.write("c.txt", TEXT.replace("199", "198"))},
        "split": {"train": path, "eval_fraction": 0.1},
        "held out": {"train": path, "eval": space.write("d.txt", TEXT)},
        "tokenizer": {"train": path, "tokenizer": "char"},
    }
    base = space.prepare(train=path).fingerprint
    found = {name: space.prepare(**changed).fingerprint for name, changed in settings.items()}
    assert found.pop("same, elsewhere") == base
    assert len({base, *found.values()}) == 5


def test_edited_file_is_prepared_again(space):
    """A file that changed under its name is another corpus."""
    first = space.prepare(train=space.write("a.txt", TEXT))
    second = space.prepare(train=space.write("a.txt", TEXT + "more\n"))
    assert first.fingerprint != second.fingerprint
    assert second.tokenizer.decode(second.eval).endswith("more\n")


def cut_short(entry: Path) -> None:
    """Half of the tokens are missing."""
    content = (entry / "train.bin").read_bytes()
    (entry / "train.bin").write_bytes(content[: len(content) // 2])


def flip_a_bit(entry: Path) -> None:
    """One token is another one."""
    content = bytearray((entry / "train.bin").read_bytes())
    content[100] ^= 1
    (entry / "train.bin").write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        cut_short,
        flip_a_bit,
        lambda entry: (entry / "meta.json").unlink(),
        lambda entry: (entry / "meta.json").write_text('{"format": 1'),
        lambda entry: (entry / "meta.json").write_text('{"format": 0}'),
        lambda entry: (entry / "meta.json").write_text("[]"),
        lambda entry: (entry / "train.bin").unlink(),
        lambda entry: (entry / "tokenizer.json").write_text('{"kind": "char", "characters": "ab"}'),
        lambda entry: entry.rename(entry.with_name(f"{entry.name}.partial")),
    ],
)
def test_damaged_entry_is_made_again(space, damage):
    """Whatever happened to the cache: the next call repairs it and gives the same data."""
    path = space.write("a.txt", TEXT)
    good = space.prepare(train=path)
    expected = good.train[0].tolist()
    damage(space.entries[0])
    again = space.prepare(train=path)
    assert space.reports != []
    assert again.train[0].tolist() == expected
    assert again.fingerprint == good.fingerprint
    assert len(space.entries) == 1


WORKER = """
import json, sys
from pathlib import Path
from plt_tui.config.schema import DataSection
from plt_tui.data.prepare import prepare

reports = []
def on_progress(*report):
    if not reports:
        print("working", flush=True)
        sys.stdin.readline()
    reports.append(report)

print("ready", flush=True)
if sys.argv[3] == "waiter":
    sys.stdin.readline()
data = prepare(DataSection(train=sys.argv[1]), cache_dir=Path(sys.argv[2]), on_progress=on_progress)
print(json.dumps([len(reports) > 0, data.fingerprint, int(data.train[0].sum())]))
"""


def wait_until_blocked(waiter: subprocess.Popen, holder: subprocess.Popen, timeout_s: float = 60) -> None:
    """Return once the kernel lists `waiter` as blocked on a flock; at once where it does not list the holder's either."""
    locks, deadline = Path("/proc/locks"), time.monotonic() + timeout_s
    while locks.exists() and f" {holder.pid} " in (listed := locks.read_text()):
        if re.search(rf"-> FLOCK .* {waiter.pid} ", listed):
            return
        assert time.monotonic() < deadline, "the second process does not wait for the first"
        time.sleep(0.01)


def test_two_processes_share_one_preparation(space):
    """While one process prepares, another that needs the same waits, then finds it ready without working."""
    command = [sys.executable, "-c", WORKER, space.write("a.txt", TEXT), str(space.cache)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*command, "worker"], **pipes) as worker, subprocess.Popen([*command, "waiter"], **pipes) as waiter:
        try:
            assert [worker.stdout.readline(), worker.stdout.readline()] == ["ready\n", "working\n"]
            assert waiter.stdout.readline() == "ready\n"
            waiter.stdin.write("\n")  # the lock is held now, and stays so until the worker reads its line
            waiter.stdin.flush()
            wait_until_blocked(waiter, worker)
            results = [json.loads(process.communicate(line, timeout=60)[0]) for process, line in ((worker, "\n"), (waiter, ""))]
        finally:
            worker.kill()
            waiter.kill()
    assert [worked for worked, *_ in results] == [True, False]
    assert results[0][1:] == results[1][1:]


def test_token_file_is_used_where_it_lies(space):
    """A .bin of the given type is mapped, not copied; ids without a tokenizer have no bytes."""
    ids = np.arange(1000) % 300
    for name, dtype in (("a.bin", "uint16"), ("b.bin", "uint32")):
        data = space.prepare(train=space.write(name, ids.astype(dtype).tobytes()), token_dtype=dtype, vocab_size=300)
        assert data.train[0].tolist() + data.eval.tolist() == ids.tolist()
        assert data.train[0].dtype == dtype
        assert (data.tokenizer.kind, data.tokenizer.vocab_size) == ("ids", 300)
        assert math.isnan(data.bytes_per_token)
        assert data.tokenizer.decode(data.train[0][:2]) == "<0> <1>"
    assert not list(space.cache.rglob("*.bin"))


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_file_names_need_not_be_utf8(space):
    """A corpus with a name from an older system is prepared, and found in the cache again."""
    space.write(os.fsdecode(b"caf\xe9.bin"), np.arange(500, dtype="<u2").tobytes())
    for _ in range(2):
        data = space.prepare(train=str(space.folder / "caf*.bin"))
        assert data.train[0].tolist() + data.eval.tolist() == list(range(500))
    assert space.reports == []


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64", "uint8", ">u2"])
def test_numpy_file_of_any_integer_type(space, dtype):
    """A .npy says its own type; types that cannot be mapped as they are are copied."""
    ids = np.arange(1000) % 256
    np.save(space.folder / "a.npy", ids.astype(dtype))
    for _ in range(2):
        data = space.prepare(train=str(space.folder / "a.npy"))
        assert data.train[0].tolist() + data.eval.tolist() == ids.tolist()


def test_several_token_files_are_one_corpus(space):
    """Files of a glob follow each other as they are."""
    for name, start in (("a.bin", 0), ("b.bin", 500), ("c.bin", 1000)):
        space.write(name, np.arange(start, start + 500, dtype="<u2").tobytes())
    data = space.prepare(train=str(space.folder / "*.bin"))
    assert data.train[0].tolist() + data.eval.tolist() == list(range(1500))


def test_token_file_with_its_tokenizer_has_text(space):
    """With the tokenizer.json that made them, ids decode and bytes are counted."""
    bpe = train_bpe([TEXT], 300)
    path = space.write("tokenizer.json", json.dumps(bpe.to_json()["tokenizer"]))
    ids = space.write("a.bin", bpe.encode(TEXT).astype("<u2").tobytes())
    data = space.prepare(train=ids, tokenizer=path)
    text = space.prepare(train=space.write("a.txt", TEXT), tokenizer=path)
    assert data.tokenizer.decode(np.concatenate([data.train[0], data.eval])) == TEXT
    assert data.train[0].tolist() == text.train[0].tolist()
    assert data.bytes_per_token == len(bpe.decode(data.eval).encode()) / len(data.eval)
    assert data.fingerprint == text.fingerprint


BAD_TOKENS = {
    "id.bin": (np.full(500, 299, "<u2").tobytes() + b"\x2c\x01", "token id 300 at index 500 is outside the vocabulary of 300"),
    "negative.npy": (np.array([5, -1] * 50), "token id -1 at index 1 is outside"),
    "square.npy": (np.zeros((50, 50), "u2"), r"need one row of integers, not shape \(50, 50\)"),
    "float.npy": (np.zeros(500), "need one row of integers, not .* float64"),
    "text.npy": (b"no numpy file", "cannot be read as token ids"),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_bad_token_file_is_named(space, name):
    """A file of ids that cannot be right is refused with the place and the setting to look at."""
    content, message = BAD_TOKENS[name]
    path = space.folder / name
    np.save(path, content) if isinstance(content, np.ndarray) else path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        space.prepare(train=str(path), vocab_size=300)
    assert space.entries == []


BAD_SETTINGS = [
    ({"train": "short.txt"}, "too short: 60 tokens to train on and 3 held out .data.eval_fraction 0.05.* needs at least 17"),
    ({"train": "long.txt", "eval": "short.txt", "context": 99}, "63 held out .data.eval .*short.txt.* needs at least 100"),
    ({"train": "long.txt", "context": 10**6}, "data.context 1000000 needs at least 1000001 of each"),
    ({"train": "blank.txt"}, r"data.train \(.*blank.txt\): holds nothing but white space"),
    ({"train": "blank.txt", "tokenizer": "char"}, "holds nothing but white space"),
    ({"train": "long.txt", "eval": "blank.txt"}, r"data.eval \(.*blank.txt\): holds nothing but white space"),
    ({"train": "zeros.txt"}, r"data.train \(.*zeros.txt\): holds nothing but white space or zero bytes"),
    ({"train": "late.txt"}, "late.txt: not UTF-8 at byte 2000000 "),
    ({"train": "late.txt", "tokenizer": "char"}, "late.txt: not UTF-8 at byte 2000000 "),
    ({"train": "late.txt", "tokenizer": "bpe"}, "late.txt: not UTF-8 at byte 2000000 "),
    ({"train": "ids.bin", "tokenizer": "char"}, "char is made from text, but data.train .* holds token ids"),
    ({"train": "long.txt", "tokenizer": "blank.txt"}, "blank.txt: not a tokenizer.json: not valid JSON"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_unusable_corpus_leaves_nothing(space, settings, message):
    """What only reading can find ends in one sentence, and no entry stays in the cache."""
    space.write("short.txt", "x" * 63)
    space.write("long.txt", TEXT)
    space.write("blank.txt", " \n\t" * 500)
    space.write("zeros.txt", "\n" + "\0" * 1500)
    space.write("late.txt", b"0123456789" * 200_000 + b"\xff")
    space.write("ids.bin", b"12" * 500)
    paths = {
        key: str(space.folder / value) if isinstance(value, str) and "." in value else value for key, value in settings.items()
    }
    with pytest.raises(DataError, match=message):
        space.prepare(**paths)
    assert space.entries == []


def test_context_can_be_too_long_for_a_cached_corpus(space):
    """The check is about this run's context, also when the tokens are there already."""
    path = space.write("a.txt", TEXT)
    space.prepare(train=path)
    with pytest.raises(DataError, match="needs at least 5001 of each"):
        space.prepare(train=path, context=5000)


def test_file_that_grows_while_it_is_read_is_refused(space):
    """Tokens of a half-written file would be cached under a wrong name."""
    path = Path(space.write("a.txt", TEXT))

    def grow(*_: object) -> None:
        path.write_text(TEXT + "more")

    with pytest.raises(DataError, match="a file changed while it was read"):
        prepare(DataSection(train=str(path), context=16), cache_dir=space.cache, on_progress=grow)
    assert space.entries == []


def test_tokenizer_file_that_changes_meanwhile_is_refused(space):
    """Its tokens would be cached under the name of another vocabulary."""
    tokenizer = Path(space.write("tokenizer.json", json.dumps(train_bpe([TEXT], 300).to_json())))
    config = DataSection(train=space.write("a.txt", TEXT), tokenizer=str(tokenizer), context=16)
    later = json.dumps(train_bpe([TEXT], 320).to_json())
    with pytest.raises(DataError, match="a file changed while it was read"):
        prepare(config, cache_dir=space.cache, on_progress=lambda *_: tokenizer.write_text(later) and None)
    assert space.entries == []


def test_a_full_disk_is_said_when_the_system_gives_no_reason(space, monkeypatch):
    """Numpy's own error for a disk that is full has a text but no error number."""

    def fail(*_: object) -> None:
        raise OSError("100 requested and 0 written")

    monkeypatch.setattr(np, "save", fail)
    with pytest.raises(DataError, match=r"cannot keep prepared tokens in .*: 100 requested and 0 written; set PLT_TUI_CACHE"):
        space.prepare(train=space.write("a.txt", TEXT), packing="best_fit")


@pytest.mark.parametrize("blocked", ["cache", "cache/tokens"])
def test_unusable_cache_folder_is_named(space, blocked):
    """A cache that cannot be written is said with its folder and the variable that moves it."""
    space.write(blocked, "a file where a folder should be")
    with pytest.raises(DataError, match=r"cannot keep prepared tokens in .*cache: .*; set PLT_TUI_CACHE to a folder"):
        space.prepare(train=space.write("a.txt", TEXT))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"PLT_TUI_CACHE": "/own", "XDG_CACHE_HOME": "/xdg"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/plt-tui"),
        ({"HOME": "/home/ana"}, "/home/ana/.cache/plt-tui"),
        ({"HOME": "/home/ana", "PLT_TUI_CACHE": "", "XDG_CACHE_HOME": ""}, "/home/ana/.cache/plt-tui"),
    ],
)
def test_cache_folder_follows_the_environment(monkeypatch, variables, expected):
    """Our own variable wins over XDG's, which wins over the home folder."""
    for name in ("PLT_TUI_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert default_cache_dir() == Path(expected)


def test_default_corpus_is_ready_for_the_quick_start(space):
    """`plt-tui run` without a file: half a megabyte of prose in bytes, every document apart."""
    data = space.prepare(train="builtin:python-docs", context=128)
    assert data.tokenizer.vocab_size == 257
    assert len(data.train[0]) > 300_000
    assert np.count_nonzero(data.train[0] == 256) > 50
    assert 0.99 < data.bytes_per_token <= 1.0
