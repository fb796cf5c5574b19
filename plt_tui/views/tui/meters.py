"""Small drawings made of text: bars, columns, and two texts on one line.

Pure functions on Content; colours are theme variables, resolved when a widget renders. Invariant: a result is never wider
than asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from textual.content import Content

from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.words import STYLES, Tone

REST, REST_STYLE = "─", "$foreground 20%"
"""The part of a bar that is not filled: thinner, so that it can be told apart without colours."""
_COLUMNS, _COLUMNS_ASCII = "▁▂▃▄▅▆▇█", "_.-=+*%#"


def bar(share: float, width: int, tone: Tone = "accent") -> Content:
    """A line of `width` cells, filled from the left by `share` (0 to 1, clamped) to half a cell exactly."""
    halves = round(min(1.0, max(0.0, share)) * 2 * width) if math.isfinite(share) else 0
    filled = "━" * (halves // 2) + "╸" * (halves % 2)
    return Content.assemble((filled, STYLES[tone]), (REST * (width - len(filled)), REST_STYLE))


def columns(shares: Sequence[float | None], tone: Tone = "accent", mode: Mode = "block") -> Content:
    """One upright bar of one cell for each share (0 to 1, clamped); a blank for None."""
    ramp = _COLUMNS_ASCII if mode == "ascii" else _COLUMNS
    cells = (" " if share is None else _upright(share, ramp) for share in shares)
    return Content.assemble(("".join(cells), STYLES[tone]))


def _upright(share: float, ramp: str) -> str:
    return ramp[min(len(ramp) - 1, int(min(1.0, max(0.0, share)) * len(ramp)))]


def course(moments: Sequence[tuple[float, float | None]], span_s: float, cells: int, mode: Mode) -> Content:
    """The `span_s` seconds up to the newest of `moments` (Unix time, share) as `cells` upright bars.

    Each is the mean over its own part of the time, which begins at the same moment however late one looks; blank: unknown.
    """
    slots: dict[int, list[float]] = {}
    for unix_s, share in moments:
        if share is not None and math.isfinite(unix_s):
            slots.setdefault(int(unix_s * cells // span_s), []).append(share)
    newest = max(slots, default=0)
    known = (slots.get(slot) for slot in range(newest - cells + 1, newest + 1))
    return columns([math.fsum(shares) / len(shares) if shares else None for shares in known], "muted", mode)


def spread(left: Content, right: Content, width: int) -> Content:
    """`left` and `right` at the two ends of a line; `left` is cut where there is no room for both."""
    room = max(0, width - right.cell_length - 1)
    left = left.truncate(room, ellipsis=True) if left.cell_length > room else left
    gap = max(0, width - left.cell_length - right.cell_length)
    return (left + Content(" " * gap) + right).truncate(width)


def hanging(head: Content, body: Content, width: int) -> Content:
    """`head`, then `body` wrapped to what `head` leaves of `width`, each of its lines beginning in the same column."""
    indent = head.cell_length
    return head + Content("\n" + " " * indent).join(body.wrap(max(1, width - indent)))


def lines(parts: Sequence[Content]) -> Content:
    """The parts as lines of one text."""
    return Content("\n").join(parts)
