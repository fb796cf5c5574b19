"""Promises of `control.logs`: whatever a rank prints is shown as lines, bounded, and without anything a terminal acts on."""

from __future__ import annotations

import asyncio
import os
import time
import tracemalloc
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest

from plt_tui.control import logs
from plt_tui.control.logs import (
    FLOOD_BYTES,
    MAX_LINES,
    MAX_READ_BYTES,
    MAX_SKIP_BYTES,
    LogFollower,
    LogTail,
    last_lines,
    lines_before,
    parse_line,
    recorded_lines,
)
from plt_tui.protocol.events import Event, Logs, OpenLine
from plt_tui.protocol.rank import ASIDE_SUFFIX


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


def test_a_flood_that_goes_on_is_cut_shorter_until_it_is_over(path: Path) -> None:
    """A long text at once is shown whole; of what never ends the newest lines are, and all are counted."""
    line = b"x" * 63 + b"\n"
    tail, shown = LogTail(path, "rank 0", from_end=False), []
    for num_bytes in (MAX_READ_BYTES, 10**6, 10**6, FLOOD_BYTES, MAX_READ_BYTES):
        append(path, num_bytes // len(line) * line)
        lines, dropped = tail.read(1.0)
        assert len(lines) + dropped == num_bytes // len(line)
        shown.append(len(lines) * len(line))
    assert shown == [MAX_READ_BYTES, MAX_READ_BYTES, FLOOD_BYTES, FLOOD_BYTES, MAX_READ_BYTES]


def test_a_flood_is_not_held_in_memory(path: Path) -> None:
    """A rank that wrote 16 MB between two looks costs the hub a few times MAX_READ_BYTES, and all lines are accounted for."""
    line, count = b"x" * 1023 + b"\n", 16 * 1024
    append(path, line * count)
    tail = LogTail(path, "rank 0", from_end=False)
    tracemalloc.start()
    looks = [tail.read(1.0)]
    while tail.is_behind:
        looks.append(tail.read(1.0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(len(lines) + dropped for lines, dropped in looks) == count
    assert [len(lines) for lines, _ in looks] == [MAX_READ_BYTES // len(line), FLOOD_BYTES // len(line)]
    assert len(looks) == len(line) * count // MAX_SKIP_BYTES
    assert peak < 8 * MAX_READ_BYTES


def test_the_event_loop_is_never_busy_for_long_with_a_flood(path: Path) -> None:
    """100 000 lines a second for a minute, all of it at once, and lines of one character: each look is short, none is lost."""
    flood, count = b"%099d\n" % 7 * 10_000, 600_000
    with path.open("ab") as file:
        for _ in range(count // 10_000):
            file.write(flood)
        file.write(b"\n" * 1_000_000)
    tail = LogTail(path, "rank 0", from_end=False)
    times, num_lines = [], 0
    while not times or tail.is_behind:
        began = time.thread_time()
        lines, dropped = tail.read(1.0)
        times.append(time.thread_time() - began)
        num_lines += len(lines) + dropped
        assert len(lines) <= MAX_LINES
    assert num_lines == count + 1_000_000
    assert len(times) >= 7
    assert median(times) < 0.1  # 10 ms on a machine with nothing else to do


def test_what_is_left_at_the_end_is_read_to_the_end(path: Path) -> None:
    """All of a flood is accounted for when the run ends, its last words are shown, and a line without an end too."""
    said: list[Logs] = []
    follower = LogFollower({"rank 0": path}, said.append)
    count = 3 * MAX_SKIP_BYTES // 100
    append(path, b"%099d\n" % 7 * count + b"last words")
    follower.read(to_the_end=True)
    assert said[-1].lines[-1][3] == "last words"
    assert sum(len(event.lines) + event.dropped for event in said) == count + 1


async def test_a_follower_goes_on_while_others_flood(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rank that prints ten megabytes in one line, and another that prints two words: both are seen, and only once."""
    monkeypatch.setattr(logs, "TICK_S", 0.001)
    other, said = tmp_path / "rank-1.log", []
    follower = asyncio.create_task(LogFollower({"rank 0": path, "rank 1": other}, said.append).follow())
    append(path, b"x" * 10_000_000 + b"\nafter\n")
    append(other, b"two words\n")
    give_up_at = time.monotonic() + 10.0
    while not {"after", "two words"} <= (shown := {line[3] for event in said for line in event.lines}):
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.001)
    follower.cancel()
    assert len(shown) == 3  # and the end of the long line
    assert all(len(text) < 5000 for text in shown)


def test_a_line_that_is_redrawn_is_told_before_it_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar that moves is seen while it moves, as a terminal shows it; when it has ended it comes whole, and once."""
    monkeypatch.setattr(logs, "OPEN_LINE_S", 0.0)
    said: list[Event] = []
    follower = LogFollower({"rank 0": path}, said.append)
    for data in (b"whole\nno bar", b" 0%\r 10%", b"\r 20%\r", b"", b"\x1b[31m 30%", b"\r100%\nnext", b"\n"):
        append(path, data)
        follower.read()
    told = [[line[3] for line in event.lines] if isinstance(event, Logs) else event.text for event in said]  # type: ignore[attr-defined]
    assert told == [["whole"], " 10%", " 20%", "\\x1b[31m 30%", ["100%"], "", ["next"]]


def test_a_line_that_is_redrawn_is_told_now_and_then(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every time is a redraw in every view; that it has ended is told at once, also where nobody writes any more."""
    said: list[Event] = []
    follower = LogFollower({"rank 0": path}, said.append)
    monkeypatch.setattr(logs, "OPEN_LINE_S", 1000.0)
    for percent in range(50):
        append(path, b"\r%d%%" % percent)
        follower.read()
    assert said == [OpenLine(time=said[0].time, source="rank 0", text="0%")]
    follower.read(to_the_end=True)
    assert [event.lines[0][3] if isinstance(event, Logs) else event.text for event in said[1:]] == ["49%", ""]  # type: ignore[attr-defined]


def test_a_log_that_is_put_aside_is_read_to_its_end(path: Path) -> None:
    """Then the new one from its beginning; a line that goes on from one to the other is one line."""
    tail = LogTail(path, "rank 0", from_end=False)
    append(path, b"one\n")
    assert texts(tail) == ["one"]
    append(path, b"two\nthr")
    path.replace(path.with_name(path.name + ASIDE_SUFFIX))
    append(path, b"ee\nfour\n")
    assert texts(tail) == ["two"]
    assert tail.is_behind
    assert texts(tail) == ["three", "four"]
    assert not tail.is_behind
    assert texts(tail) == []


@pytest.mark.parametrize("how", ["cut", "replaced", "deleted"])
def test_a_log_that_somebody_else_changed_is_followed_on(path: Path, how: str) -> None:
    """Cut to nothing, exchanged or removed under the reader: what is printed from then on is seen, with no piece of before."""
    tail = LogTail(path, "rank 0", from_end=False)
    append(path, b"a line of before\nand a pie")
    assert texts(tail) == ["a line of before"]
    if how == "cut":
        os.truncate(path, 0)
    elif how == "replaced":
        other = path.with_name("other")
        append(other, b"")
        other.replace(path)
    else:
        path.unlink()
        assert texts(tail) == []
    append(path, b"new\n")
    assert texts(tail) == ["new"]


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
    """A rank that prints without newlines costs a few times MAX_READ_BYTES; the line's beginning is shown, and what follows."""
    tail = LogTail(path, "rank 0", from_end=False)
    append(path, b"begin ")
    for _ in range(4):
        append(path, b"x" * (MAX_READ_BYTES - 6))
        assert texts(tail) == []
        assert len(tail._partial) <= MAX_READ_BYTES
    append(path, b"\nafter\n")
    line, after = texts(tail)
    assert line.startswith("begin xxx")
    assert after == "after"


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


def test_recorded_lines_have_the_time_that_they_give_themselves(path: Path) -> None:
    """Else that of the line before, or of the first that has one; the last lines only."""
    append(path, b"left out\n  trace\n2026-01-02T03:04:05 INFO one\n  more\n2026-01-02T03:04:07 ERROR two\n\x1b[2J\n")
    first = datetime(2026, 1, 2, 3, 4, 5).timestamp()
    assert recorded_lines(path, "rank 0", 5) == [
        [first, "rank 0", "INFO", "  trace"],
        [first, "rank 0", "INFO", "one"],
        [first, "rank 0", "INFO", "  more"],
        [first + 2, "rank 0", "ERROR", "two"],
        [first + 2, "rank 0", "INFO", "\\x1b[2J"],
    ]


@pytest.mark.parametrize("line", [b"Traceback", b"2026-13-02T03:04:05 INFO x", b"0000-00-00T00:00:00 INFO x", b"2026-01-02"])
def test_recorded_lines_without_a_time_have_that_of_the_file(path: Path, line: bytes) -> None:
    """As the hub's log, when it died of an error."""
    append(path, line + b"\n")
    os.utime(path, (1e9, 1e9))
    ((moment, source, *_),) = recorded_lines(path, "hub", 5)
    assert (moment, source) == (1e9, "hub")


def test_a_log_that_is_not_there_has_no_recorded_lines(path: Path) -> None:
    """It is no error."""
    assert recorded_lines(path, "hub", 5) == []


@pytest.mark.parametrize(
    ("text", "shown", "before"), [(b"", 0, 0), (b"a\nb\nc\n", 2, 1), (b"a\nb\nc", 2, 1), (b"a\n", 1, 0), (b"a\n", 5, 0)]
)
def test_lines_before_the_shown_ones_are_counted(path: Path, text: bytes, shown: int, before: int) -> None:
    """Also where the last one has no end."""
    append(path, text)
    assert lines_before(path, shown) == before
    assert lines_before(path.with_name("gone.log"), shown) == 0


def test_a_log_of_gigabytes_is_counted_from_its_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A view waits for it."""
    monkeypatch.setattr(logs, "MAX_COUNTED_BYTES", 10)
    append(path, b"x\n" * 100)
    assert lines_before(path, 2) == 3
