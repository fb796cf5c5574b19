"""The log pane on a scripted run: filters, search, the moment pointed at, progress bars, and a million lines."""

import time
from collections.abc import Callable
from statistics import median

import fakes
import pytest
from driving import COMPACT, driven, run_screen, screen_lines, screen_text, until, until_seen
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection

from plt_tui.protocol.events import LogLine, Logs, OpenLine
from plt_tui.views.log_ring import PACK_LINES, LogRing
from plt_tui.views.tui.panes.logs import Logs as LogPane


def numbered(first: int, last: int, *, source: str = "rank 0", level: str = "INFO") -> Logs:
    """Lines "line first" to "line last", one a second."""
    return Logs(lines=[[fakes.at(0) + number, source, level, f"line {number}"] for number in range(first, last + 1)])


def pane(pilot: Pilot) -> LogPane:
    """The log pane."""
    return run_screen(pilot.app).board.logs


def shown(pilot: Pilot) -> list[str]:
    """The lines in the log pane, without its border."""
    inside = pane(pilot).view.content_region
    rows = screen_lines(pilot.app)[inside.y : inside.bottom]
    return [row[inside.x : inside.right].rstrip(" ▁▂▃▄▅▆▇█▔") for row in rows]


def title_of(pilot: Pilot) -> str:
    """What stands in the pane's upper border."""
    region = pane(pilot).region
    return screen_lines(pilot.app)[region.y][region.x : region.right].strip("╭╮─ ")


async def test_lines_of_one_source() -> None:
    """R goes round: everybody, the hub, each rank; the border says who."""
    async with driven(fakes.training()) as (pilot, _):
        for title, kept in (("hub", "hub"), ("rank 0", "rank 0"), ("rank 1", "rank 1"), ("", "")):
            await pilot.press("R")
            await until(pilot, lambda title=title: title_of(pilot) == ("logs · " + title if title else "logs"))
            lines = [line for line in shown(pilot) if line]
            assert lines
            assert all(kept in line for line in lines)


async def test_lines_of_a_level() -> None:
    """L leaves warnings, then errors, then all again; where no line fits the pane says what to press."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("L")
        await until_seen(pilot, "logs · warnings and worse")
        assert next(filter(None, shown(pilot))).endswith("W rank 1  batch 301 was read late: 41 ms")
        await pilot.press("L")
        await until_seen(pilot, "no line fits: R and L choose others")
        source.feed(Logs(lines=[[fakes.at(601), "rank 1", "ERROR", "out of memory"]]))
        await until_seen(pilot, "E rank 1  out of memory")
        await pilot.press("L")
        await until_seen(pilot, "checkpoints/step-00000600 verified")


async def test_hits_only() -> None:
    """Key f leaves the lines that match, as they come; without a search it asks for one."""
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("f")
        await until(pilot, lambda: pane(pilot).has_class("-searching"))
        await pilot.press(*"step [2-4]00", "enter")
        await until_seen(pilot, "logs · hits only")
        assert [line[-21:-13] for line in shown(pilot) if line] == ["step 200", "step 300", "step 400"]
        source.feed(Logs(lines=[[fakes.at(601), "hub", "INFO", "STEP 300 again"], [fakes.at(601), "hub", "INFO", "other"]]))
        await until_seen(pilot, "STEP 300 again")
        assert "other" not in "".join(shown(pilot))
        await pilot.press("f")
        await until_seen(pilot, "other")
        await pilot.press("f", "escape")
        await until(pilot, lambda: title_of(pilot) == "logs")
        assert "other" in "".join(shown(pilot))


async def test_hits_are_walked_both_ways() -> None:
    """N to older lines, M to newer ones, each round the end, from the newest on."""
    async with driven([*fakes.training(), numbered(1, 300)]) as (pilot, _):
        await pilot.press("slash", *"line [1-3]00$", "enter")
        for key, place, line in (("", 1, 300), ("N", 2, 200), ("N", 3, 100), ("N", 1, 300), ("M", 3, 100), ("M", 2, 200)):
            await pilot.press(*key)
            await until_seen(pilot, f"” {place}/3")
            assert any(text.endswith(f"line {line}") for text in shown(pilot))


@pytest.mark.parametrize("size", [COMPACT, (140, 45)])
async def test_what_is_no_expression_is_said_beside_it(size: tuple[int, int]) -> None:
    """The field stays open, the lines stay, and the next character may make it right."""
    async with driven(fakes.training(), size=size) as (pilot, _):
        await pilot.press("slash", *"loss(")
        await until_seen(pilot, "✖ missing ), unterminated subpattern at")
        await pilot.press("enter")
        assert pane(pilot).has_class("-searching")
        await pilot.press(*" 1)?", "enter")
        await until_seen(pilot, "“loss( 1)?” 1/6")
        assert "✖" not in "".join(shown(pilot))
        assert not pane(pilot).has_class("-searching")


async def test_an_endless_expression_is_given_up() -> None:
    """The screen says so, and goes on living."""
    line: LogLine = [fakes.at(601), "rank 0", "INFO", "a" * 60 + "!"]
    async with driven([*fakes.training(), Logs(lines=[line])]) as (pilot, source):
        await pilot.press("slash", *"(a+)+$", "enter")
        await until_seen(pilot, "search given up")
        source.feed(Logs(lines=[[fakes.at(602), "hub", "INFO", "still here"]]))
        await until_seen(pilot, "still here")
        await pilot.press("escape")
        await until(pilot, lambda: "given up" not in screen_text(pilot.app))


async def test_markup_in_a_search_is_text() -> None:
    """Neither the field nor the border reads it."""
    async with driven([*fakes.training(), Logs(lines=[[fakes.at(601), "hub", "INFO", "a [red]b[/red] c"]])]) as (pilot, _):
        await pilot.press("slash", *r"\[red\]b", "enter")
        await until_seen(pilot, r"“\[red\]b” 1/1")
        assert any("a [red]b[/red] c" in line for line in shown(pilot))


async def test_the_moment_pointed_at_is_shown_and_stays() -> None:
    """The first line of that moment is marked by a glyph; new lines do not move it; pointing at nothing follows again."""
    async with driven([*fakes.training(), numbered(1, 300)]) as (pilot, source):
        board = run_screen(pilot.app).board
        board.pointed = 500  # 75 s after the beginning
        await until_seen(pilot, "▸I rank 0  line 75")
        source.feed(numbered(301, 400))
        await until(pilot, lambda: run_screen(pilot.app).session.model.logs.lines[-1][3] == "line 400")
        assert any(text.endswith("▸I rank 0  line 75") for text in shown(pilot))
        assert "end: newest" in screen_text(pilot.app)
        board.pointed = None
        await until_seen(pilot, "line 400")
        assert "▸I" not in screen_text(pilot.app)


async def test_a_moment_among_filtered_lines() -> None:
    """The next line that is shown is marked; one before all lines, or behind them, is no error."""
    lines = [numbered(1, 50), numbered(51, 100, source="rank 1"), numbered(101, 150)]
    async with driven([*fakes.training(10), *lines]) as (pilot, _):
        await pilot.press("R", "R")
        await until_seen(pilot, "logs · rank 0")
        view = pane(pilot).view
        for moment, marked in ((60.0, "▸I rank 0  line 101"), (-1000.0, "▸I rank 0  builtin:"), (9999.0, "line 150")):
            view.go_to_time(fakes.at(0) + moment)
            await until_seen(pilot, marked)


async def test_what_is_read_stays_while_lines_come_and_go() -> None:
    """Also when a flood pushes older lines out of the ring."""
    async with driven([*fakes.training(10), numbered(1, 500)]) as (pilot, source):
        model = run_screen(pilot.app).session.model
        model.logs._max_lines = 400
        await pilot.press("tab", "tab", "tab", "pageup", "pageup")
        await until_seen(pilot, "end: newest")
        before = shown(pilot)
        source.feed(numbered(501, 600), numbered(601, 640))
        await until(pilot, lambda: model.logs.lines[-1][3] == "line 640")
        assert model.logs.first > 0
        await until(pilot, lambda: shown(pilot) == before)


async def test_a_filter_keeps_the_place() -> None:
    """The line at the top stays at the top when others between go, and when they come back."""
    lines = [numbered(number, number, source=f"rank {number % 2}") for number in range(1, 401)]
    async with driven([*fakes.training(10), *lines]) as (pilot, _):
        pane(pilot).view.focus()
        await pilot.press(*["pageup"] * 5)
        await pilot.pause()
        top = int(shown(pilot)[0].rpartition(" ")[2])
        await pilot.press("R", "R")
        await until_seen(pilot, "logs · rank 0")
        filtered = int(shown(pilot)[0].rpartition(" ")[2])
        assert filtered in (top, top + 1)
        await pilot.press("R", "R")
        await until(pilot, lambda: title_of(pilot) == "logs")
        assert int(shown(pilot)[0].rpartition(" ")[2]) == top


async def test_a_bar_moves_in_its_line() -> None:
    """Its states, told line by line, take one line on the screen, and a search sees the newest."""
    bar = "Map: {0:3d}%|####      | {0}/100 [00:01<00:09,  9.9it/s]"
    async with driven(fakes.training()) as (pilot, source):
        await pilot.press("slash", *r"\b40/100", "enter")
        for percent in range(0, 50, 10):
            source.feed(Logs(lines=[[fakes.at(601), "rank 0", "INFO", bar.format(percent)]]))
            await until_seen(pilot, f" {percent}/100 [")
        assert sum("Map:" in line for line in shown(pilot)) == 1
        await until_seen(pilot, "0/1")
        source.feed(Logs(lines=[[fakes.at(602), "rank 0", "INFO", bar.format(50)]]))
        await until_seen(pilot, "” 0/0")


async def test_a_line_without_an_end_moves() -> None:
    """A bar drawn with carriage returns is seen while it moves, and ends as one line."""
    async with driven(fakes.training()) as (pilot, source):
        for percent in (10, 20):
            source.feed(OpenLine(time=fakes.at(601), source="rank 1", text=f"Map: {percent}%"))
            await until_seen(pilot, f"I rank 1  Map: {percent}%")
        source.feed(Logs(lines=[[fakes.at(602), "rank 1", "INFO", "Map: 100%"]]))
        await until_seen(pilot, "Map: 100%")
        assert sum("Map:" in line for line in shown(pilot)) == 1


async def drag(pilot: Pilot, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Mark a part of the log pane with the mouse."""
    view = pane(pilot).view
    await pilot.mouse_down(view, offset=start)
    await pilot.hover(view, offset=end)
    await pilot.mouse_up(view, offset=end)
    await pilot.pause()


async def test_log_lines_are_marked_with_the_mouse_and_copied() -> None:
    """As they are drawn, and the same lines also once others have come."""
    async with driven([*fakes.training(10), numbered(1, 300)]) as (pilot, source):
        rows = shown(pilot)
        await drag(pilot, (9, 0), (25, 2))
        marked = "\n".join([rows[0][9:], rows[1], rows[2][:26]])
        await pilot.press("Y")
        assert pilot.app.clipboard == marked
        source.feed(numbered(301, 303))
        await until_seen(pilot, "line 303")
        await pilot.press("Y")
        assert pilot.app.clipboard == marked
        await pilot.press("R")  # now they are filtered away
        await until_seen(pilot, "logs · hub")
        assert run_screen(pilot.app).get_selected_text() == ""


async def test_wide_characters_are_marked_one_by_one() -> None:
    """Wherever the view is scrolled to."""
    line: LogLine = [fakes.at(601), "rank 0", "INFO", "日本語の行 and much more, so that it can be scrolled" + "x" * 200]
    async with driven([*fakes.training(10), Logs(lines=[line])]) as (pilot, _):
        view = pane(pilot).view
        row = next(place for place, text in enumerate(shown(pilot)) if "日" in text)
        await drag(pilot, (21, row), (23, row))
        assert run_screen(pilot.app).get_selected_text() == "本語"
        view.scroll_to(x=21, animate=False, immediate=True, force=True)
        await pilot.pause()
        await drag(pilot, (0, row), (2, row))
        assert run_screen(pilot.app).get_selected_text() == "本語"


async def test_a_mark_that_goes_beyond_the_lines_ends_with_them() -> None:
    """In the pane at the newest line; beyond the pane at the lines in sight, however many there are above."""
    async with driven([*fakes.training(10), numbered(1, 300)]) as (pilot, _):
        view = pane(pilot).view
        text, _ = view.get_selection(Selection(None, None)) or ("", "")
        assert text.splitlines() == [row for row in shown(pilot) if row]
        stop = view._index.ring.stop
        text, _ = view.get_selection(Selection(Offset(0, stop - 2), Offset(3, stop))) or ("", "")
        assert [line.rpartition(" ")[2] for line in text.splitlines()] == ["299", "300"]


async def test_a_search_says_when_there_were_older_lines() -> None:
    """No hit, 0/0, is no news of lines that are not here: the border tells where they are."""
    many = Logs(lines=numbered(1, 50).lines, dropped=12_345)
    async with driven([many, *fakes.training(10)]) as (pilot, _):
        assert "older lines" not in screen_text(pilot.app)
        await pilot.press("slash", *"nowhere", "enter")
        await until_seen(pilot, "“nowhere” 0/0 · older lines: plt-tui logs quickstart")
        await pilot.press("escape")
        await until(pilot, lambda: "older lines" not in screen_text(pilot.app))
        pane(pilot).view.focus()
        await pilot.press("home")
        await until_seen(pilot, "older lines: plt-tui logs quickstart · end: newest")
        assert "slow connection" not in screen_text(pilot.app)


FLOOD, CHUNK, SMALL = 1_100_000, 20_000, 5_000


def some(count: int) -> Logs:
    """Log lines that a search finds."""
    return Logs(lines=[[float(number), "rank 0", "INFO", f"step {number} loss 2.345 norm 1.234"] for number in range(count)])


def cost_s(work: Callable[[], object]) -> float:
    """CPU seconds of `work`."""
    began = time.process_time()
    work()
    return time.process_time() - began


async def test_a_million_lines_cost_a_tick_no_more_than_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a filter and a search on: a tick with 10^6 lines costs about what it costs in a small ring; memory is bounded."""
    monkeypatch.setattr("plt_tui.views.tui.panes.log_view.SLICE_S", 60.0)  # all lines of a tick are looked at within it
    async with driven(fakes.training()) as (pilot, _):
        view = pane(pilot).view
        await pilot.press("R", "R", "slash", *"loss 2|oops", "enter", "f")
        await pilot.pause()

        def ticks(ring: LogRing, count: int, lines: Logs) -> list[float]:
            def tick() -> None:
                ring.extend(lines)
                view.show(ring)

            return [cost_s(tick) for _ in range(count)]

        small, large = LogRing(max_lines=SMALL), LogRing()
        ticks(small, 1, some(SMALL))
        few = ticks(small, 40, some(100))
        ticks(large, FLOOD // CHUNK, some(CHUNK))
        many = ticks(large, 40, some(100))
        assert large.stop == FLOOD + 4000
        assert 1_000_000 - PACK_LINES < len(large.lines) <= 1_062_500
        assert f"” 0/{len(large.lines):,}" in view.status
        assert median(many) < 5 * median(few) + 0.001
