"""Promises of `control.logs`: whatever a rank prints is shown as lines, bounded, and without anything a terminal acts on."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from plt_tui.control.logs import MAX_READ_BYTES, LogTail, last_lines, parse_line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A rank's log file, not there yet."""
    return tmp_path / "rank-0.log"


def append(path: Path, data: bytes) -> None:
    """What a rank prints."""
    with path.open("ab") as file:
        file.write(data)


def texts(tail: LogTail) -> list[str]:
    """The new lines' texts."""
    return [line[3] for line in tail.read(1.0)[0]]


LINES = {
    b"hello": ("INFO", "hello"),
    b"": ("INFO", ""),
    b"2026-01-02T03:04:05 INFO step 3": ("INFO", "step 3"),
    b"2026-01-02T03:04:05 WARNING slow": ("WARNING", "slow"),
    b"DEBUG x": ("DEBUG", "x"),
    b"12:00 ERROR a: b": ("ERROR", "a: b"),
    b"12:00 CRITICAL gone": ("ERROR", "gone"),
    b"ERRORS are many": ("INFO", "ERRORS are many"),
    b"a b ERROR c": ("INFO", "a b ERROR c"),
    b"ERROR": ("INFO", "ERROR"),
    b"10%\r50%\r100%": ("INFO", "100%"),
    b"100%\r": ("INFO", "100%"),
    b"windows\r\r": ("INFO", "windows"),
    b"\x1b]0;owned\x07": ("INFO", "\\x1b]0;owned\\x07"),
    b"\x9b31m \xff": ("INFO", "\\x9b31m \\xff"),
    "größe 漢".encode(): ("INFO", "größe 漢"),
}


@pytest.mark.parametrize(("raw", "shown"), LINES.items())
def test_a_line_has_its_level_and_a_safe_text(raw: bytes, shown: tuple[str, str]) -> None:
    """The logging format is understood, a progress bar shows its last state, escapes and bad bytes become visible."""
    assert parse_line(raw, "rank 0", 7.0) == [7.0, "rank 0", *shown]


def test_lines_come_once_and_whole(path: Path) -> None:
    """A line is shown when its newline is there, however many writes it took."""
    tail = LogTail(path, "rank 0", from_end=False)
    assert texts(tail) == []
    append(path, b"one\ntw")
    assert texts(tail) == ["one"]
    append(path, b"o\r\xc3")
    assert texts(tail) == []
    append(path, b"\xa4\nthree\n")
    assert texts(tail) == ["ä", "three"]
    assert texts(tail) == []


def test_a_resumed_run_shows_new_lines_only(path: Path) -> None:
    """What an earlier session printed is history."""
    append(path, b"old\n")
    tail = LogTail(path, "rank 0", from_end=True)
    append(path, b"new\n")
    assert texts(tail) == ["new"]


def test_a_flood_is_cut_and_counted(path: Path) -> None:
    """Of more than MAX_READ_BYTES the end is shown; lines shown and lines left out are all lines."""
    count = 100_000
    append(path, b"".join(b"%09d\n" % number for number in range(count)))
    lines, dropped = LogTail(path, "rank 0", from_end=False).read(1.0)
    assert sum(len(line[3]) + 1 for line in lines) <= MAX_READ_BYTES
    assert lines[-1][3] == f"{count - 1:09d}"
    assert len(lines) + dropped == count


def test_a_flood_is_not_held_in_memory(path: Path) -> None:
    """A rank that wrote 16 MB between two looks costs the hub a few times MAX_READ_BYTES, and all lines are accounted for."""
    line, count = b"x" * 1023 + b"\n", 16 * 1024
    append(path, line * count)
    tail = LogTail(path, "rank 0", from_end=False)
    tracemalloc.start()
    lines, dropped = tail.read(1.0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(lines) + dropped == count
    assert len(lines) == MAX_READ_BYTES // len(line)
    assert peak < 8 * MAX_READ_BYTES


def test_lines_are_counted_across_what_is_left_out(path: Path) -> None:
    """A line begun before a flood, the flood, and what comes after it: shown or counted, each once."""
    tail = LogTail(path, "rank 0", from_end=False)
    append(path, b"begun ")
    assert tail.read(1.0) == ([], 0)
    flood = b"y" * 99 + b"\n"
    append(path, b"before\n" + flood * (2 * MAX_READ_BYTES // 100) + b"last")
    lines, dropped = tail.read(1.0)
    append(path, b" line\n")
    assert len(lines) + dropped == 1 + 2 * MAX_READ_BYTES // 100
    assert texts(tail) == ["last line"]


def test_an_endless_line_does_not_fill_the_memory(path: Path) -> None:
    """A rank that prints without newlines costs at most MAX_READ_BYTES, and what it prints later is seen."""
    tail = LogTail(path, "rank 0", from_end=False)
    for _ in range(4):
        append(path, b"x" * MAX_READ_BYTES)
        assert texts(tail) == []
    append(path, b"\nafter\n")
    assert texts(tail)[-1] == "after"


def test_a_log_that_vanished_is_no_error(path: Path) -> None:
    """Somebody may tidy up while the run trains."""
    append(path, b"a\n")
    tail = LogTail(path, "rank 0", from_end=False)
    path.unlink()
    assert tail.read(1.0) == ([], 0)


def test_the_last_lines_of_a_log(path: Path) -> None:
    """The newest lines, safe to show, a progress bar as one; none for a file that is not there."""
    assert last_lines(path, 5) == []
    append(path, b"one\ntwo\x1b[2J\n10%\r50%\r90%\nthree")
    assert last_lines(path, 3) == ["two\\x1b[2J", "90%", "three"]
    assert last_lines(path, 0) == []
    append(path, b"\n")
    assert last_lines(path, 1) == ["three"]


def test_the_last_lines_of_a_huge_log_are_read_from_its_end(path: Path) -> None:
    """A log of gigabytes costs no more than its end."""
    append(path, b"x" * (2 * MAX_READ_BYTES) + b"\nend\n")
    assert last_lines(path, 1) == ["end"]
