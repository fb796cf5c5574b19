"""Promises of reading: which files a corpus is, how documents are kept apart, and how bad input is named."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.schema import DataSection
from plt_tui.data.check import check_corpus
from plt_tui.data.corpus import file_pieces
from plt_tui.data.sources import SourceFile, resolve
from plt_tui.errors import DataError


def documents(config: DataSection) -> list[str]:
    """The whole documents of `data.train`."""
    found, parts = [], []
    (source,) = resolve(config).train
    for piece in (piece for file in source.files for piece in file_pieces(file, config.text_field)):
        parts.append(piece.text)
        if piece.ends_document:
            found.append("".join(parts))
            parts = []
    assert not parts
    return found


def write(path: Path, content: str | bytes) -> Path:
    """`path` with `content`, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def library(tmp_path):
    """A folder of texts with things in it that are none."""
    write(tmp_path / "b.txt", "B")
    write(tmp_path / "a.md", "A")
    write(tmp_path / "sub/deep/c.TXT", "C")
    write(tmp_path / "sub/empty.txt", "")
    write(tmp_path / "sub/code.py", "no")
    write(tmp_path / ".venv/licence.txt", "no")
    (tmp_path / "sub/loop").symlink_to(tmp_path)
    return tmp_path


def test_folder_is_its_texts_sorted(library):
    """A folder gives its *.txt and *.md files by path; hidden folders and links that form a loop are left out."""
    assert documents(DataSection(train=str(library))) == ["A", "B", "C", ""]


def test_folder_gives_its_compressed_texts_too(library):
    """Also with .gz behind, but of no other kind of file; nothing else in the folder has to be taken out of the way."""
    write(library / "aa.txt.gz", gzip.compress(b"packed"))
    write(library / "data.jsonl.gz", "no")
    write(library / "x.gz", "no")
    assert documents(DataSection(train=str(library))) == ["A", "packed", "B", "C", ""]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("*.txt", ["B"]), ("**/*.[tT][xX][tT]", ["B", "C", ""]), ("sub/**/c.*", ["C"]), ("*", ["A", "B"])],
)
def test_glob_is_its_matches_sorted(library, pattern, expected):
    """A glob gives the files that it matches; folders that match are not files."""
    (library / "sub/loop").unlink()
    assert documents(DataSection(train=str(library / pattern))) == expected


def test_name_with_glob_signs_is_a_file_if_it_exists(tmp_path):
    """A file called a[1].txt can be named as it is."""
    assert documents(DataSection(train=str(write(tmp_path / "a[1].txt", "text")))) == ["text"]


def test_json_lines_are_documents(tmp_path):
    """Each line gives its field; blank lines and a byte-order mark are nothing, CR LF becomes LF also inside."""
    rows = [{"id": 1, "body": "one\r\ntwo"}, {"body": "é"}]
    content = "\ufeff" + "\r\n\r\n".join(json.dumps(row) for row in rows)
    path = write(tmp_path / "x.jsonl", content)
    assert documents(DataSection(train=str(path), text_field="body")) == ["one\ntwo", "é"]


def test_format_overrides_the_ending(tmp_path):
    """`format` decides when it is given."""
    path = write(tmp_path / "x.jsonl", '{"text": "one"}')
    assert documents(DataSection(train=str(path), format="text")) == ['{"text": "one"}']
    assert documents(DataSection(train=str(tmp_path), format="jsonl")) == ["one"]


@given(text=st.text(alphabet=st.sampled_from("ab é🙂\r\n\ufeff\0"), max_size=40), block_bytes=st.integers(1, 9))
def test_pieces_join_to_the_document(text, block_bytes):
    """However small the pieces are: one byte-order mark is dropped, CR LF becomes LF, and nothing else changes."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "t.txt", text)
        read = list(file_pieces(SourceFile(path=path, format="text", size=0, mtime_ns=0), "text", block_bytes))
    assert "".join(piece.text for piece in read) == text.removeprefix("\ufeff").replace("\r\n", "\n")
    assert [piece.ends_document for piece in read] == [False] * (len(read) - 1) + [True]


@given(before=st.text(max_size=20), block_bytes=st.integers(1, 9), bad=st.sampled_from([b"\xff", b"\xc3(", b"\xe2\x82"]))
def test_bad_byte_is_named_by_its_offset(before, block_bytes, bad):
    """The offset is that of the first bad byte in the file, wherever blocks begin."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "t.txt", before.encode() + bad)
        with pytest.raises(DataError, match=f"not UTF-8 at byte {len(before.encode())} "):
            list(file_pieces(SourceFile(path=path, format="text", size=0, mtime_ns=0), "text", block_bytes))


def test_builtin_docs_are_prose():
    """The default corpus is there without a download: many documents, half a megabyte of text."""
    found = documents(DataSection())
    assert len(found) > 50
    assert 300_000 < sum(map(len, found)) < 1_000_000


def test_builtin_source_is_the_library_without_its_tests():
    """The second corpus is source code of megabytes; no test file and no installed package is in it."""
    source = resolve(DataSection(train="builtin:python-source")).train[0]
    names = [file.path.as_posix() for file in source.files]
    assert any(name.endswith("/asyncio/tasks.py") for name in names)
    assert not any("/test/" in name or "/site-packages/" in name for name in names)
    assert source.size > 5_000_000


def test_undecodable_source_file_is_left_out(tmp_path):
    """A file of the standard library in another encoding is a fixture, not prose."""
    path = write(tmp_path / "latin.py", b"# \xe9")
    assert list(file_pieces(SourceFile(path=path, format="python", size=3, mtime_ns=0), "text")) == []


BAD: list[tuple[str, str | bytes | None, dict[str, str], str]] = [
    ("gone.txt", None, {}, "no such file or folder: .*gone.txt"),
    ("*.none", None, {}, "no file matches"),
    ("nul\0.txt", None, {}, "embedded null"),
    ("empty.txt", "", {}, "the file is empty"),
    ("latin.txt", b"caf\xe9 au lait", {}, "not UTF-8 at byte 3 .0xe9"),
    ("cut.txt", b"caf\xc3", {}, "not UTF-8 at byte 3 .0xc3, unexpected end"),
    ("utf16.txt", "text".encode("utf-16"), {}, "not UTF-8 at byte 0 .the file looks like UTF-16"),
    ("a.jsonl", '{"text": "a"', {}, "a.jsonl:1: not valid JSON"),
    ("a.jsonl", "[" * 100_000, {}, "a.jsonl:1: not valid JSON"),
    ("a.jsonl", '\n"text"', {}, "a.jsonl:2: a JSON line must be an object .* not str"),
    ("a.jsonl", '{"a": "x", "b": 1}', {}, "a.jsonl:1: no field 'text'; fields here: 'a', 'b'; set data.text_field"),
    ("a.jsonl", '{"text": 5}', {}, "a.jsonl:1: field 'text' must be text, not int"),
    ("a.jsonl", '{"text": "\\ud800"}', {}, "a.jsonl:1: .* half a surrogate pair at character 0"),
    ("a.jsonl", b'\n\n{"text": "\xff"}', {}, "not UTF-8 at byte 12 "),
    ("a.bin", b"123", {}, "3 bytes are no whole number of uint16 ids; set data.token_dtype"),
    ("a.bin", b"123456", {"token_dtype": "uint32"}, "6 bytes are no whole number of uint32 ids"),
    (
        "a.bin",
        b"1234",
        {"vocab_size": 65_537},
        "vocabulary of 65537 ids does not fit into data.token_dtype uint16, .* 65536; set",
    ),
    ("a.bin.gz", b"1234", {}, r"tokens files are not read from \.gz files; unpack it first"),
    ("a.parquet.zst", b"1234", {}, r"parquet files are not read from \.zst files"),
    ("a.txt.gz", b"plain text", {}, "a.txt.gz: not a gz file, or a damaged one .*; fetch or write it again"),
    ("a.txt.gz", gzip.compress(b"text", mtime=0)[:-9], {}, "a.txt.gz: ends in the middle of its compressed content; fetch"),
    ("a.txt.gz", gzip.compress(b"caf\xe9 au lait", mtime=0), {}, "not UTF-8 at byte 3 of the unpacked text .0xe9"),
    ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{}', mtime=0), {}, "a.jsonl.gz:2: no field 'text'"),
    ("a.zst", b"plain text", {}, "a.zst: not a zst file, or a damaged one"),
    ("a.parquet", b"plain text", {}, "a.parquet: not a Parquet file, or a damaged one"),
    (
        "a.txt",
        "x",
        {"tokenizer": "bytes"},
        r"'bytes' is none of byte, char, bpe, and no readable tokenizer.json or \*.tiktoken",
    ),
]


@pytest.mark.parametrize(("name", "content", "settings", "message"), BAD)
def test_bad_corpus_is_named_before_anything_starts(tmp_path, name, content, settings, message):
    """What a quick look can see ends in one sentence with the file, the place and the way out."""
    if content is not None:
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=message) as raised:
        check_corpus(DataSection(train=str(tmp_path / name), **settings))
    assert raised.value.exit_code == 7


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("builtin:nothing", "no such built-in corpus; known: builtin:python-docs, builtin:python-source"),
        ("/dev/full", r"data.train \(/dev/full\): /dev/full is a device, not a regular file"),
        ("{tmp}/pipe", "is a pipe, not a regular file"),
        ("{tmp}/socket-free", "the folder holds no .*txt or .*md file"),
        ("{tmp}/all-empty", "all 2 files are empty"),
        ("{tmp}/mixed/*", "mixes text files and token files"),
        ("{tmp}/mixed/a.txt/b.txt", "Not a directory"),
    ],
)
def test_what_is_no_text_is_refused_without_blocking(tmp_path, train, message):
    """Pipes, devices, empty folders and mixtures are named; a pipe is never opened."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "socket-free").mkdir()
    for name in ("all-empty/a.txt", "all-empty/b.txt"):
        write(tmp_path / name, "")
    write(tmp_path / "mixed/a.txt", "text")
    write(tmp_path / "mixed/b.bin", "1234")
    with pytest.raises(DataError, match=message):
        check_corpus(DataSection(train=train.format(tmp=tmp_path)))


def test_text_and_tokens_do_not_mix(tmp_path):
    """Held-out text cannot be measured on a model of ids, nor the other way round."""
    text, tokens = write(tmp_path / "a.txt", "text"), write(tmp_path / "b.bin", "1234")
    with pytest.raises(DataError, match=r"holds text, but data.eval .* holds token ids"):
        check_corpus(DataSection(train=str(text), eval=str(tokens)))


def test_held_out_corpus_is_checked_too(tmp_path):
    """The message says which of the two corpora is meant."""
    with pytest.raises(DataError, match=r"data.eval \(.*gone.txt\): no such file"):
        check_corpus(DataSection(eval=str(tmp_path / "gone.txt")))


@pytest.fixture
def unprivileged():
    """A folder that everybody can enter, and for root the rights of nobody, until the test ends."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    os.seteuid(os.getuid())
    shutil.rmtree(folder)


def test_file_without_permission_is_named(unprivileged):
    """No right to read is a sentence, not a traceback."""
    path = write(unprivileged / "secret.txt", "text")
    path.chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    with pytest.raises(DataError, match=r"secret\.txt: cannot be read: Permission denied"):
        check_corpus(DataSection(train=str(path)))


def test_folder_without_permission_is_named(unprivileged):
    """Neither is a folder that cannot be entered."""
    path = write(unprivileged / "closed/a.txt", "text")
    path.parent.chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    try:
        for train in (path, path.parent):
            with pytest.raises(DataError, match=r"no permission to read .*closed"):
                check_corpus(DataSection(train=str(train)))
    finally:
        os.seteuid(os.getuid())
        path.parent.chmod(0o700)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "tokenizer.model",
            b"\n\x0e\x00\xff\x80",
            r"r.model: no text, so no tokenizer.json or \*.tiktoken file; .*tokenizer.json",
        ),
        ("folder/tokenizer.json", b"{}", r"folder is a folder; give .*folder/tokenizer.json"),
        ("folder/other.json", b"{}", r"folder is a folder; give the tokenizer.json in it"),
    ],
)
def test_a_tokenizer_that_is_none_is_told_from_a_corpus(tmp_path, name, content, message):
    """Nobody is sent to convert a SentencePiece model with iconv; a folder as Hugging Face's leads to the file in it."""
    text, tokenizer = write(tmp_path / "a.txt", "text"), write(tmp_path / name, content)
    tokenizer = tokenizer if tokenizer.parent == tmp_path else tokenizer.parent
    with pytest.raises(DataError, match=message):
        check_corpus(DataSection(train=str(text), tokenizer=str(tokenizer)))


def test_every_training_corpus_is_checked(tmp_path):
    """One of several that is missing is named, and so is one that holds something else than the first."""
    text, tokens = write(tmp_path / "a.txt", "text"), write(tmp_path / "b.bin", "1234")
    with pytest.raises(DataError, match=r"data.train \(.*gone.txt\): no such file"):
        check_corpus(DataSection(train=[str(text), str(tmp_path / "gone.txt")]))
    with pytest.raises(DataError, match=r"data.train \(.*a.txt\) holds text, but data.train \(.*b.bin\) holds token ids"):
        check_corpus(DataSection(train=[str(text), str(tokens)]))


def test_corpora_are_resolved_one_by_one(tmp_path):
    """A list of corpora gives one source each, in its order; the held-out one stands by itself."""
    names = [str(write(tmp_path / name, "text")) for name in ("b.txt", "a.txt", "c.txt")]
    corpora = resolve(DataSection(train=names[:2], eval=names[2]))
    assert [[str(file.path) for file in source.files] for source in corpora.train] == [[names[0]], [names[1]]]
    assert corpora.all == (*corpora.train, corpora.eval)
    assert resolve(DataSection(train=names[0])).eval is None


@pytest.mark.parametrize("spec", ["plugin:rows", "plugin:rows:some/argument: with signs"])
def test_plug_in_is_noted_and_not_touched(tmp_path, spec):
    """A plug-in's name is its only file; it counts as text, and the quick look passes it by."""
    config = DataSection(train=[spec, str(write(tmp_path / "a.txt", "text"))])
    check_corpus(config)
    (file,) = resolve(config).train[0].files
    assert (str(file.path), file.format, file.size, file.mtime_ns) == (spec, "plugin", 0, 0)


def test_plug_in_needs_a_name():
    """`plugin:` alone names nothing."""
    with pytest.raises(DataError, match=r"data.train \(plugin:\): names no plug-in; write plugin:NAME"):
        check_corpus(DataSection(train="plugin:"))


def test_only_the_beginning_is_looked_at(tmp_path):
    """The quick look stays quick: a bad byte far into the file is found later, by `prepare`."""
    path = write(tmp_path / "late.txt", b"line of text\n" * 20_000 + b"\xff")
    check_corpus(DataSection(train=str(path)))
    with pytest.raises(DataError, match="not UTF-8 at byte 260000 "):
        documents(DataSection(train=str(path)))


def test_quick_look_imports_nothing_heavy():
    """The CLI checks the corpus without paying for numpy, tokenizers or torch."""
    code = (
        "import sys; from plt_tui.data.check import check_corpus; from plt_tui.config.schema import DataSection; "
        "check_corpus(DataSection()); "
        "heavy = ('numpy', 'tokenizers', 'torch', 'pyarrow', 'zstandard', 'pydoc_data.topics'); "
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
