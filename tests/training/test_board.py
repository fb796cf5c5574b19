"""The board on which ranks of one machine add up small things: the same bits everywhere, never half a row, never for ever."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import time
from pathlib import Path

import pytest

from plt_tui.training import board as board_module
from plt_tui.training.board import MAX_VALUES, Board, fresh_file, size
from tests.training.processes import run_two

ROUNDS = 3000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file for a board of two."""
    path = tmp_path / "board"
    path.write_bytes(bytes(size(2)))
    return path


def pair(path: Path, patience_s: float = 30.0) -> tuple[Board, Board]:
    """Two ranks' places in this process."""
    return Board(path, 0, 2, patience_s=patience_s), Board(path, 1, 2, patience_s=patience_s)


def test_a_sum_is_that_of_all_ranks(path: Path) -> None:
    """In the order of the ranks, to the last bit, and as long as what was posted."""
    one, two = pair(path)
    sums = [one.post([0.1, 1e300]), two.post([0.2, -1e300])]
    assert [sum_.wait() for sum_ in sums] == [[0.1 + 0.2, 0.0]] * 2
    full, _ = [place.post([1.0] * MAX_VALUES) for place in (one, two)]
    assert full.wait() == [2.0] * MAX_VALUES


def test_a_fast_rank_cannot_overwrite_what_a_slow_one_has_not_read(path: Path) -> None:
    """It is at most one post ahead, and that one has a row of its own."""
    one, two = pair(path)
    first = one.post([1.0]), two.post([2.0])
    assert first[0].wait() == [3.0]
    ahead = one.post([10.0])
    assert first[1].wait() == [3.0]
    assert (two.post([20.0]).wait(), ahead.wait()) == ([30.0], [30.0])


def test_half_a_row_is_no_row(path: Path) -> None:
    """A reader that comes while a row is being written sees the one before it or none, never a mixture."""
    one, two = pair(path)
    one.post([1.0])
    content = bytearray(path.read_bytes())
    start = one._start(0, 1)
    content[start + 8 : start + 16] = struct.pack("<d", 5.0)  # the value is new, the check is not
    path.write_bytes(bytes(content))
    fresh = Board(path, 1, 2, patience_s=1.0)
    assert fresh.row(0, 1) is None
    assert two.row(0, 2) is None


def test_a_rank_that_never_comes_is_named(path: Path) -> None:
    """Nobody waits longer than told."""
    one, _ = pair(path, patience_s=0.05)
    started = time.monotonic()
    with pytest.raises(TimeoutError, match="rank 1 did not come"):
        one.post([1.0]).wait()
    assert time.monotonic() - started < 30.0


def meet(rank: int, path: str) -> None:
    """One of two processes: many rounds at its own pace, each sum checked."""
    place = Board(Path(path), rank, 2, patience_s=30.0)
    pace = random.Random(rank)
    for number in range(ROUNDS):
        if pace.random() < 0.01:
            time.sleep(pace.random() * 2e-3)
        total, first = place.post([float(number), float(rank * number)]).wait()
        assert (total, first) == (2.0 * number, float(number)), number


def test_two_processes_agree_round_for_round(path: Path) -> None:
    """However they are scheduled."""
    run_two(meet, str(path))


def test_a_fresh_file_has_the_size_of_its_board(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In memory where there is a place for it; somewhere else works too."""
    made = fresh_file(3)
    try:
        assert made.stat().st_size == size(3)
    finally:
        made.unlink()
    monkeypatch.setattr(board_module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(board_module.tempfile, "tempdir", str(tmp_path))
    assert fresh_file(2).parent == tmp_path


def test_a_board_that_does_not_fit_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the memory for shared files is full, as a small one of a container can be, no empty file stays behind."""

    def full(_: int) -> bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(board_module.os, "access", lambda path, mode: False)
    monkeypatch.setattr(board_module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(board_module, "bytes", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        fresh_file(2)
    assert list(tmp_path.iterdir()) == []


def test_what_killed_makers_left_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By whoever makes the next board; those of live processes, and what is no board, stay."""
    monkeypatch.setattr(board_module, "MEMORY", tmp_path)
    with subprocess.Popen(["true"]) as dead:
        pass
    for name in (f"plt-tui-board-{dead.pid}-ab", f"plt-tui-board-{os.getpid()}-ab", "plt-tui-board-x", "plt-tui-other"):
        (tmp_path / name).touch()
    made = fresh_file(2)
    kept = {f"plt-tui-board-{os.getpid()}-ab", "plt-tui-board-x", "plt-tui-other", made.name}
    assert {path.name for path in tmp_path.iterdir()} == kept
