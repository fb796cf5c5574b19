"""Gauges of the machine, one row per rank, where the time of their steps goes, and what comes of it when they stand still.

Reads no sensor: values come as events, and what cannot be read says why. Invariant: a missing value is "n/a", never 0.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from textual.content import Content

from plt_tui.control.state import RunState
from plt_tui.protocol.events import Gauges, RankStatus
from plt_tui.views.formats import format_bytes
from plt_tui.views.standstill import standstill, standstill_words
from plt_tui.views.tui.meters import bar, columns
from plt_tui.views.tui.panes import shares
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.words import STYLES, Tone, one_line

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


class Machine(ScrollBlock):
    """CPU, memory, GPUs, ranks."""

    DEFAULT_CSS = """
    Machine { scrollbar-gutter: stable; }
    Machine > Block { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__("machine", id="machine")

    def show(self, state: RunState, now: float) -> None:
        """Draw the machine and the ranks at Unix time `now`."""
        width = max(20, self.scrollable_content_region.width)
        gauges, ranks = gauge_lines(state.gauges, width), rank_lines(state, now, width)
        has_room = len(gauges) + 1 + len(ranks) <= self.scrollable_content_region.height
        self.put([*gauges, *([Content("")] if ranks and has_room else []), *ranks])


def gauge_lines(gauges: Gauges | None, width: int) -> list[Content]:
    """One line or more for cores, memory and each GPU."""
    if gauges is None:
        return [Content.styled("no word from the machine yet", STYLES["muted"])]
    cpu = _core_lines(gauges.cores, width) if gauges.cpu_quota is None else [_quota_line(gauges, gauges.cpu_quota, width)]
    lines = [*cpu, _memory_line(gauges, width)]
    if not gauges.gpus:
        reason = one_line(gauges.gpu_reason) or "none found"
        lines.append(Content.assemble(("gpu ", STYLES["muted"]), f"n/a: {reason}"))
    return lines + [line for gpu in gauges.gpus for line in _gpu_lines(gpu, width)]


def _core_lines(cores: list[float], width: int) -> list[Content]:
    if len(cores) > MAX_CORE_BARS:
        chunks = iter(cores)
        rows = iter(lambda: list(islice(chunks, width - 5)), [])
        return [_labelled("cpu" if i == 0 else "", columns([core / 100 for core in row])) for i, row in enumerate(rows)]
    per_line = 2 if width >= 38 and len(cores) > 1 else 1
    cell = (width - 4) // per_line
    cells = [_core(number, use, cell) for number, use in enumerate(cores)]
    rows_ = [cells[i : i + per_line] for i in range(0, len(cells), per_line)]
    return [_labelled("cpu" if i == 0 else "", Content("").join(row)) for i, row in enumerate(rows_)]


def _quota_line(gauges: Gauges, quota: float, width: int) -> Content:
    """The control group's own use: that of the cores is, below a quota, mostly that of others."""
    held = gauges.cpu_throttled or 0.0
    is_held = held >= HELD_BACK
    value = f" {_or_na(gauges.cpu_used, '{:.1f}')} / {quota:.3g} cores" + (f", held back {held:.0%}" if is_held else "")
    share = (gauges.cpu_used or 0.0) / quota
    return _labelled(
        "cpu", Content.assemble("   ", bar(share, max(1, width - 8 - len(value)), "warning" if is_held else "accent"), value)
    )


def _core(number: int, use: float, width: int) -> Content:
    label, value = f"{number:>2} ", f" {use:3.0f} %"
    meter = bar(use / 100, max(1, width - len(label) - len(value) - 1))
    return Content.assemble((label, STYLES["muted"]), meter, value, " ")


def _labelled(label: str, content: Content) -> Content:
    return Content.assemble((label.ljust(4), STYLES["muted"]), content)


def _memory_line(gauges: Gauges, width: int) -> Content:
    share = gauges.memory_used_bytes / max(1, gauges.memory_total_bytes)
    value = f" {format_bytes(gauges.memory_used_bytes)} / {format_bytes(gauges.memory_total_bytes)}"
    tone: Tone = "bad" if share > 0.95 else "warning" if share > 0.85 else "accent"
    return _labelled("mem", Content.assemble("   ", bar(share, max(1, width - 8 - len(value)), tone), value))


def _gpu_lines(gpu: Mapping[str, Any], width: int) -> list[Content]:
    """Utilisation, temperature and power on the first line, memory on the second, then why something is missing."""
    use, heat, power = gpu.get("utilisation"), gpu.get("temperature_c"), gpu.get("power_w")
    used, total = gpu.get("memory_used_bytes"), gpu.get("memory_total_bytes")
    tail = f"{_or_na(use, '{:3.0f} %')}  {_or_na(heat, '{:.0f} °C')}  {_or_na(power, '{:.0f} W')}"
    first = _gauge(f"gpu{gpu.get('index', '?'):>3} ", use, 100, tail, width)
    memory = "n/a" if used is None or total is None else f"{format_bytes(used)} / {format_bytes(total)}"
    lines = [first, _gauge("   mem ", used, total, memory, width)]
    slowed, reason = one_line(str(gpu.get("throttled") or "")), one_line(str(gpu.get("reason") or ""))
    if slowed:
        lines.append(Content.styled(f"     ! slowed down: {slowed}", STYLES["warning"]))
    return [*lines, Content.styled(f"       {reason}", STYLES["muted"])] if reason else lines


def _gauge(label: str, value: float | None, full: float | None, tail: str, width: int) -> Content:
    room = max(1, width - len(label) - len(tail) - 2)
    meter = Content(" " * room) if value is None or not full else bar(value / full, room)
    return Content.assemble((label, STYLES["muted"]), meter, f" {tail}")


def _or_na(value: float | None, template: str) -> str:
    return "n/a" if value is None else template.format(value)


def rank_lines(state: RunState, now: float, width: int) -> list[Content]:
    """Who stands still, a heading, one line per rank, and where their steps go; a rank that lags is marked by a word."""
    if not state.ranks:
        return []
    doing_cells = max(MIN_DOING, min(MAX_DOING, width - RANK_NUMBERS_WIDTH))
    heading = f"{'rank':<5}{'doing':<{doing_cells}}{'step':>6}{'ms':>6}{'data':>5}{'memory':>9}{'age':>5}"
    laggards = dict(lagging(state.ranks.values(), now)) if not state.is_over else {}
    ranks = [state.ranks[rank] for rank in sorted(state.ranks)]
    rows = [_rank_line(rank, laggards.get(rank.rank), now, doing_cells) for rank in ranks]
    return [*_standstill_lines(state, now), *_with_shares([Content.styled(heading, STYLES["muted"]), *rows], ranks, width)]


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
    times = f"{rank.step:>6}{rank.step_ms:>6.0f}{rank.data_ms:>5.1f}"
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
