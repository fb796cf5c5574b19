"""A metrics file read fast: a run of a million steps must open in seconds, so its steps stay columns and become no events.

Many lines are parsed at once; whatever is unusual about them (a torn line, a number that is a text, a missing field) is left to
the slow and exact reading of `events`. Does not know what follows from a step. Invariant: the items stand for the same events,
in the same order, as read line by line.
"""

from __future__ import annotations

import json
import operator
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from plt_tui.protocol.events import STEP_COLUMNS, Event, Step
from plt_tui.protocol.framing import decode, decode_lines, from_json

CHUNK_LINES = 512
"""Lines parsed at once: about 128 kB of text, which stays in the processor's cache (1 MB took a tenth longer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Steps that follow each other, each greater than the one before, as their numbers in the record do without a gap."""

    seq: int
    """Number in the record of the first one."""
    columns: Mapping[str, Sequence[float]]
    """Values of STEP_COLUMNS."""
    last: Step


def read_metrics(file: Iterator[bytes]) -> Iterator[Event | Rows]:
    """The steps and evaluations in the lines of `file`, oldest first.

    Raises: ValueError for a broken line that is not the last.
    """
    lines = list(islice(file, CHUNK_LINES))
    while lines:
        following = list(islice(file, CHUNK_LINES))
        try:
            yield from _items(lines)
        except (KeyError, TypeError, ValueError, OverflowError):
            yield from map(decode, lines) if following else decode_lines(lines)
        lines = following


def _items(lines: Sequence[bytes]) -> list[Event | Rows]:
    """What `lines` say. Raises: KeyError, TypeError, ValueError or OverflowError when that is not plain to see."""
    values = json.loads(b"[" + b",".join(lines) + b"]")
    seqs = [value["seq"] for value in values]
    if len(values) != len(lines) or not all(map(operator.lt, seqs, seqs[1:])):
        raise ValueError("more or less than one value in a line, or out of order")
    steps = [value for value in values if value["kind"] == Step.kind]
    events = [from_json(value) for value in values if value["kind"] != Step.kind]
    return sorted([*(_rows(steps) if steps else []), *events], key=lambda item: item.seq)


def _rows(steps: Sequence[dict[str, Any]]) -> list[Rows]:
    """`steps` by column, cut where something else was recorded between two of them and where a step does not grow."""
    columns = {name: array("d", [value[name] for value in steps]) for name in STEP_COLUMNS}
    seqs = [value["seq"] for value in steps]
    rises = map(operator.sub, columns["step"][1:], columns["step"])
    gaps = map(operator.sub, seqs[1:], seqs)
    breaks = (place for place, (rise, gap) in enumerate(zip(rises, gaps, strict=True), start=1) if rise <= 0 or gap != 1)
    cuts = [0, *breaks, len(steps)]
    return [
        Rows(
            seq=seqs[start],
            columns={name: values[start:stop] for name, values in columns.items()},
            last=_step(steps[stop - 1]),
        )
        for start, stop in pairwise(cuts)
    ]


def _step(value: dict[str, Any]) -> Step:
    event = from_json(value)
    assert isinstance(event, Step)
    return event
