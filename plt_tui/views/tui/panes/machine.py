"""Gauges of the machine and one row per rank.

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
from plt_tui.views.tui.meters import bar, columns
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.words import STYLES, Tone, one_line

RANK_NUMBERS_WIDTH = 36
"""Cells of a rank's line without what it is doing."""
MIN_DOING, MAX_DOING = 9, 16
WIDE_PARTS = 54
"""Cells from which on the parts of a step stand two apart."""
MAX_CORE_BARS = 16
"""With more cores each gets one upright cell instead of a line of its own."""
SILENT_S = 10.0
"""A rank at work that has said nothing for longer is marked; ranks speak twice a second."""


class Machine(ScrollBlock):
    """CPU, memory, GPUs, ranks."""

    DEFAULT_CSS = """
    Machine > Block { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def __init__(self) -> None:
        super().__init__("machine", id="machine")

    def show(self, state: RunState, now: float) -> None:
        """Draw the machine and the ranks at Unix time `now`."""
        width = max(20, self.scrollable_content_region.width)
        ranks = rank_lines(state, now, width)
        self.put([*gauge_lines(state.gauges, width), *([Content(""), *ranks] if ranks else [])])


def gauge_lines(gauges: Gauges | None, width: int) -> list[Content]:
    """One line or more for cores, memory and each GPU."""
    if gauges is None:
        return [Content.styled("no word from the machine yet", STYLES["muted"])]
    lines = [*_core_lines(gauges.cores, width), _memory_line(gauges, width)]
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
    reason = one_line(str(gpu.get("reason") or ""))
    return [*lines, Content.styled(f"       {reason}", STYLES["muted"])] if reason else lines


def _gauge(label: str, value: float | None, full: float | None, tail: str, width: int) -> Content:
    room = max(1, width - len(label) - len(tail) - 2)
    meter = Content(" " * room) if value is None or not full else bar(value / full, room)
    return Content.assemble((label, STYLES["muted"]), meter, f" {tail}")


def _or_na(value: float | None, template: str) -> str:
    return "n/a" if value is None else template.format(value)


def rank_lines(state: RunState, now: float, width: int) -> list[Content]:
    """A heading and one line per rank; a rank that lags is marked by a word and a colour."""
    if not state.ranks:
        return []
    doing_cells = max(MIN_DOING, min(MAX_DOING, width - RANK_NUMBERS_WIDTH))
    heading = f"{'rank':<5}{'doing':<{doing_cells}}{'step':>6}{'ms':>6}{'data':>5}{'memory':>9}{'age':>5}"
    laggards = dict(lagging(state.ranks.values(), now)) if not state.is_over else {}
    ranks = [state.ranks[rank] for rank in sorted(state.ranks)]
    rows = [_rank_line(rank, laggards.get(rank.rank), now, doing_cells) for rank in ranks]
    return [Content.styled(heading, STYLES["muted"]), *rows, *_parts_line(ranks, width)]


def _parts_line(ranks: Sequence[RankStatus], width: int) -> list[Content]:
    """Where the last step's time went, as shares and the mean over ranks; nothing before there was a step."""
    step_ms = sum(rank.step_ms for rank in ranks)
    parts = {
        "data": sum(rank.data_ms for rank in ranks),
        "fwd": sum(rank.forward_ms for rank in ranks),
        "bwd": sum(rank.backward_ms for rank in ranks),
        "comm": sum(rank.comm_ms for rank in ranks),
        "opt": sum(rank.optim_ms for rank in ranks),
    }
    if step_ms <= 0 or parts["fwd"] <= 0:
        return []
    gap = "  " if width >= WIDE_PARTS else " "
    return [Content.assemble(("step ", STYLES["muted"]), gap.join(f"{name} {ms / step_ms:.0%}" for name, ms in parts.items()))]


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
