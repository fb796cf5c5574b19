"""Gauges of the machine, one row per rank, where the time of their steps goes, and what comes of it when they stand still.

Reads no sensor: values come as events, and what cannot be read says why. Invariant: a missing value is "n/a", never 0, and what
is not so any more has the time at which it was.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from textual.content import Content

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Gauges, RankStatus
from plt_tui.views.formats import format_bytes
from plt_tui.views.model import Reading, RunModel
from plt_tui.views.standstill import heard_at, standstill, standstill_words
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.meters import bar, columns, course
from plt_tui.views.tui.panes import shares
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.words import STYLES, Tone, clock_words, one_line

RANK_NUMBERS_WIDTH = 36
"""Cells of a rank's line without what it is doing."""
MIN_DOING, MAX_DOING = 9, 16
MIN_INLINE_BAR = 20
"""Cells beside a rank's numbers in which the bar of its step finds room; with fewer it has a line of its own."""
MAX_CORE_BARS = 16
"""With more cores each gets one upright cell instead of a line of its own."""
HELD_BACK = 0.05
"""Share of the time in which the kernel holds a container back that is worth a word."""
SILENT_S = 10.0
"""A rank at work that has said nothing for longer is marked; ranks speak twice a second."""
OLD_S = 5.0
"""Gauges come once a second; those that were not followed by others for longer are no longer so."""
LITTLE_BYTES = 1 << 30
"""Free space that is a warning whatever a checkpoint needs."""
TREND_S = 300.0
"""What the courses beside the bars show."""
MIN_TREND, MAX_TREND = 8, 24
"""Cells of a course beside a bar, which is at least as long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """The course of the machine, drawn where there is room for it."""

    readings: Sequence[Reading] = ()
    """Oldest first."""
    mode: Mode = "block"
    rows: int = 0
    """Lines that there is room for in all."""


_NO_TREND = Trend()
_Course = Sequence[tuple[float, float | None]]
"""Unix seconds and the share at each of them."""


class Machine(ScrollBlock):
    """CPU, memory, GPUs, ranks."""

    DEFAULT_CSS = """
    Machine { scrollbar-gutter: stable; }
    Machine > Block { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self, mode: Mode) -> None:
        super().__init__("machine", id="machine")
        self._mode = mode

    def show(self, model: RunModel, now: float, *, is_silent: bool = False) -> None:
        """Draw the machine and the ranks at Unix time `now`; `is_silent`: the hub says nothing, or is gone."""
        state, region = model.state, self.scrollable_content_region
        width, is_past = max(20, region.width), state.is_over or is_silent
        ranks = rank_lines(state, heard_at(state) if is_past else now, width, is_past=is_past)
        rows = region.height - 1 - len(ranks)
        trend = Trend(readings=model.readings, mode=self._mode, rows=rows)
        gauges = gauge_lines(state.gauges, width, is_short="disk" in state.alerts, trend=trend)
        gap = [Content("")] if ranks and len(gauges) <= rows else []
        if is_past:
            lines = as_of(heard_at(state), [*gauges, *gap, *ranks]) if heard_at(state) else [_NOTHING_TOLD]
        elif state.gauges is not None and min(now, model.last_time) - state.gauges.time > OLD_S:
            lines = [*as_of(state.gauges.time, gauges), *gap, *ranks]
        else:
            lines = [*gauges, *gap, *ranks]
        self.put(lines)


_NOTHING_TOLD = Content.styled("nothing told: the record of a run keeps no gauges", STYLES["muted"])


def as_of(unix_s: float, lines: Iterable[Content]) -> list[Content]:
    """`lines` under the moment at which they were so, and fainter than what is so now."""
    head = Content.styled(f"as of {clock_words(unix_s)}", f"bold {STYLES['muted']}")
    return [head, *(Content.styled(line.plain, STYLES["muted"]) for line in lines)]


def gauge_lines(gauges: Gauges | None, width: int, *, is_short: bool = False, trend: Trend = _NO_TREND) -> list[Content]:
    """One line or more for cores, memory, disk and each GPU. is_short: the disk has no room for the next checkpoint."""
    if gauges is None:
        return [Content.styled("no word from the machine yet", STYLES["muted"])]
    cpu = _cpu_lines(gauges, width, trend)
    lines = [_memory_line(gauges, width, trend), _disk_line(gauges.disk_free_bytes, is_short=is_short)]
    if not gauges.gpus:
        reason = one_line(gauges.gpu_reason) or "none found"
        lines.append(Content.assemble(("gpu ", STYLES["muted"]), f"n/a: {reason}"))
    lines += [
        line for place, gpu in enumerate(gauges.gpus) for line in _gpu_lines(gpu, _gpu_course(trend, place), width, trend)
    ]
    has_row = len(cpu) + len(lines) < trend.rows and len(gauges.cores) > 1 and gauges.cpu_quota is None
    return [*cpu, *(_cores_together(width, trend) if has_row else []), *lines]


def _cpu_course(trend: Trend) -> _Course:
    return [(reading.time, reading.cpu) for reading in trend.readings]


def _gpu_course(trend: Trend, place: int) -> _Course:
    return [(reading.time, reading.gpus[place] if place < len(reading.gpus) else None) for reading in trend.readings]


def _meter(share: float, room: int, past: _Course, mode: Mode, tone: Tone = "accent") -> Content:
    """A bar of `room` cells; where there is room for both, a shorter one and behind it the course that led there."""
    cells = min(MAX_TREND, (room - 1) // 2)
    if cells < MIN_TREND or len(past) < 2:
        return bar(share, room, tone)
    return Content.assemble(bar(share, room - 1 - cells, tone), " ", course(past, TREND_S, cells, mode))


def _cpu_lines(gauges: Gauges, width: int, trend: Trend) -> list[Content]:
    if gauges.cpu_quota is not None:
        return [_quota_line(gauges, gauges.cpu_quota, width, trend)]
    return _core_lines(gauges.cores, width, trend)


def _cores_together(width: int, trend: Trend) -> list[Content]:
    """The course of all cores, which have no room for one of their own."""
    past = _cpu_course(trend)
    now = past[-1][1] if past else None
    if len(past) < 2 or now is None:
        return []
    value = f" {now:4.0%}"
    together = course(past, TREND_S, width - 8 - len(value), trend.mode)
    return [_labelled("", Content.assemble(("all ", STYLES["muted"]), together, value))]


def _core_lines(cores: list[float], width: int, trend: Trend) -> list[Content]:
    if len(cores) > MAX_CORE_BARS:
        chunks = iter(cores)
        rows = iter(lambda: list(islice(chunks, width - 5)), [])
        bars = [columns([core / 100 for core in row], mode=trend.mode) for row in rows]
        return [_labelled("cpu" if i == 0 else "", line) for i, line in enumerate(bars)]
    per_line = 2 if width >= 38 and len(cores) > 1 else 1
    cell = (width - 4) // per_line
    past = _cpu_course(trend) if len(cores) == 1 else []
    cells = [_core(number, use, cell, past, trend.mode) for number, use in enumerate(cores)]
    rows_ = [cells[i : i + per_line] for i in range(0, len(cells), per_line)]
    return [_labelled("cpu" if i == 0 else "", Content("").join(row)) for i, row in enumerate(rows_)]


def _quota_line(gauges: Gauges, quota: float, width: int, trend: Trend) -> Content:
    """The control group's own use: that of the cores is, below a quota, mostly that of others."""
    held = gauges.cpu_throttled or 0.0
    is_held = held >= HELD_BACK
    value = f" {_or_na(gauges.cpu_used, '{:.1f}')} / {quota:.3g} cores" + (f", held back {held:.0%}" if is_held else "")
    share, room = (gauges.cpu_used or 0.0) / quota, max(1, width - 8 - len(value))
    meter = _meter(share, room, _cpu_course(trend), trend.mode, "warning" if is_held else "accent")
    return _labelled("cpu", Content.assemble("   ", meter, value))


def _core(number: int, use: float, width: int, past: _Course, mode: Mode) -> Content:
    label, value = f"{number:>2} ", f" {use:3.0f} %"
    meter = _meter(use / 100, max(1, width - len(label) - len(value) - 1), past, mode)
    return Content.assemble((label, STYLES["muted"]), meter, value, " ")


def _labelled(label: str, content: Content) -> Content:
    return Content.assemble((label.ljust(4), STYLES["muted"]), content)


def _memory_line(gauges: Gauges, width: int, trend: Trend) -> Content:
    share = gauges.memory_used_bytes / max(1, gauges.memory_total_bytes)
    value = f" {format_bytes(gauges.memory_used_bytes)} / {format_bytes(gauges.memory_total_bytes)}"
    tone: Tone = "bad" if share > 0.95 else "warning" if share > 0.85 else "accent"
    past: _Course = [(reading.time, reading.memory) for reading in trend.readings]
    meter = _meter(share, max(1, width - 8 - len(value)), past, trend.mode, tone)
    return _labelled("mem", Content.assemble("   ", meter, value))


def _disk_line(free_bytes: int | None, *, is_short: bool) -> Content:
    """What checkpoints may still take of their disk; in mind only when it is little."""
    if free_bytes is None:
        return _labelled("disk", Content.styled("   n/a", STYLES["muted"]))
    is_little = is_short or free_bytes < LITTLE_BYTES
    mark, tone = (" ! ", STYLES["warning"]) if is_little else ("   ", STYLES["muted"])
    return _labelled("disk", Content.styled(f"{mark}{format_bytes(free_bytes)} free", tone))


def _gpu_lines(gpu: Mapping[str, Any], past: _Course, width: int, trend: Trend) -> list[Content]:
    """Utilisation, temperature and power on the first line, memory on the second, then why something is missing."""
    use, heat, power = gpu.get("utilisation"), gpu.get("temperature_c"), gpu.get("power_w")
    used, total = gpu.get("memory_used_bytes"), gpu.get("memory_total_bytes")
    tail = f"{_or_na(use, '{:3.0f} %')}  {_or_na(heat, '{:.0f} °C')}  {_or_na(power, '{:.0f} W')}"
    first = _gauge(f"gpu{gpu.get('index', '?'):>3} ", use, 100, tail, width, past, trend.mode)
    memory = "n/a" if used is None or total is None else f"{format_bytes(used)} / {format_bytes(total)}"
    lines = [first, _gauge("   mem ", used, total, memory, width)]
    slowed, reason = one_line(str(gpu.get("throttled") or "")), one_line(str(gpu.get("reason") or ""))
    if slowed:
        lines.append(Content.styled(f"     ! slowed down: {slowed}", STYLES["warning"]))
    return [*lines, Content.styled(f"       {reason}", STYLES["muted"])] if reason else lines


def _gauge(
    label: str, value: float | None, full: float | None, tail: str, width: int, past: _Course = (), mode: Mode = "block"
) -> Content:
    room = max(1, width - len(label) - len(tail) - 2)
    meter = Content(" " * room) if value is None or not full else _meter(value / full, room, past, mode)
    return Content.assemble((label, STYLES["muted"]), meter, f" {tail}")


def _or_na(value: float | None, template: str) -> str:
    return "n/a" if value is None else template.format(value)


def rank_lines(state: RunState, now: float, width: int, *, is_past: bool = False) -> list[Content]:
    """Who stands still, a heading, one line per rank, and where their steps go; a rank that lags is marked by a word.

    is_past: `now` is the moment of the last word, and nobody knows what came after it.
    """
    if not state.ranks:
        return []
    doing_cells = max(MIN_DOING, min(MAX_DOING, width - RANK_NUMBERS_WIDTH))
    heading = f"{'rank':<5}{'doing':<{doing_cells}}{'step':>6}{'ms':>6}{'data':>5}{'memory':>9}{'age':>5}"
    laggards = dict(lagging(state.ranks.values(), now)) if not state.is_over else {}
    ranks = [state.ranks[rank] for rank in sorted(state.ranks)]
    rows = [_rank_line(rank, laggards.get(rank.rank), now, doing_cells) for rank in ranks]
    still = [] if is_past else _standstill_lines(state, now)
    return [*still, *_with_shares([Content.styled(heading, STYLES["muted"]), *rows], ranks, width)]


def _with_shares(table: list[Content], ranks: Sequence[RankStatus], width: int) -> list[Content]:
    """The ranks' table and the bars of their steps, beside its rows where there is room; no bars before there was a step."""
    parts, longest_ms = shares.parts_of(ranks), shares.longest_ms(ranks)
    if not parts:
        return table
    room = width - max(row.cell_length for row in table) - 1
    is_beside = room >= MIN_INLINE_BAR
    slowest = [shares.slowest_line(ranks, room if is_beside else width)] if len(parts) > 1 else []
    if not is_beside:
        return [*table, *slowest, shares.legend(ranks, parts, width), *shares.bars(ranks, parts, width)]
    beside = [*(slowest or [Content("")]), *(shares.bar_of(rank, parts, longest_ms, room) for rank in ranks)]
    gaps = [Content(" " * (width - room - row.cell_length)) for row in table]
    rows = [(row + gap + bar_).truncate(width) for row, gap, bar_ in zip(table, gaps, beside, strict=True)]
    return [*rows, shares.legend(ranks, parts, width)]


def _standstill_lines(state: RunState, now: float) -> list[Content]:
    found = standstill(state, now)
    if found is None:
        return []
    since, then = standstill_words(found)
    return [Content.styled(f"! {since}", f"bold {STYLES['warning']}"), Content.styled(f"  {then}", STYLES["warning"])]


def _rank_line(rank: RankStatus, lag: str | None, now: float, doing_cells: int) -> Content:
    doing = (lag or one_line(rank.doing))[: doing_cells - 1]
    tone: Tone = "warning" if lag else "normal"
    data = f"{rank.data_ms:.1f}" if rank.data_ms < 99.95 else f"{rank.data_ms:.0f}"
    times = f"{rank.step:>6} {rank.step_ms:>5.0f} {data:>4}"  # blanks of their own: long numbers never run together
    return Content.assemble(
        (f"{rank.rank:<5}", "bold"),
        (f"{doing:<{doing_cells}}", STYLES[tone]),
        f"{times}{format_bytes(rank.memory_bytes):>9}{_age(rank, now):>5}",
    )


def _age(rank: RankStatus, now: float) -> str:
    age = max(0.0, now - rank.time)
    return f"{age:.0f}s" if age < 100 else f"{age / 60:.0f}m" if age < 6000 else f"{age / 3600:.0f}h"


def lagging(ranks: Iterable[RankStatus], now: float) -> list[tuple[int, str]]:
    """Ranks at work that are silent, stand still, wait for others or are behind, each with the word for it.

    Step times are not compared: ranks end every step together, so the slow one and those that wait for it take equally long.
    """
    at_work = [rank for rank in ranks if rank.doing == "training"]
    if len(at_work) == 0:
        return []
    front = max(rank.step for rank in at_work)
    typical_ms = statistics.median_low(rank.step_ms for rank in at_work)
    found = []
    for rank in at_work:
        behind_s = (front - rank.step) * typical_ms / 1000
        if now - rank.time > SILENT_S:
            found.append((rank.rank, "silent"))
        elif rank.idle_s > SILENT_S:
            found.append((rank.rank, f"{'waits' if rank.waiting else 'still'} {rank.idle_s:.0f} s"))
        elif behind_s > SILENT_S:
            found.append((rank.rank, f"{front - rank.step} behind"))
    return found
