"""LogIndex: at any time exactly the lines that are wanted, each looked at once, the newest first."""

import random
import time
from collections.abc import Callable

import pytest

from plt_tui.protocol.events import LogLine, Logs
from plt_tui.views.log_filter import PIECE_LINES, Level, LogIndex, Wanted, next_of, sources_in_order
from plt_tui.views.log_ring import LogRing
from plt_tui.views.pattern import Pattern

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "ODD")


def never() -> bool:
    """All the time in the world."""
    return False


def at_once() -> bool:
    """Time for one piece."""
    return True


def some_lines(count: int, seed: int) -> list[LogLine]:
    """Lines of several sources and levels; some are bars that change later."""
    rng = random.Random(seed)
    found: list[LogLine] = []
    for number in range(count):
        percent = number % 101
        bar = f"Map: {percent:3d}%|██        | {percent}/100 [00:01<00:09]"
        text = bar if rng.random() < 0.3 else rng.choice(["loss 1.5", "Loss is NaN", f"step {number}", "42/100 read"])
        found.append([float(number), rng.choice(["hub", "rank 0", "rank 1"]), rng.choice(LEVELS), text])
    return found


def expected(ring: LogRing, wanted: Wanted) -> tuple[list[int], list[int]]:
    """The same by looking at everything: numbers shown, numbers of hits."""
    passing = [ring.first + place for place, row in enumerate(ring.lines) if wanted.admits(row)]
    pattern = wanted.pattern
    hits = [] if pattern is None else [number for number in passing if pattern.find([ring.lines[number - ring.first][3]])]
    return (hits if wanted.hits_only and pattern is not None else passing), hits


WANTED = {
    "all": Wanted(),
    "search": Wanted(pattern=Pattern("loss")),
    "hits": Wanted(pattern=Pattern("loss"), hits_only=True),
    "source": Wanted(source="rank 1"),
    "errors": Wanted(level="errors"),
    "both and hits": Wanted(source="rank 0", level="warnings", pattern=Pattern(r"\b42"), hits_only=True),
    "everything and search": Wanted(source="rank 0", level="warnings", pattern=Pattern("NaN")),
    "nothing": Wanted(source="rank 7", pattern=Pattern("loss")),
    "no search to filter by": Wanted(hits_only=True),
}


@pytest.mark.parametrize("wanted", WANTED.values(), ids=WANTED)
@pytest.mark.parametrize("is_late", [never, at_once])
def test_the_index_is_what_looking_at_everything_finds(wanted: Wanted, is_late: Callable[[], bool]) -> None:
    """With lines that come, leave and change between looks, and with little time or much."""
    ring = LogRing(max_lines=1000)
    lines, rng = some_lines(6000, seed=1), random.Random(2)
    ring.extend(Logs(lines=lines[:700]))
    index, place = LogIndex(ring, wanted), 700
    while place < len(lines):
        count = rng.choice([1, 7, 300])
        ring.extend(Logs(lines=lines[place : place + count]))
        place += count
        index.look(is_late)
        assert list(index.hits) == sorted(set(index.hits))
    while not index.is_done:
        index.look(is_late)
    shown, hits = expected(ring, wanted)
    assert list(index.shown) == shown
    assert list(index.hits) == hits


@pytest.mark.parametrize(("level", "letters"), [("all", "DIWEC?"), ("warnings", "WEC"), ("errors", "EC")])
def test_a_level_admits_itself_and_what_is_worse(level: Level, letters: str) -> None:
    """A level that nobody knows is no warning."""
    rows = [(0.0, "hub", name, "") for name in LEVELS]
    assert "".join("DIWEC?"[place] for place, row in enumerate(rows) if Wanted(level=level).admits(row)) == letters


def test_the_newest_lines_are_found_first() -> None:
    """After the first piece the newest hit is known, however many lines there are."""
    ring = LogRing()
    ring.extend(Logs(lines=[[0.0, "hub", "INFO", f"line {number}"] for number in range(10_000)]))
    index = LogIndex(ring, Wanted(pattern=Pattern("line")))
    index.look(at_once)
    assert not index.is_done
    assert list(index.hits) == list(range(10_000 - PIECE_LINES, 10_000))


def test_nothing_to_look_for_is_done_at_once() -> None:
    """Showing everything costs nothing, however much there is."""
    ring = LogRing()
    ring.extend(Logs(lines=[[0.0, "hub", "INFO", "x"]] * 10_000))
    index = LogIndex(ring, Wanted())
    assert index.is_done
    assert len(index.shown) == 10_000


def test_a_search_that_takes_too_long_is_given_up() -> None:
    """The lines are still there, and the filter still works."""
    ring = LogRing()
    ring.extend(Logs(lines=[[0.0, "rank 0", "INFO", "a" * 60 + "!"], [0.0, "hub", "INFO", "b"]]))
    index = LogIndex(ring, Wanted(source="rank 0", pattern=Pattern("(a+)+$")))
    began = time.process_time()
    for _ in range(50):
        index.look(never)
    assert index.is_too_slow
    assert index.is_done
    assert list(index.shown) == [0]
    assert time.process_time() - began < 3.0


def test_hits_are_walked_both_ways() -> None:
    """From any line, also one that is no hit."""
    ring = LogRing()
    ring.extend(Logs(lines=[[0.0, "hub", "INFO", "yes" if number % 10 == 0 else "no"] for number in range(31)]))
    index = LogIndex(ring, Wanted(pattern=Pattern("yes")))
    index.look(never)
    assert [index.older_hit(number) for number in (0, 5, 10, 31)] == [None, 0, 0, 30]
    assert [index.newer_hit(number) for number in (-1, 0, 25, 30)] == [0, 10, 30, None]


def test_sources_stand_in_the_order_of_their_numbers() -> None:
    """The hub first, rank 10 behind rank 9."""
    assert sources_in_order({"rank 10", "rank 9", "hub", "rank 0", "other"}) == ["hub", "other", "rank 0", "rank 9", "rank 10"]


def test_choices_go_round() -> None:
    """Behind the last comes the first, which is also where one begins that is not known any more."""
    assert [next_of("abc", choice) for choice in "abcx"] == ["b", "c", "a", "a"]
