"""Where the time of a step goes: one stacked bar per rank, the mean over all, and the rank that makes the others wait.

Pure; times are as the ranks measured them, each in the step that it last told of. Invariant: every part of a bar begins with
its letter, so that nothing is told by colour alone, and a bar is exactly as wide as asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content

from plt_tui.protocol.events import RankStatus
from plt_tui.views.tui.meters import REST, REST_STYLE
from plt_tui.views.tui.words import STYLES, ranks_words

MAX_BARS = 16
"""Of more ranks only the slowest get a bar."""
SLOWER = 0.05
"""A rank is called slow when its own work takes longer than the fastest rank's by more than this share."""
WIDE_LEGEND = 54


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a step. Its name begins with its letter."""

    name: str
    style: str

    @property
    def letter(self) -> str:
        """How its share of a bar begins."""
        return self.name[0]


PARTS = (
    Part("Data", "$warning"),
    Part("Fwd", "$primary"),
    Part("Bwd", "$accent"),
    Part("Comm", "$foreground 60%"),
    Part("Opt", "$success"),
    Part("Wait", "$error"),
)
"""Reading batches, forward, backward, gradients on their way, the optimizer, and waiting for slower ranks."""

Parts = tuple[float, ...]
"""Milliseconds of each of PARTS."""


def parts_of(ranks: Sequence[RankStatus]) -> dict[int, Parts]:
    """The parts of each rank's last step; none of ranks that have told of no step.

    What a rank tells as communication holds the wait for slower ranks. The last one to come waits for nobody: its time is what
    the way of the gradients takes, and what others take beyond it is their wait.
    """
    told = [rank for rank in ranks if rank.step_ms > 0 and rank.forward_ms > 0]
    way_ms = min((rank.comm_ms for rank in told), default=0.0)
    return {
        rank.rank: (
            rank.data_ms,
            rank.forward_ms,
            rank.backward_ms,
            way_ms,
            rank.optim_ms,
            rank.comm_ms - way_ms,
        )
        for rank in told
    }


def legend(ranks: Sequence[RankStatus], parts: dict[int, Parts], width: int) -> Content:
    """The parts by name, with their shares of a step as the mean over `ranks`."""
    whole = sum(rank.step_ms for rank in ranks if rank.rank in parts)
    shares = [100 * sum(column) / whole for column in zip(*parts.values(), strict=True)]
    is_wide = width >= WIDE_LEGEND
    cells = [
        Content.assemble((part.name, f"bold {part.style}"), f" {share:.0f}{'%' if is_wide else ''}")
        for part, share in zip(PARTS, shares, strict=True)
    ]
    return Content("  " if is_wide else " ").join(cells) + Content("" if is_wide else " %")


def stacked(values: Sequence[float], whole: float, width: int) -> Content:
    """A bar of `width` cells for `whole`, filled with one piece per value from the left; the rest is what nobody measured."""
    edges, total = [0], 0.0
    for value in values:
        total += max(0.0, value)
        edges.append(round(min(1.0, total / whole) * width) if whole > 0 else 0)
    pieces = [
        ((part.letter + "━" * (stop - start - 1))[: stop - start], part.style)
        for part, start, stop in zip(PARTS, edges, edges[1:], strict=False)
    ]
    return Content.assemble(*pieces, (REST * (width - edges[-1]), REST_STYLE))


def bar_of(rank: RankStatus, parts: dict[int, Parts], whole: float, width: int) -> Content:
    """The bar of one rank; blank for one that has told of no step. whole: milliseconds of the longest step of any rank."""
    return stacked(parts[rank.rank], whole, width) if rank.rank in parts else Content(" " * width)


def bars(ranks: Sequence[RankStatus], parts: dict[int, Parts], width: int) -> list[Content]:
    """A line per rank, in order of rank; of many ranks only the slowest."""
    told = [rank for rank in ranks if rank.rank in parts]
    slowest = sorted(told, key=_own_ms, reverse=True)[:MAX_BARS]
    whole = longest_ms(told)
    lines = [
        Content.assemble((f"{rank.rank:<5}", "bold"), bar_of(rank, parts, whole, max(1, width - 5)))
        for rank in told
        if rank in slowest
    ]
    left_out = len(told) - len(lines)
    return lines + ([Content.styled(f"and {ranks_words(left_out)} that are faster", STYLES["muted"])] if left_out else [])


def longest_ms(ranks: Sequence[RankStatus]) -> float:
    """The longest step that any rank has told of."""
    return max((rank.step_ms for rank in ranks), default=0.0)


def slowest_line(ranks: Sequence[RankStatus], width: int) -> Content:
    """Which rank makes the others wait: the one whose own work takes longest. In short where there is no room for more."""
    told = [rank for rank in ranks if rank.forward_ms > 0]
    slow, fast = max(told, key=_own_ms), min(told, key=_own_ms)
    more = _own_ms(slow) / _own_ms(fast) - 1
    if more <= SLOWER:
        words, rest, style = f"ranks alike (≤{more:.0%})", ", by own work", STYLES["muted"]
    else:
        words, rest = f"! rank {slow.rank} slow +{more:.0%}", f": {_own_ms(slow):.0f} ms of own work"
        style = STYLES["warning"]
    return Content.styled(words + (rest if len(words) + len(rest) <= width else ""), style)


def _own_ms(rank: RankStatus) -> float:
    """What a rank does without waiting for others: not the gradients on their way, which on a GPU hide in the backward pass."""
    if rank.device.startswith("cuda"):
        return rank.data_ms + rank.forward_ms
    return rank.data_ms + rank.forward_ms + rank.backward_ms + rank.optim_ms
