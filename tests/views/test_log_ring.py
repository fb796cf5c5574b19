"""LogRing: numbers that stay, bounds that hold, and bars that are one line."""

import random
import tracemalloc

import pytest

from plt_tui.protocol.events import LogLine, Logs
from plt_tui.views import log_ring as ring_module
from plt_tui.views.log_ring import BAR_REACH, MAX_LOG_LINES, PACK_LINES, LogRing


def line(text: str, source: str = "rank 0", moment: float = 0.0, level: str = "INFO") -> LogLine:
    """One log line."""
    return [moment, source, level, text]


def tqdm(percent: int, what: str = "Map") -> str:
    """One state of a bar."""
    return f"{what}: {percent:3d}%|{'█' * (percent // 10):<10}| {percent}/100 [00:01<00:09,  9.9it/s]"


def filled(*lines: LogLine, max_lines: int = 1000) -> LogRing:
    """A ring that was given `lines` one by one."""
    ring = LogRing(max_lines=max_lines)
    for one in lines:
        ring.extend(Logs(lines=[one]))
    return ring


def texts(ring: LogRing) -> list[str]:
    """The texts in the ring."""
    return [row[3] for row in ring.lines]


def test_lines_keep_their_numbers_when_old_ones_leave() -> None:
    """Search hits and scroll positions are numbers of lines; they stay right in a flood."""
    ring = filled(*(line(str(number)) for number in range(1000)), max_lines=100)
    assert 100 <= len(ring.lines) <= 110
    assert ring.stop == 1000
    assert texts(ring) == [str(number) for number in range(ring.first, 1000)]


def test_long_lines_leave_earlier() -> None:
    """Memory is bounded by characters too, with one line at least left to see."""
    ring = LogRing(max_lines=1000, max_chars=10_000)
    for number in range(100):
        ring.extend(Logs(lines=[line(f"{number:04d}" + "x" * 996)]))
        assert sum(map(len, texts(ring))) <= 10_000 * 17 // 16
    assert texts(ring)[-1].startswith("0099")
    assert ring.stop == 100
    assert len(ring.lines) >= 10


def test_a_text_is_one_line_without_tabs() -> None:
    """What is searched is what is shown."""
    assert texts(filled(line("a\tb\nc"))) == ["a   b ⏎ c"]


def test_the_states_of_a_bar_are_one_line() -> None:
    """A bar that is told line by line stands still and grows; what comes next is a line of its own."""
    ring = filled(line("before"), *(line(tqdm(percent), moment=float(percent)) for percent in range(0, 101, 10)), line("after"))
    assert texts(ring) == ["before", tqdm(100), "after"]
    assert ring.lines[1][0] == 100.0


def test_bars_of_several_ranks_do_not_mix() -> None:
    """Ranks that draw at the same time have a line each."""
    ring = filled(*(line(tqdm(percent), source=f"rank {rank}") for percent in (10, 20, 30) for rank in range(3)))
    assert [(row[1], row[3]) for row in ring.lines] == [(f"rank {rank}", tqdm(30)) for rank in range(3)]


@pytest.mark.parametrize("between", [line("said"), *(line(tqdm(percent, "Filter")) for percent in (5, 100))])
def test_a_bar_with_something_after_it_is_left_as_it_is(between: LogLine) -> None:
    """Its next state is a new line, as on a terminal."""
    assert texts(filled(line(tqdm(10)), between, line(tqdm(20)))) == [tqdm(10), between[3], tqdm(20)]


def test_every_finished_bar_is_kept() -> None:
    """Ranks' log files give of each bar the last state only, one below the other."""
    ring = filled(*(line(tqdm(100)) for _ in range(3)))
    assert texts(ring) == [tqdm(100)] * 3


def test_a_line_without_an_end_is_one_line() -> None:
    """Its states take each other's place, its end the place of the last; other sources write on below."""
    ring = filled(line("before"))
    for percent in (10, 20, 30):
        ring.draw(float(percent), "rank 0", tqdm(percent))
        ring.extend(Logs(lines=[line(f"said at {percent}", source="hub")]))
    assert texts(ring) == ["before", tqdm(30), "said at 10", "said at 20", "said at 30"]
    ring.extend(Logs(lines=[line(tqdm(100)), line("after")]))
    ring.draw(0.0, "rank 0", "")
    assert texts(ring) == ["before", tqdm(100), "said at 10", "said at 20", "said at 30", "after"]
    ring.extend(Logs(lines=[line("later")]))
    assert texts(ring)[-2:] == ["after", "later"]


def test_a_line_that_never_ended_stays_as_it_was() -> None:
    """Whoever wrote it is gone; what comes next is another line."""
    ring = filled(line("before"))
    ring.draw(1.0, "rank 0", tqdm(10))
    ring.draw(2.0, "rank 0", "")
    ring.extend(Logs(lines=[line("restarted")]))
    assert texts(ring) == ["before", tqdm(10), "restarted"]


def test_only_the_newest_lines_change() -> None:
    """A bar out of sight begins anew: nobody would see it move up there, and nobody has to look there again."""
    for others in (BAR_REACH - 1, BAR_REACH):
        ring = filled(line(tqdm(10)), *(line("x", source="hub") for _ in range(others)), line(tqdm(20)))
        assert texts(ring).count(tqdm(20)) == 1
        assert (tqdm(10) in texts(ring)) is (others == BAR_REACH)
        ring = filled()
        ring.draw(0.0, "rank 0", "10%")
        ring.extend(Logs(lines=[line("x", source="hub")] * others))
        ring.draw(0.0, "rank 0", "20%")
        assert ("10%" in texts(ring)) is (others == BAR_REACH)


def test_a_bar_whose_line_has_left_begins_anew() -> None:
    """Also where the whole ring is smaller than the reach."""
    ring = filled(line(tqdm(10)), *(line(str(number), source="hub") for number in range(20)), line(tqdm(20)), max_lines=10)
    assert texts(ring)[-1] == tqdm(20)
    assert tqdm(10) not in texts(ring)


def test_a_moment_has_a_line() -> None:
    """The first line of that moment or after it; behind all of them the next one to come."""
    ring = filled(*(line(str(moment), moment=float(moment)) for moment in range(0, 200, 2)), max_lines=50)
    for moment in (ring.lines[0][0] - 5, 150.0, 151.0, 198.0):
        number = ring.number_at(moment)
        assert ring.lines[number - ring.first][0] >= moment
        assert number == ring.first or ring.lines[number - ring.first - 1][0] < moment
    assert ring.number_at(199.0) == ring.stop


def test_counts_stay_right_under_anything() -> None:
    """Bars, floods and long lines in any order: numbers, sources and the bound on characters hold."""
    rng = random.Random(5)
    ring = LogRing(max_lines=200, max_chars=20_000)
    for _ in range(300):
        ring.extend(
            Logs(
                lines=[
                    line(
                        rng.choice([tqdm(rng.randrange(0, 101)), "y" * rng.randrange(400), ""]),
                        source=f"rank {rng.randrange(3)}",
                    )
                    for _ in range(rng.randrange(30))
                ],
                dropped=1,
            )
        )
        assert len(ring.lines) <= 200 * 17 // 16
        assert sum(map(len, texts(ring))) <= 20_000 * 17 // 16
    assert ring.dropped + ring.older - ring.first == 300
    assert ring.sources == {"rank 0", "rank 1", "rank 2"}


def test_lines_that_are_packed_read_as_before() -> None:
    """By place, by slice and in order, with their numbers, whatever they hold; the oldest go together."""
    ring, count = LogRing(max_lines=4 * PACK_LINES), 6 * PACK_LINES + 77
    for number in range(count):
        ring.extend(Logs(lines=[line(f"{number} ☂ \ud800", source=f"rank {number % 3}", moment=float(number))]))
    assert len(ring.lines._packs) >= 3
    assert 3 * PACK_LINES < len(ring.lines) <= 4 * PACK_LINES * 17 // 16
    assert ring.stop == count
    kept = [*ring.lines]
    assert [row[3] for row in kept] == [f"{number} ☂ \ud800" for number in range(ring.first, count)]
    assert [row[1] for row in kept[:3]] == [f"rank {number % 3}" for number in range(ring.first, ring.first + 3)]
    for start, stop in ((0, 5), (PACK_LINES - 3, PACK_LINES + 3), (-5, None), (10, 5), (0, None), (len(kept) - 70, len(kept))):
        assert ring.lines[start:stop] == kept[start:stop]
    assert [ring.lines[place] for place in (0, PACK_LINES, -1)] == [kept[place] for place in (0, PACK_LINES, -1)]
    assert ring.lines.num_chars == sum(len(row[3]) for row in kept)
    assert ring.number_at(count - 2000.0) == count - 2000
    with pytest.raises(IndexError):
        ring.lines[len(kept)]


def test_noise_that_does_not_shrink_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is what a view must not take from training."""
    monkeypatch.setattr(ring_module, "MAX_PACKED_BYTES", 500_000)
    ring, rng = LogRing(), random.Random(3)
    for _ in range(40):
        ring.extend(Logs(lines=[line(rng.randbytes(500).hex()) for _ in range(500)]))
        assert ring.lines.packed_bytes <= 500_000
    assert ring.stop == 20_000
    assert ring.first > 0


def test_lines_that_are_not_here_are_counted() -> None:
    """Those before the first one that came are older; those between others were lost."""
    ring = LogRing(max_lines=100)
    ring.extend(Logs(lines=[line("one")], dropped=7))
    assert (ring.older, ring.dropped) == (7, 0)
    ring.extend(Logs(lines=[line("x")] * 200, dropped=3))
    assert (ring.older, ring.dropped) == (7 + ring.first, 3)
    assert ring.first > 0


def test_a_line_takes_little_memory() -> None:
    """Less than a fifth of what it is when it comes; measured, not counted, of a quarter of the lines that a view keeps."""
    num_lines = MAX_LOG_LINES // 4
    ring = LogRing(max_lines=num_lines)
    tracemalloc.start()
    try:
        for first in range(0, num_lines, 10_000):
            lines = [
                line(f"step {number} loss {2.5 - number * 1e-7:.4f} norm 1.234 lr 3.00e-4")
                for number in range(first, first + 10_000)
            ]
            ring.extend(Logs(lines=lines))
        del lines
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(ring.lines) == num_lines
    assert used < 40 * num_lines
