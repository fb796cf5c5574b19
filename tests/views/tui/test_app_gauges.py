"""The gauges of ranks and machine: where a step goes, who is slow, when a standstill ends, and what a quota or a GPU says."""

import math
from dataclasses import replace
from typing import Any

import fakes
import pytest
from driving import driven, run_screen, screen_lines, screen_text, until, until_seen
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.schema import ControlSection, UiSection
from plt_tui.control.state import Pace, RunState
from plt_tui.control.watchdog import Watchdog
from plt_tui.protocol.events import Alert, Gauges, RankStatus, Run
from plt_tui.views.model import MAX_READINGS, Reading, RunModel, reading_of
from plt_tui.views.standstill import standstill, standstill_words
from plt_tui.views.tui.meters import course
from plt_tui.views.tui.panes.machine import OLD_S, TREND_S, Machine, Trend, gauge_lines, rank_lines
from plt_tui.views.tui.panes.shares import MAX_BARS, PARTS, bars, legend, parts_of, slowest_line, stacked
from plt_tui.views.tui.session import SILENCE_S

NOW = 1000.0


def rank(number: int, **said: Any) -> RankStatus:
    """A rank that has just told of a step of 100 ms."""
    usual = {
        "time": NOW,
        "doing": "training",
        "step": 100,
        "step_ms": 100.0,
        "data_ms": 2.0,
        "forward_ms": 30.0,
        "backward_ms": 50.0,
        "comm_ms": 8.0,
        "optim_ms": 10.0,
    }
    return RankStatus(rank=number, pid=1, **{**usual, **said})


def state_of(*ranks: RankStatus, step_s: float | None = 0.1, gauges_at: float = NOW, **control: Any) -> RunState:
    """A run whose ranks have said this, and whose hub lives."""
    config = {"control": control, "parallel": {"timeout_s": 120.0}}
    run = Run(name="a", dir="a", world_size=len(ranks), params=1, target_step=10, config=config)
    gauges = Gauges(time=gauges_at, cores=[], memory_used_bytes=0, memory_total_bytes=0, gpus=[])
    pace = Pace(has_begun=True, mean_s=step_s, weight=1.0) if step_s is not None else Pace()
    return RunState(run=run, phase="running", ranks={one.rank: one for one in ranks}, gauges=gauges, pace=pace)


# --- where a step goes ---------------------------------------------------------------------------------------------------


def test_the_wait_for_slower_ranks_is_told_apart_from_communication() -> None:
    """The last rank to come waits for nobody: what others take longer is their wait."""
    parts = parts_of([rank(0, comm_ms=30.0), rank(1, comm_ms=8.0)])
    assert parts == {0: (2.0, 30.0, 50.0, 8.0, 10.0, 22.0), 1: (2.0, 30.0, 50.0, 8.0, 10.0, 0.0)}
    assert parts_of([rank(0, forward_ms=0.0), rank(1, step_ms=0.0)]) == {}


def test_every_part_of_a_bar_begins_with_its_letter() -> None:
    """Colour tells nothing that a letter does not; what was not measured stays empty."""
    bar = stacked((10, 30, 30, 10, 10, 0), 100, 20)
    assert bar.plain == "D━F━━━━━B━━━━━C━O━──"
    assert [part.letter for part in PARTS] == ["D", "F", "B", "C", "O", "W"]
    assert [span.style for span in bar.spans][:5] == [part.style for part in PARTS[:5]]


@given(
    values=st.lists(st.floats(0.0, 1e6), min_size=6, max_size=6),
    whole=st.floats(0.0, 1e6),
    width=st.integers(1, 200),
)
def test_a_bar_is_as_wide_as_asked(values: list[float], whole: float, width: int) -> None:
    """Whatever the times are, also where the parts add up to more than the step."""
    bar = stacked(values, whole, width)
    assert bar.cell_length == width
    assert set(bar.plain) <= {*"DFBCOW━─"}


@pytest.mark.parametrize("width", [45, 46, 56, 76, 120])
@pytest.mark.parametrize("num_ranks", [1, 2, 8, 64])
def test_the_ranks_fit_their_pane(width: int, num_ranks: int) -> None:
    """At any width, and with any number of ranks: the slowest MAX_BARS have a bar of their own, or each has one beside it."""
    ranks = [rank(number, forward_ms=30.0 + number / 10, memory_bytes=412 << 20) for number in range(num_ranks)]
    lines = [line.plain for line in rank_lines(state_of(*ranks), NOW, width)]
    assert all(len(line) <= width for line in lines)
    num_bars = sum("F━━" in line and "B━━" in line for line in lines)
    assert num_bars == (num_ranks if width >= 76 else min(num_ranks, MAX_BARS))
    assert any(line.endswith("ranks that are faster") for line in lines) is (num_ranks > MAX_BARS and width < 76)


def test_of_many_ranks_the_slowest_are_shown_in_order() -> None:
    """A bar that is shown is that of a rank no faster than those that are not."""
    ranks = [rank(number, forward_ms=30.0 + number % 7) for number in range(40)]
    shown = [int(line.plain.split()[0]) for line in bars(ranks, parts_of(ranks), 50)[:-1]]
    assert len(shown) == MAX_BARS
    assert shown == sorted(shown)
    hidden = set(range(40)) - set(shown)
    assert min(number % 7 for number in shown) >= max(number % 7 for number in hidden)


@pytest.mark.parametrize("width", [46, 54])
def test_the_legend_fits_with_two_digits_everywhere(width: int) -> None:
    """Names and shares of all six parts."""
    ranks = [rank(0, comm_ms=12.0), rank(1, data_ms=12.0, forward_ms=22.0, backward_ms=32.0, optim_ms=12.0, comm_ms=22.0)]
    line = legend(ranks, parts_of(ranks), width)
    assert line.cell_length <= width + 3
    assert [word for word in line.plain.replace("%", "").split() if word.isalpha()] == [part.name for part in PARTS]


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ([rank(0), rank(1, backward_ms=62.0)], "! rank 1 slow +13%: 104 ms of own work"),
        ([rank(0, comm_ms=60.0), rank(1)], "ranks alike (≤0%), by own work"),  # a long wait is no slow rank
        ([rank(0), rank(1, data_ms=6.0)], "ranks alike (≤4%), by own work"),
        ([rank(0, data_ms=40.0), rank(1)], "! rank 0 slow +41%: 130 ms of own work"),
        # On a GPU the backward pass holds the wait for others.
        (
            [rank(0, device="cuda:0", backward_ms=90.0), rank(1, device="cuda:1", forward_ms=40.0)],
            "! rank 1 slow +31%: 42 ms of own work",
        ),
    ],
)
def test_the_slowest_rank_is_named(ranks: list[RankStatus], words: str) -> None:
    """By its own work, not by the time that all ranks take equally; and nobody where they hardly differ."""
    assert slowest_line(ranks, 46).plain == words
    short = slowest_line(ranks, 20).plain
    assert words.startswith(short)
    assert len(short) <= 20


# --- standing still ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranks", "control", "words"),
    [
        (
            [rank(0, idle_s=12.0, waiting=True), rank(1, idle_s=12.5)],
            {"hang_s": 60.0},
            ("rank 1 holds up rank 0 for 12 s", "restart in 48 s (control.hang_s is 60)"),
        ),
        (
            [rank(0, idle_s=12.0, waiting=True), rank(1, idle_s=2.0, time=NOW - 10)],
            {"hang_s": 60.0},
            ("rank 1 silent, holds up rank 0 for 10 s", "restart in 48 s (control.hang_s is 60)"),
        ),
        (
            [rank(0, idle_s=20.0)],
            {"hang_s": 30.0},
            ("rank 0 stands still for 20 s", "restart in 10 s (control.hang_s is 30)"),
        ),
        (
            [rank(n, idle_s=99.0, waiting=True, step=100 - (n == 6)) for n in range(8)],
            {"hang_s": 60.0},
            ("rank 6 holds up 7 ranks for 99 s", "restart in 0 s (control.hang_s is 60)"),
        ),
        (
            [rank(0, idle_s=12.0, waiting=True), rank(1, idle_s=12.0)],
            {"hang_s": 0.0},
            ("rank 1 holds up rank 0 for 12 s", "time-out in 108 s (parallel.timeout_s is 120)"),
        ),
        (
            [rank(0, idle_s=40.0, waiting=True), rank(1, idle_s=40.0, doing="rewinding")],
            {"hang_s": 60.0, "start_s": 600.0},
            ("rank 1 holds up rank 0 for 40 s", "restart in 560 s (control.start_s is 600)"),
        ),
    ],
)
def test_a_standstill_is_told_with_its_end(ranks: list[RankStatus], control: dict[str, Any], words: tuple[str, str]) -> None:
    """Who keeps whom, for how long, and when the hub or the collective ends it."""
    found = standstill(state_of(*ranks, **control), NOW)
    assert found is not None
    assert standstill_words(found) == words
    lines = [line.plain for line in rank_lines(state_of(*ranks, **control), NOW, 46)]
    assert (lines[0], lines[1]) == (f"! {words[0]}", f"  {words[1]}")


STILL = [rank(0, idle_s=12.0, waiting=True), rank(1, idle_s=12.0)]


@pytest.mark.parametrize(
    "state",
    [
        state_of(),
        state_of(rank(0), rank(1)),
        state_of(rank(0, idle_s=99.0, waiting=True), rank(1, idle_s=0.5)),  # the other one still moves
        state_of(rank(0, idle_s=4.0, waiting=True), rank(1, idle_s=4.0)),
        state_of(*STILL, step_s=10.0),  # its steps take so long
        state_of(*STILL, step_s=None),  # before the first step it compiles
        state_of(*[rank(n, idle_s=12.0) for n in (0, 1)], hang_s=0.0),  # nobody waits in a collective
        state_of(*[rank(n, idle_s=12.0, doing="ended") for n in (0, 1)]),
        state_of(*[rank(n, idle_s=12.0, time=NOW - 60) for n in (0, 1)], gauges_at=NOW - 60),  # the hub itself says nothing
        replace(state_of(*STILL), phase="failed"),
        replace(state_of(*STILL), run=None),
    ],
)
def test_without_a_standstill_nothing_is_said(state: RunState) -> None:
    """Nor where it cannot be known, or is as usual."""
    assert standstill(state, NOW) is None


def test_long_steps_have_more_patience() -> None:
    """Ten usual steps, where they take longer than `hang_s`."""
    ranks = [rank(n, idle_s=30.0, waiting=n == 0) for n in (0, 1)]
    found = standstill(state_of(*ranks, step_s=12.0, hang_s=60.0), NOW)
    assert found is not None
    assert (found.left_s, found.limit) == (90.0, "10 median steps are 120 s")


@pytest.mark.parametrize("hang_s", [10.0, 60.0])
def test_the_countdown_is_that_of_the_watchdog(hang_s: float) -> None:
    """The second that it counts down to is the one in which the hub acts."""
    watchdog = Watchdog(ControlSection(hang_s=hang_s))
    watchdog.begin(2, NOW)
    ends = set()
    for second in range(200):
        now = NOW + second
        ranks = [rank(0, time=now, idle_s=float(second), waiting=True), rank(1, time=now, idle_s=float(second))]
        state = state_of(*ranks, gauges_at=now, hang_s=hang_s)
        found = standstill(state, now)
        if found is not None:
            ends.add(now + found.left_s)
        watchdog._step_ms.append(100.0)
        for one in ranks:
            watchdog.heard(one.rank, one)
        if watchdog.check(now) is not None:
            assert {round(end) for end in ends} == {round(NOW + hang_s)}
            assert abs(now - NOW - hang_s) <= 1
            return
    pytest.fail("the watchdog never acted")


async def test_the_header_counts_down_where_the_ranks_are_not_seen() -> None:
    """On a small screen, where the logs have the room, one still sees that and when all ranks start again."""
    at = fakes.at(600) + 1.2
    still = [rank(number, time=at, idle_s=21.0, waiting=number == 0, step=600) for number in (0, 1)]
    events = [*fakes.training(), replace(fakes.machine(600)[0], time=at), *still]
    async with driven(events, size=(80, 24)) as (pilot, _):
        assert "restart in 39 s" in screen_text(pilot.app)


# --- machine -------------------------------------------------------------------------------------------------------------


def machine(**said: Any) -> str:
    """The lines of a machine with two busy cores."""
    gauges = Gauges(cores=[97.0, 12.0], memory_used_bytes=1 << 30, memory_total_bytes=2 << 30, gpus=[], **said)
    return "\n".join(line.plain for line in gauge_lines(gauges, 46))


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ({"cpu_quota": 1.5, "cpu_used": 1.234}, "1.2 / 1.5 cores"),
        ({"cpu_quota": 2.0}, "n/a / 2 cores"),
        ({"cpu_quota": 2.0, "cpu_used": 1.9, "cpu_throttled": 0.31}, "1.9 / 2 cores, held back 31%"),
        ({"cpu_quota": 2.0, "cpu_used": 1.9, "cpu_throttled": 0.01}, "1.9 / 2 cores"),
    ],
)
def test_below_a_quota_the_own_use_is_shown(said: dict[str, Any], line: str) -> None:
    """Not that of the host's cores, which others use too; and whether the kernel holds it back."""
    shown = machine(**said).splitlines()
    assert shown[0].startswith("cpu ")
    assert shown[0].endswith(f" {line}")
    assert len(shown[0]) <= 46
    assert shown[1].startswith("mem ")
    assert "97 %" in machine()


def test_a_gpu_that_is_slowed_down_says_why() -> None:
    """Beside its power; a GPU that runs free, or does not tell, has no such line."""
    gauges = fakes.machine(10, gpus=True)[0]
    assert isinstance(gauges, Gauges)
    hot = replace(gauges, gpus=[{**fakes.GPU, "throttled": "power cap, heat"}, {**fakes.GPU, "throttled": ""}])
    lines = [line.plain for line in gauge_lines(hot, 46)]
    assert [line for line in lines if "slowed" in line] == ["     ! slowed down: power cap, heat"]
    assert not any("slowed" in line.plain for line in gauge_lines(gauges, 46))


@pytest.mark.parametrize(
    ("said", "numbers"),
    [
        ({"step_ms": 850.0, "data_ms": 120.4}, "850  120"),
        ({"step_ms": 850.0, "data_ms": 99.94}, "850 99.9"),
        ({"step_ms": 850.0, "data_ms": 99.96}, "850  100"),
        ({"step": 1_234_567, "step_ms": 54_321.0, "data_ms": 9_999.0}, "1234567 54321 9999"),
        ({"step_ms": 123_456.0, "data_ms": 54_321.0}, "100 123456 54321"),
    ],
)
def test_numbers_of_a_rank_never_run_together(said: dict[str, Any], numbers: str) -> None:
    """Least of all where data is slow, which is when somebody reads them."""
    assert f" {numbers} " in rank_lines(state_of(rank(0, memory_bytes=412 << 20, **said)), NOW, 60)[1].plain


@pytest.mark.parametrize(
    ("free", "is_short", "line"),
    [
        (int(38.2 * 2**30), False, "disk   38.2 GiB free"),
        (300 << 20, False, "disk ! 300 MiB free"),
        (20 << 30, True, "disk ! 20 GiB free"),
        (None, False, "disk   n/a"),
    ],
)
def test_free_space_is_told(free: int | None, is_short: bool, line: str) -> None:
    """It stands out when it is little, or too little for the next checkpoint."""
    gauges = replace(state_of().gauges, disk_free_bytes=free)  # type: ignore[type-var]
    shown = next(one for one in gauge_lines(gauges, 46, is_short=is_short) if one.plain.startswith("disk"))  # type: ignore[arg-type]
    assert shown.plain == line
    assert any("warning" in str(span.style) for span in shown.spans) is ("!" in line)


# --- the last minutes ----------------------------------------------------------------------------------------------------


def readings(count: int, **said: Any) -> list[Reading]:
    """One a second up to NOW, the CPU ever busier."""
    usual = {"memory": 0.5, "gpus": (0.25,)}
    moments = [NOW - count + 1 + number for number in range(count)]
    return [Reading(**{**usual, "time": moment, "cpu": place / count, **said}) for place, moment in enumerate(moments)]


def busy(num_cores: int, **said: Any) -> Gauges:
    """A machine at work."""
    return Gauges(
        time=NOW, cores=[50.0] * num_cores, memory_used_bytes=1 << 30, memory_total_bytes=2 << 30, gpus=[fakes.GPU], **said
    )


def test_the_course_of_the_machine_stands_beside_its_bars() -> None:
    """Memory and GPU have room for it at the usual width, cores have a line for all of them where there is one to spare."""
    trend = Trend(readings=readings(300), rows=20)
    lines = [line.plain for line in gauge_lines(busy(2), 46, trend=trend)]
    assert [line.split()[0] for line in lines[:5]] == ["cpu", "all", "mem", "disk", "gpu"]
    assert lines[1].endswith(" 100%")
    assert lines[1].split()[1][:1] == "▁"
    assert lines[1].split()[1][-1:] == "█"
    assert "▅▅▅▅▅▅▅▅" in lines[2]
    assert "▃▃▃▃▃▃▃▃" in lines[4]
    assert not any("▅" in line.plain for line in gauge_lines(busy(1), 20, trend=trend))
    crowded = gauge_lines(busy(2), 46, trend=replace(trend, rows=5))
    assert not any("all" in line.plain for line in crowded)


@pytest.mark.parametrize("width", [20, 46, 56, 120])
@pytest.mark.parametrize("num_cores", [0, 1, 2, 16, 64])
@pytest.mark.parametrize("said", [{}, {"cpu_quota": 1.5, "cpu_used": 1.2}])
def test_courses_fit_their_width(width: int, num_cores: int, said: dict[str, Any]) -> None:
    """And nothing is drawn of one moment only."""
    for count in (0, 1, 2, 300):
        trend = Trend(readings=readings(count), rows=40)
        lines = gauge_lines(busy(num_cores, **said), width, trend=trend)
        if width > 30:
            assert all(line.cell_length <= width for line in lines)
        assert count > 1 or not any("▅" in line.plain for line in lines if "mem" in line.plain)


def test_a_course_has_blanks_where_nothing_was_told() -> None:
    """Each cell is the mean over its part of the time; what is older than all of them is left out."""
    moments = [(0.0, 1.0), (10.0, 0.0), (11.0, 1.0), (20.0, None), (30.0, 1.0)]
    assert course(moments, 40.0, 4, "block").plain == "█▅ █"
    assert course([*moments, (40.0, 0.0), (math.nan, 0.3)], 40.0, 4, "ascii").plain == "+ #_"
    assert course([], 40.0, 4, "block").plain == "    "


def test_a_reading_keeps_shares() -> None:
    """Of the quota where there is one, else of all cores; what is unknown stays unknown."""
    assert reading_of(busy(2)) == Reading(NOW, 0.5, 0.5, (0.93,))
    assert reading_of(busy(2, cpu_quota=2.0, cpu_used=0.5)).cpu == 0.25
    assert reading_of(busy(0, cpu_quota=2.0)).cpu is None
    assert reading_of(replace(busy(0), memory_total_bytes=0, gpus=[{"index": 0}])) == Reading(NOW, None, None, (None,))


def test_a_view_keeps_the_newest_readings() -> None:
    """As many as a course shows, at one a second."""
    model = RunModel()
    for second in range(MAX_READINGS + 5):
        model.fold(replace(busy(2), time=NOW + second))
    assert len(model.readings) == MAX_READINGS == TREND_S
    assert model.readings[-1].time == NOW + MAX_READINGS + 4


# --- what is no longer so ------------------------------------------------------------------------------------------------


def shown(pilot: Any) -> list[str]:
    """The lines of the machine pane."""
    inside = pilot.app.screen.query_one(Machine).content_region
    return [line[inside.x : inside.right].rstrip() for line in screen_lines(pilot.app)[inside.y : inside.bottom]]


async def test_the_last_gauges_of_a_run_that_has_ended_have_their_time() -> None:
    """Nothing of them looks live: they are dimmed, and the ages of the ranks stand still."""
    async with driven(fakes.failed()) as (pilot, _):
        lines = shown(pilot)
        assert lines[0] == "as of 02:41:08"
        assert "97 %" in lines[1]
        rows = [line.split() for line in lines if " ended " in line]
        assert [row[-1] for row in rows] == ["0s", "0s"]
        assert rows
        styles = pilot.app.screen.query_one(Machine)._block._parts[1].spans
        assert {str(span.style) for span in styles} == {"$foreground 60%"}


async def test_a_record_that_never_told_of_the_machine_says_so() -> None:
    """Such as "not yet" would be a promise."""
    events = [event for event in fakes.finished() if not isinstance(event, Gauges | RankStatus)]
    async with driven(events) as (pilot, _):
        assert shown(pilot)[0].startswith("nothing told:")


async def test_the_gauges_of_a_silent_hub_have_their_time() -> None:
    """Until it speaks again."""
    async with driven(fakes.training()) as (pilot, source):
        assert not any("as of" in line for line in shown(pilot))
        session = run_screen(pilot.app).session
        for now in (100.0, 100.0 + SILENCE_S):
            session.notice_silence(now)
        await until(pilot, lambda: shown(pilot)[0] == "as of 02:41:35")
        num_heard = session.model.events_seen
        source.feed(*fakes.machine(600))
        await until(pilot, lambda: session.model.events_seen > num_heard)
        session.notice_silence(101.0 + SILENCE_S)
        await until(pilot, lambda: "as of" not in shown(pilot)[0])


async def test_gauges_that_stopped_while_the_run_goes_on_have_their_time() -> None:
    """A sensor that hangs is no reason to dim the ranks."""
    gauges, *ranks = fakes.machine(600)
    old = replace(gauges, time=fakes.at(600) - OLD_S - 1)
    async with driven([*fakes.training(599), old, *ranks, *fakes.steps(600, 600)]) as (pilot, _):
        assert shown(pilot)[0] == "as of 02:41:29"
        assert any(line.startswith("0    training") for line in shown(pilot))
        block = pilot.app.screen.query_one(Machine)._block
        heading = next(place for place, part in enumerate(block._parts) if part.plain.startswith("rank"))
        assert len(block._parts[heading + 1].spans) > 1


async def test_little_space_stands_out_in_the_pane() -> None:
    """As the hub's alert has it, which knows how large a checkpoint is."""
    async with driven(fakes.training()) as (pilot, source):
        await until_seen(pilot, "disk   38.2 GiB free")
        source.feed(Alert(topic="disk", text="the next checkpoint needs 40 GiB"), *fakes.machine(600))
        await until_seen(pilot, "disk ! 38.2 GiB free")


# --- what the terminal can show ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ascii", "block"])
async def test_no_pane_draws_braille_in_another_mode(mode: str) -> None:
    """Trends least of all: they are always in sight on a wide screen."""
    async with driven(fakes.training(), ui=UiSection(chart=mode)) as (pilot, _):  # type: ignore[arg-type]  # one of its words
        text = screen_text(pilot.app)
        assert "tokens/s" in text
        assert not any("\u2800" <= char <= "\u28ff" for char in text)
        trends = pilot.app.screen.query_one("#spark-grad_norm").region
        drawn = "".join(line[trends.x + 10 : trends.right] for line in screen_lines(pilot.app)[trends.y : trends.bottom])
        assert set(drawn) - {" "}
        assert drawn.isascii() is (mode == "ascii")
