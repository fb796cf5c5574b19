"""A metrics file read fast: a run of a million steps must open in seconds, so its steps stay columns and become no events.

Many lines are parsed at once; whatever is unusual about them (a torn line, a number that is a text, a missing field) is left to
the slow and exact reading of `events`. Does not know what follows from a step. Invariant: the items stand for the same events,
in the same order, as read line by line.
"""

from __future__ import annotations

import json
import operator
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any

from plt_tui.protocol.events import STEP_COLUMNS, Event, Step
from plt_tui.protocol.framing import decode, decode_lines, from_json

CHUNK_LINES = 512
"""Lines parsed at once: about 128 kB of text, which stays in the processor's cache (1 MB took a tenth longer)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Steps that follow each other, their numbers growing, with nothing else between them."""

    seq: int
    """Number in the record of the first one."""
    columns: Mapping[str, Sequence[float]]
    """Values of STEP_COLUMNS."""
    last: Step


def read_metrics(file: Iterator[bytes], others: Sequence[int]) -> Iterator[Event | Rows]:
    """The steps and evaluations in the lines of `file`, oldest first; `others`: sorted numbers of events before which rows end.

    Raises: ValueError for a broken line that is not the last.
    """
    lines = list(islice(file, CHUNK_LINES))
    while lines:
        following = list(islice(file, CHUNK_LINES))
        try:
            yield from _items(lines, others)
        except (KeyError, TypeError, ValueError, OverflowError):
            yield from map(decode, lines) if following else decode_lines(lines)
        lines = following


def _items(lines: Sequence[bytes], others: Sequence[int]) -> list[Event | Rows]:
    """What `lines` say. Raises: KeyError, TypeError, ValueError or OverflowError when that is not plain to see."""
    values = json.loads(b"[" + b",".join(lines) + b"]")
    seqs = [value["seq"] for value in values]
    if len(values) != len(lines) or not all(map(operator.lt, seqs, seqs[1:])):
        raise ValueError("more or less than one value in a line, or out of order")
    steps = [value for value in values if value["kind"] == Step.kind]
    events = [from_json(value) for value in values if value["kind"] != Step.kind]
    between = others[bisect_left(others, seqs[0]) : bisect_left(others, seqs[-1])]
    rows = _rows(steps, [*between, *(event.seq for event in events)]) if steps else []
    return sorted([*rows, *events], key=lambda item: item.seq)


def _rows(steps: Sequence[dict[str, Any]], others: Iterable[int]) -> list[Rows]:
    """`steps` by column, cut where one of `others` comes between two of them and where a step does not grow."""
    columns = {name: array("d", [value[name] for value in steps]) for name in STEP_COLUMNS}
    seqs = [value["seq"] for value in steps]
    repeats = (place for place, (before, step) in enumerate(pairwise(columns["step"]), start=1) if step <= before)
    cuts = sorted({0, len(steps), *repeats, *(bisect_left(seqs, seq) for seq in others)})
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
