"""Measurements as rows of a Markdown table, and the table's place in the README.

Measures nothing. Invariant: a row's verdict rests on the statistic that its text names first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

START, END = "<!-- measured: begin -->", "<!-- measured: end -->"
"""Lines of the README between which `write_between` puts the table."""

_HEADINGS = ("what", "budget", "measured", "met", "note")

Statistic = Literal["median", "p95"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `is_met`: None where there is no budget."""

    what: str
    measured: str
    budget: str = ""
    is_met: bool | None = None


def row(
    what: str,
    values: Sequence[float],
    unit: str = "",
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    budget: str = "",
    by: Statistic = "median",
) -> Row:
    """The row of one quantity measured `len(values)` times, judged by one limit or none.

    budget: the limit in words, made from its value when left out. by: the statistic that must keep to the limit.
    """
    judged = median(values) if by == "median" else p95(values)
    if at_most is not None:
        verdict, limit = judged <= at_most, f"≤ {at_most:g} {unit}"
    elif at_least is not None:
        verdict, limit = judged >= at_least, f"≥ {at_least:.2f} {unit}"
    else:
        return Row(what=what, measured=_spread(values, unit, by))
    return Row(what=what, measured=_spread(values, unit, by), budget=budget or limit.strip(), is_met=verdict)


def p95(values: Sequence[float]) -> float:
    """The smallest value that at least 95 % of `values` do not exceed (nearest rank)."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def number(value: float) -> str:
    """Four significant digits between 1 and 1000, no fraction above, three decimals below."""
    decimals = next((digits for digits, limit in ((3, 10), (2, 100), (1, 1000)) if abs(value) < limit), 0)
    return f"{value:,.{decimals}f}"


def render(head: str, rows: Sequence[Row], notes: Mapping[str, str]) -> str:
    """The head line and the table in Markdown; `notes` has words for a row under its `what`."""
    lines = [head, "", _line(_HEADINGS), _line(["---"] * len(_HEADINGS))]
    for measured in rows:
        verdict = {True: "yes", False: "**no**", None: ""}[measured.is_met]
        lines.append(_line([measured.what, measured.budget, measured.measured, verdict, notes.get(measured.what, "")]))
    return "\n".join(lines) + "\n"


def write_between(text: str, table: str) -> str:
    """`text` with what lies between the lines START and END replaced by `table`.

    Raises: ValueError when the two lines are not there in this order.
    """
    before, start, rest = text.partition(f"{START}\n")
    _, end, after = rest.partition(END)
    if not (start and end):
        raise ValueError(f"the text needs a line {START} and a line {END} after it")
    return f"{before}{start}\n{table}\n{end}{after}"


def _spread(values: Sequence[float], unit: str, by: Statistic) -> str:
    middle = f"{number(median(values))} {unit}".strip()
    first = middle if by == "median" else f"p95 {number(p95(values))} {unit}, median {middle}"
    if len(values) == 1:
        return f"{first} (n = 1)"
    return f"{first} ({number(min(values))} to {number(max(values))}, n = {len(values)})"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
