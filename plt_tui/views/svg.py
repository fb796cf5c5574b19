"""The curves of a run as one SVG picture: loss, learning rate and gradient norm over the steps, with what was done to the run.

Pure text from numbers: no browser, no font file, no script, and every word from outside is escaped. Does not know what an event
is. Invariant: the picture's size does not grow with the number of steps, and no step is averaged away: each pixel column shows
the smallest and the largest value in it.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median_high, median_low
from typing import Literal, TypeAlias
from xml.sax.saxutils import escape

from plt_tui.protocol.text import safe_line
from plt_tui.views.axis import nice_ticks, padded_range, tick_labels
from plt_tui.views.formats import format_count, format_value

Columns: TypeAlias = Mapping[str, Sequence[float]]
"""Values by the names of STEP_COLUMNS, all of one length, `step` growing."""
Point: TypeAlias = tuple[float, float]
MarkKind: TypeAlias = Literal["edit", "rewind", "spike", "restart"]

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""One for each mark that is drawn; the lab log has them all."""

WIDTH, LEFT, RIGHT = 1000, 70, 980
"""Pixels: the picture, and where the plots begin and end."""
HEAD, GAP, FOOT = 78, 36, 40
MARK_ROWS, MARK_PX = 3, 20
"""Letters that would overlap go into the next row above the plots."""
LEGEND_ROW, LEGEND_CHARS = 20, 60
SMOOTH_PARTS, SMOOTH_REACH = 200, 2
"""The smooth curve goes through the medians of so many parts, each averaged with so many neighbours on both sides."""

FONTS = "system-ui, sans-serif"
BLUE, PALE, ORANGE, GREY, RED = "#1d5fa6", "#8db6e0", "#d9730d", "#c3c3c3", "#cf3a3a"
INK, FAINT, RULE = "#2b2b2b", "#757575", "#e9e9e9"
MARK_COLOURS: Mapping[MarkKind, str] = {"edit": BLUE, "rewind": "#7a4bb3", "spike": RED, "restart": "#4a4a4a"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Something that happened at a step, in words."""

    step: int
    kind: MarkKind
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """From values to pixels; what lies outside the range is drawn at its edge."""

    low: float
    high: float
    start: float
    """Pixel of `low`."""
    stop: float
    ticks: Sequence[tuple[float, str]] = ()
    """Values and what to write beside them."""

    def __call__(self, value: float) -> float:
        """The pixel of `value`."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + share * (self.stop - self.start)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Panel:
    column: str
    title: str
    height: int
    ticks: int
    is_noisy: bool = True


_PANELS = (
    _Panel(column="loss", title="training loss, nats per token", height=300, ticks=6),
    _Panel(column="lr", title="learning rate", height=72, ticks=3, is_noisy=False),
    _Panel(column="grad_norm", title="gradient norm", height=96, ticks=3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trace:
    """One curve, thinned to what the pixels can show."""

    raw: list[Point]
    smooth: list[Point]
    broken: list[float]
    """Steps whose value is no finite number, one per pixel column."""


def picture(
    *,
    title: str,
    subtitle: str,
    line: Columns,
    branches: Sequence[Columns] = (),
    evals: Sequence[Point] = (),
    marks: Iterable[Mark] = (),
) -> str:
    """The SVG document.

    line: the steps of the line that the run is on. branches: what rewinds left, drawn dim. evals: (step, loss).
    """
    in_order = sorted(marks, key=lambda mark: mark.step)
    drawn, num_more = in_order[: len(LETTERS)], len(in_order[len(LETTERS) :])
    across = _step_scale([*branches, line], drawn)
    places = _mark_places([across(mark.step) for mark in drawn])
    top = HEAD + MARK_PX * (1 + max((row for _, row in places), default=-1))
    bottom = top + sum(GAP + panel.height for panel in _PANELS)
    body = list(_draw_marks(drawn, places, across, top, bottom))
    for panel in _PANELS:
        top += GAP
        traces = [_trace(each, panel.column, across) for each in (*branches, line)]
        body += _draw(panel, top, across, traces, evals if panel.column == "loss" else ())
        top += panel.height
    body += _steps_axis(across, bottom)
    body += _legend(drawn, num_more, bottom + FOOT + LEGEND_ROW)
    height = bottom + FOOT + LEGEND_ROW * (math.ceil(len(drawn) / 2) + bool(num_more) + bool(drawn))
    keys = _keys(has_branches=bool(branches), has_evals=bool(evals))
    return "\n".join([*_head(title, subtitle, height), *keys, *body, "</svg>\n"])


def thinned(columns: Columns, name: str, num_parts: int) -> tuple[list[Point], list[float]]:
    """Smallest and largest value of `name` in each of `num_parts` parts, in the order in which they came.

    Beside them one step of each part that holds values which are no finite numbers.
    """
    steps, values = columns["step"], columns[name]
    points: list[Point] = []
    broken: list[float] = []
    for part in _parts(steps, num_parts):
        at, chunk = steps[part], values[part]
        if not math.isfinite(sum(chunk)):  # quick; an overflow is looked at too
            broken += [step for step, value in zip(at, chunk, strict=True) if not math.isfinite(value)][:1]
            at = [step for step, value in zip(at, chunk, strict=True) if math.isfinite(value)]
            chunk = [value for value in chunk if math.isfinite(value)]
        if chunk:
            ends = {chunk.index(min(chunk)), chunk.index(max(chunk))}
            points += [(at[index], chunk[index]) for index in sorted(ends)]
    return points, broken


def smoothed(columns: Columns, name: str, num_parts: int) -> list[Point]:
    """A curve through the medians of `num_parts` parts, each averaged with its neighbours: one far value does not move it."""
    steps, values = columns["step"], columns[name]
    middles = [
        (fmean(steps[part]), _median(finite))
        for part in _parts(steps, num_parts)
        if (finite := [value for value in values[part] if math.isfinite(value)])
    ]
    curve = []
    for index, (step, _) in enumerate(middles):
        reach = min(SMOOTH_REACH, index, len(middles) - 1 - index)  # the same on both sides, so that no end is pulled inwards
        near = middles[index - reach : index + reach + 1]
        curve.append((step, sum(value / len(near) for _, value in near)))
    return curve


def _median(values: Sequence[float]) -> float:
    return median_low(values) / 2 + median_high(values) / 2  # halved first: the sum of two floats may overflow


def usual_top(values: Sequence[float]) -> float:
    """The largest of `values`, or a limit well above all but a few that would press the rest flat."""
    in_order = sorted(values)
    low, high, usual = in_order[0], in_order[-1], in_order[int(0.98 * (len(in_order) - 1))]
    limit = usual + 2 * (usual - low)
    return limit if limit > low and high > limit + (limit - low) else high


def _parts(steps: Sequence[float], num_parts: int) -> Iterator[slice]:
    """`steps` cut into at most `num_parts` parts of the same width, none of them empty."""
    if len(steps) <= num_parts:
        yield from (slice(index, index + 1) for index in range(len(steps)))
        return
    width = (steps[-1] - steps[0]) / num_parts
    edges = [bisect_left(steps, steps[0] + part * width) for part in range(num_parts)]
    yield from (slice(start, stop) for start, stop in pairwise([*edges, len(steps)]) if start < stop)


def _trace(columns: Columns, name: str, across: Scale) -> _Trace:
    steps = columns["step"]
    pixels = max(1, math.ceil(across(steps[-1]) - across(steps[0]))) if len(steps) else 1
    raw, broken = thinned(columns, name, pixels)
    parts = max(1, round(SMOOTH_PARTS * pixels / (RIGHT - LEFT)))
    return _Trace(raw=raw, smooth=smoothed(columns, name, parts), broken=broken)


def _step_scale(lines: Sequence[Columns], marks: Sequence[Mark]) -> Scale:

    ends = [step for line in lines if len(line["step"]) for step in (line["step"][0], line["step"][-1])]
    ends += [mark.step for mark in marks]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    high = max(high, low + 1)
    ticks = [tick for tick in nice_ticks(low, high, 10) if tick.is_integer()]
    labels = tick_labels(ticks, format_count)
    return Scale(low=low, high=high, start=LEFT, stop=RIGHT, ticks=list(zip(ticks, labels, strict=True)))


def _value_scale(points: Sequence[Point], panel: _Panel, top: float) -> Scale:

    values = [value for _, value in points]
    low, high = padded_range(min(values), usual_top(values) if panel.is_noisy else max(values))
    ticks = nice_ticks(low, high, panel.ticks)
    pairs = list(zip(ticks, tick_labels(ticks), strict=True))
    return Scale(low=low, high=high, start=top + panel.height, stop=top, ticks=pairs)


def _draw(panel: _Panel, top: int, across: Scale, traces: Sequence[_Trace], evals: Sequence[Point]) -> Iterator[str]:
    """One panel with its axis; the last of `traces` is the line that the run is on."""
    evals = [(step, loss) for step, loss in evals if math.isfinite(loss)]
    points = [*(point for trace in traces for point in trace.raw), *evals]
    yield _text(LEFT, top - 10, panel.title, fill=INK, size=13, halo=True)
    if not points:
        yield _text((LEFT + RIGHT) / 2, top + panel.height / 2, "nothing to show", anchor="middle")
        return
    up = _value_scale(points, panel, top)
    for value, label in up.ticks:
        yield f'<path d="M{LEFT} {up(value):.1f}H{RIGHT}" stroke="{RULE}"/>'
        yield _text(LEFT - 8, up(value) + 4, label, anchor="end")
    *left_behind, line = traces
    for trace in left_behind:
        yield _path(trace.raw, across, up, GREY, 1.0)
    yield _path(line.raw, across, up, PALE if panel.is_noisy else BLUE, 1.0 if panel.is_noisy else 1.8)
    if panel.is_noisy:
        yield _path(line.smooth, across, up, BLUE, 2.0)
    for step, loss in evals:
        yield f'<circle cx="{across(step):.1f}" cy="{up(loss):.1f}" r="3.6" fill="{ORANGE}" stroke="#fff" stroke-width="1.2"/>'
    for trace in traces:
        yield from (_cross(across(step), top + 7) for step in trace.broken)
    yield from _beyond(points, across, up)


def _path(points: Sequence[Point], across: Scale, up: Scale, colour: str, width: float) -> str:
    """A curve; a single point is a dot."""
    places = [f"{across(step):.1f} {up(value):.1f}" for step, value in points]
    if len(places) == 1:
        places *= 2
    path = "M" + "L".join(places) if places else ""
    style = 'fill="none" stroke-linejoin="round" stroke-linecap="round"'
    return f'<path d="{path}" {style} stroke="{colour}" stroke-width="{width}"/>'


def _cross(x: float, y: float) -> str:
    return f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{RED}" stroke-width="2"/>'


def _beyond(points: Sequence[Point], across: Scale, up: Scale) -> Iterator[str]:
    """Arrows where values leave the plot, and how far the largest one goes."""
    far = [(step, value) for step, value in points if value > up.high]
    for x in sorted({round(across(step)) for step, _ in far}):
        yield f'<path d="M{x - 4} {up.stop + 7:.1f}h8l-4 -7z" fill="{RED}"/>'
    if far:
        step, value = max(far, key=lambda point: point[1])
        is_left = across(step) > (LEFT + RIGHT) / 2
        place = across(step) + (-8 if is_left else 8)
        words = f"{format_value(value)} at step {step:.0f}"
        yield _text(place, up.stop + 14, words, fill=RED, anchor="end" if is_left else "start", halo=True)


def _keys(*, has_branches: bool, has_evals: bool) -> Iterator[str]:
    """What the strokes mean, in the right upper corner, where no mark's line passes."""
    keys = [("each step", PALE), ("smoothed", BLUE)]
    keys += [("evaluation", ORANGE)] * has_evals + [("left behind by a rewind", GREY)] * has_branches
    x, y = float(RIGHT), 28
    for words, colour in reversed(keys):
        x -= round(6.6 * len(words))
        yield _text(x, y + 4, words)
        if colour == ORANGE:
            yield f'<circle cx="{x - 9}" cy="{y}" r="3.6" fill="{colour}"/>'
        else:
            yield f'<path d="M{x - 24} {y}h18" stroke="{colour}" stroke-width="2.4"/>'
        x -= 40


def _steps_axis(across: Scale, bottom: float) -> Iterator[str]:
    yield f'<path d="M{LEFT} {bottom}H{RIGHT}" stroke="{FAINT}"/>'
    for step, label in across.ticks:
        yield f'<path d="M{across(step):.1f} {bottom}v5" stroke="{FAINT}"/>'
        yield _text(across(step), bottom + 19, label, anchor="middle")
    yield _text(LEFT - 8, bottom + 19, "step", anchor="end")


def _mark_places(xs: Sequence[float]) -> list[tuple[float, int]]:
    """Where each letter stands, from left to right: its pixel and its row; crowded ones move to the right of the one before."""
    ends = [-math.inf] * MARK_ROWS
    places = []
    for x in xs:
        row = next((row for row, end in enumerate(ends) if x - end >= MARK_PX), None)
        if row is None:
            row = ends.index(min(ends))
            x = ends[row] + MARK_PX
        ends[row] = x
        places.append((x, row))
    return places


def _draw_marks(
    marks: Sequence[Mark], places: Sequence[tuple[float, int]], across: Scale, top: float, bottom: float
) -> Iterator[str]:
    """A letter above the plots and a dotted line through them for each mark; all letters lie above all lines."""
    discs = []
    for letter, mark, (x, row) in zip(LETTERS, marks, places, strict=False):
        y, at = HEAD + MARK_PX * row, across(mark.step)
        path = f"M{x:.1f} {y + 9}L{at:.1f} {top}V{bottom}"
        yield f'<path d="{path}" fill="none" stroke="{MARK_COLOURS[mark.kind]}" stroke-dasharray="2 4" stroke-opacity=".8"/>'
        discs.append(_letter(letter, mark.kind, x, y))
    yield from discs


def _legend(marks: Sequence[Mark], num_more: int, y: float) -> Iterator[str]:
    """What each letter stands for, in two columns, down the first one first."""
    num_rows = math.ceil(len(marks) / 2)
    for index, (letter, mark) in enumerate(zip(LETTERS, marks, strict=False)):
        column, row = divmod(index, num_rows)
        x, at = LEFT + column * (RIGHT - LEFT) / 2, y + row * LEGEND_ROW
        words = safe_line(f"step {mark.step}: {mark.text}")
        shown = words if len(words) <= LEGEND_CHARS else f"{words[: LEGEND_CHARS - 1]}…"
        yield _letter(letter, mark.kind, x + 8, at)
        yield _text(x + 24, at + 4, shown, fill=INK)
    if num_more:
        yield _text(LEFT, y + num_rows * LEGEND_ROW + 4, f"and {num_more} more, which the lab log lists")


def _letter(letter: str, kind: MarkKind, x: float, y: float) -> str:
    disc = f'<circle cx="{x:.1f}" cy="{y}" r="8.5" fill="{MARK_COLOURS[kind]}"/>'
    return disc + _text(x, y + 4, letter, fill="#fff", anchor="middle", weight=600)


def _head(title: str, subtitle: str, height: float) -> list[str]:
    name = escape(safe_line(title))
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" font-family="{FONTS}">',
        f"<title>{name}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        _text(LEFT, 32, title, fill=INK, size=20, weight=600),
        _text(LEFT, 53, subtitle, size=13),
    ]


def _text(
    x: float,
    y: float,
    words: str,
    *,
    fill: str = FAINT,
    size: int = 12,
    anchor: str = "start",
    weight: int = 400,
    halo: bool = False,
) -> str:
    """One line of text; with a halo it can be read over lines."""
    style = f'font-size="{size}" fill="{fill}" text-anchor="{anchor}" font-weight="{weight}"'
    style += ' stroke="#fff" stroke-width="4" paint-order="stroke"' if halo else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(safe_line(words))}</text>'
