"""Promises of the progress line: what it says, and how often."""

from __future__ import annotations

import pytest

from plt_tui.cli.progress import _Lines, progress_text


@pytest.mark.parametrize(
    ("done", "total", "seconds", "text"),
    [
        (0, 2e6, 0.0, "tokenising    0%  0.0 / 2.0 MB"),
        (5e5, 2e6, 1.0, "tokenising   25%  0.5 / 2.0 MB  0.5 MB/s  0:03 left"),
        (2e6, 2e6, 4.0, "tokenising  100%  2.0 / 2.0 MB  0.5 MB/s  in 0:04"),
        (1e9, 1e12, 10.0, "tokenising    0%  1,000.0 / 1,000,000.0 MB  100.0 MB/s  2:46:30 left"),
        (500, 1000, 1.0, "tokenising   50%  0.5 / 1.0 kB  0.5 kB/s  0:01 left"),
        (3e6, 0, 2.0, "tokenising  3.0 MB  1.5 MB/s"),
    ],
)
def test_the_line_says_share_amount_speed_and_time_left(done: float, total: float, seconds: float, text: str) -> None:
    """As far as they are known."""
    assert progress_text("tokenising", done, total, "bytes", seconds) == text


def shown(*reports: tuple[str, float, float], is_terminal: bool) -> list[str]:
    """What is written for these reports and the end of the work."""
    written: list[str] = []
    lines = _Lines(is_terminal=is_terminal, write=written.append, now=lambda: 0.0)
    for task, done, total in reports:
        lines.report(task, done, total, "bytes")
    lines.close()
    return written


def test_a_file_gets_one_line_for_every_tenth() -> None:
    """However often it is told, none for the beginning, and from the start again for the next task."""
    reports = [("a", done * 1e4, 1e6) for done in range(101)]
    assert len(shown(*reports, is_terminal=False)) == 10
    assert len(shown(*reports, ("b", 0, 5), ("b", 1, 5), ("b", 5, 5), is_terminal=False)) == 12


def test_a_terminal_gets_one_line_that_is_drawn_over() -> None:
    """It ends with the task."""
    text = "".join(shown(("a", 0, 2), ("a", 1, 2), ("a", 2, 2), is_terminal=True))
    assert [line.count("\r\x1b[K") for line in text.split("\n")] == [3, 0]


def test_no_line_is_left_open_when_the_work_fails() -> None:
    """The error begins on a line of its own; nothing is written when nothing was told."""
    assert shown(("a", 1, 2), is_terminal=True)[-1] == "\n"
    assert shown(is_terminal=True) == []
