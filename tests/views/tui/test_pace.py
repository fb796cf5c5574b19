"""The pace of steady frames: what was used in, the next pause out."""

import math

import pytest

from plt_tui.views.tui.pace import LOW_BANDWIDTH, OPENING_FRAMES, PLAIN, TICK_S, Budget, Pace, Spent, next_pause_s

NOTHING = Spent(cpu_s=0.0, num_bytes=0, num_inputs=0)


def spent(cpu_s: float = 0.0, num_bytes: int = 0, num_inputs: int = 0) -> Spent:
    """What a stretch used."""
    return Spent(cpu_s=cpu_s, num_bytes=num_bytes, num_inputs=num_inputs)


@pytest.mark.parametrize(
    ("budget", "pause_s", "after", "next_s"),
    [
        (PLAIN, 1.0, spent(), 1.0),
        (PLAIN, 1.0, spent(cpu_s=0.005), 1.0),
        (PLAIN, 1.0, spent(cpu_s=0.02), 2.0),
        (PLAIN, 2.0, spent(cpu_s=0.01), 1.5),
        (PLAIN, 1.0, spent(cpu_s=5.0), PLAIN.longest_s),
        (PLAIN, 1.0, spent(num_bytes=10**9), 1.0),
        (PLAIN, 1.0, spent(cpu_s=5.0, num_inputs=1), 1.0),
        (LOW_BANDWIDTH, 2.0, spent(num_bytes=2_000), 2.0),
        (LOW_BANDWIDTH, 2.0, spent(cpu_s=5.0), LOW_BANDWIDTH.longest_s),
        (LOW_BANDWIDTH, 2.0, spent(num_bytes=10_500), 3.0),
        (LOW_BANDWIDTH, 2.0, spent(num_bytes=10_500, num_inputs=5), 3.0),
        (LOW_BANDWIDTH, 2.0, spent(num_bytes=10**9), LOW_BANDWIDTH.longest_for_bytes_s),
    ],
    ids=[
        "idle",
        "cheap",
        "dear: paid for at once",
        "cheaper again: half way",
        "a stall: not for ever",
        "bytes are free",
        "somebody typed",
        "few bytes",
        "few bytes, a stall",
        "many bytes",
        "typed bytes count",
        "a flood: not for ever",
    ],
)
def test_the_pause_follows_from_what_was_used(budget: Budget, pause_s: float, after: Spent, next_s: float) -> None:
    """A stretch is paid for by the pause after it, within the budget's range."""
    assert next_pause_s(budget, pause_s, NOTHING, after) == pytest.approx(next_s)


@pytest.mark.parametrize(("frame_s", "base"), [(0.002, 0.001), (0.01, 0.004), (0.02, 0.002), (0.01, 0.006)])
def test_watching_settles_within_its_share_of_a_core(frame_s: float, base: float) -> None:
    """With frames of a constant price, on top of what goes on between them, the view comes to its budget and stays there."""
    pause_s, cpu_s = PLAIN.shortest_s, 0.0
    for _ in range(40):
        used = base * pause_s + frame_s
        pause_s = next_pause_s(PLAIN, pause_s, spent(cpu_s=cpu_s), spent(cpu_s=cpu_s + used))
        cpu_s += used
    assert base + frame_s / pause_s <= PLAIN.cpu_share * 1.01 or pause_s == PLAIN.longest_s
    cheapest_s = frame_s / (PLAIN.cpu_share - base)
    assert pause_s == pytest.approx(min(max(cheapest_s, PLAIN.shortest_s), PLAIN.longest_s), rel=0.01)


def test_a_pace_without_a_meter_is_the_shortest() -> None:
    """Where nobody pays, such as under a test, frames come at even distances."""
    pace = Pace()
    assert [pace.next_ticks() for _ in range(5)] == [round(PLAIN.first_s / TICK_S)] * 5
    assert not pace.is_frugal
    assert Pace(LOW_BANDWIDTH).is_frugal


def test_the_opening_is_not_held_against_the_view() -> None:
    """The first frames draw everything, once; what comes after them counts, from one frame to the next."""
    readings = iter([spent(), spent(cpu_s=0.02), spent(cpu_s=0.06), spent(cpu_s=0.06)])
    pace = Pace(PLAIN, lambda: next(readings))
    shortest = math.ceil(PLAIN.shortest_s / TICK_S)
    ticks = [pace.next_ticks() for _ in range(OPENING_FRAMES + 4)]
    assert ticks == [shortest] * (OPENING_FRAMES + 1) + [8, 16, 10]
