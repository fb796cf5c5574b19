"""Best-fit packing: documents into rows of C + 1 tokens, so that rows begin with a document and hold whole ones where they fit.

Ding et al. 2024, "Fewer Truncations Improve Language Modeling" (arXiv 2404.10830), section 3. A document is what ends with
end-of-text, which belongs to it. One that is longer than a row is cut into full rows and a rest, each beginning with the last
token of the part before. Whole documents and rests are then placed by best-fit decreasing; a rest that does not come first in
its row leaves out the token it shares with the part before. Rows are filled up with PAD at their ends.

What is a target (all tokens of a row but its first): every token of every document exactly once per pass, except the first
token of a document that begins a row, which never is one, because nothing stands before it. Inside a row the first token of a
document is predicted from the end-of-text before it, as in joined documents. A document without end-of-text, which only the
last one can be, has a row of its own or ends one, so that nothing follows it.

Only an index is kept: where the parts begin in the token file, how long they are, and which parts form a row. Measured share
of places that hold a token: `builtin:python-docs` in bytes 0.9996 (C = 128) and 0.9975 (C = 512, 867 rows); 10**6 documents of
log-normal length (median 400 tokens, sigma 1.2) 0.9995 (C = 128, 1.0 s) and 0.9999 (C = 2048, 0.2 s) on one core. Invariant:
the index is a pure function of the tokens and the context.
"""

from __future__ import annotations

import bisect
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from plt_tui.data.tokenizer import TokenArray

PAD = -1
"""Stands where a packed row has no token."""

Int64 = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """Rows made of parts, parts made of tokens that follow each other. All arrays are int64."""

    starts: Int64
    """Index of each part's first token in the token array, (P,)."""
    token_offsets: Int64
    """Tokens in all parts before each part, (P + 1,)."""
    part_offsets: Int64
    """Parts in all rows before each row, (R + 1,)."""

    @property
    def num_rows(self) -> int:
        """R, at least 1."""
        return len(self.part_offsets) - 1


def row_tokens(tokens: TokenArray, packing: Packing, rows: npt.NDArray[np.intp], width: int) -> Int64:
    """The tokens of `rows` (N,), each filled up with PAD: (N, width)."""
    first, stop = packing.part_offsets[rows], packing.part_offsets[rows + 1]
    parts = _ranges(first, stop - first)
    positions = _ranges(packing.starts[parts], packing.token_offsets[parts + 1] - packing.token_offsets[parts])
    lengths = packing.token_offsets[stop] - packing.token_offsets[first]
    table = np.full((len(rows), width), PAD, dtype=np.int64)
    table[np.arange(width) < lengths[:, np.newaxis]] = tokens[positions]
    return table


def num_row_targets(packing: Packing, rows: npt.NDArray[np.intp]) -> int:
    """Targets in `rows`: all tokens but the first of each."""
    first, stop = packing.part_offsets[rows], packing.part_offsets[rows + 1]
    return int((packing.token_offsets[stop] - packing.token_offsets[first] - 1).sum())


def document_stops(blocks: Iterable[TokenArray], end_of_text: int) -> Int64:
    """Index behind each document's last token, (D,), in a token array that comes in `blocks`; the last document may be open."""
    stops, length = [], 0
    for block in blocks:
        stops.append(np.flatnonzero(block == end_of_text).astype(np.int64) + length + 1)
        length += len(block)
    found = np.concatenate(stops)
    return found if len(found) and found[-1] == length else np.append(found, length)


def pack(stops: Int64, context: int, *, is_last_open: bool) -> Packing:
    """The rows of documents that follow each other and stop at `stops` (D,), D >= 1.

    `is_last_open`: the last document has no end-of-text, so nothing may follow it in its row.
    """
    starts = np.concatenate(([0], stops[:-1]))
    is_long = stops - starts > context + 1
    num_full = np.where(is_long, (stops - starts - 1) // context, 0)
    full_starts = np.repeat(starts, num_full) + _ranges(np.zeros_like(num_full), num_full) * context
    rest_starts = starts + num_full * context
    left = np.flatnonzero(~is_long | (stops - rest_starts > 1))  # of a rest of one token all was a target already
    rests = rest_starts[left]
    lengths = stops[left] - rests
    # A part that takes a whole row, as far as packing knows, is alone in it.
    taken = np.where(is_last_open & (stops[left] == stops[-1]), context + 1, lengths)
    row, order = best_fit_decreasing(taken, context + 1)
    is_first = np.diff(row, prepend=-1) != 0
    overlap = ~is_first & is_long[left[order]]
    part_starts = np.concatenate((full_starts, rests[order] + overlap))
    part_lengths = np.concatenate((np.full(len(full_starts), context + 1, dtype=np.int64), lengths[order] - overlap))
    row_starts = np.concatenate((np.arange(len(full_starts)), np.flatnonzero(is_first) + len(full_starts), [len(part_starts)]))
    return Packing(part_starts, np.concatenate(([0], np.cumsum(part_lengths))), row_starts.astype(np.int64))


def best_fit_decreasing(lengths: Int64, capacity: int) -> tuple[Int64, Int64]:
    """Rows of `capacity` for things of `lengths` (N,), 1 to `capacity` each: the row of each thing, and which thing it is.

    Both (N,), by row and in the order in which they were placed. Things of one length go together into rows of equal space, so
    the work is about one step for each pair of a length and a space that meet, and not for each thing.
    """
    order = np.argsort(-lengths, kind="stable")
    sizes, first = np.unique(-lengths[order], return_index=True)
    counts = np.diff(first, append=len(order))
    row = np.empty(len(order), dtype=np.int64)
    shelf = _Shelf(capacity)
    for size, begin, count in zip((-sizes).tolist(), first.tolist(), counts.tolist(), strict=True):
        done = 0
        while done < count:
            rows, space = shelf.take(size, count - done)
            per_row = space // size
            placed = min(count - done, len(rows) * per_row)
            row[begin + done : begin + done + placed] = np.repeat(rows, per_row)[:placed]
            in_last = placed - (len(rows) - 1) * per_row
            shelf.put(rows[:-1], space - per_row * size)
            shelf.put(rows[-1:], space - in_last * size)
            done += placed
    by_row = np.argsort(row, kind="stable")
    return row[by_row], order[by_row]


class _Shelf:
    """Rows by the space that is left in them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._num_rows = 0
        self._rows: dict[int, list[Int64]] = {}
        self._spaces: list[int] = []
        """Keys of `_rows`, sorted."""

    def take(self, size: int, count: int) -> tuple[Int64, int]:
        """Some rows of the smallest space that holds `size`, no more than `count` things of it need; and that space."""
        index = bisect.bisect_left(self._spaces, size)
        if index == len(self._spaces):
            needed = -(-count // (self._capacity // size))
            self._num_rows += needed
            return np.arange(self._num_rows - needed, self._num_rows, dtype=np.int64), self._capacity
        space = self._spaces[index]
        needed = -(-count // (space // size))
        rows = self._rows[space].pop()
        if len(rows) > needed:
            self._rows[space].append(rows[needed:])
        elif not self._rows[space]:
            del self._rows[space], self._spaces[index]
        return rows[:needed], space

    def put(self, rows: Int64, space: int) -> None:
        """Rows with `space` left; without any they are never taken again."""
        if space and len(rows):
            if space not in self._rows:
                bisect.insort(self._spaces, space)
            self._rows.setdefault(space, []).append(rows)


def load(folder: Path) -> Packing:
    """The packing in `folder`, mapped into memory. Raises: OSError or ValueError when it is not there or not whole."""
    return Packing(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in Packing.__slots__))


def save(packing: Packing, folder: Path) -> None:
    """Write `packing` to `folder`, which appears only when it is complete; one process at a time. Raises: OSError."""
    stage = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(stage, ignore_errors=True)
    stage.mkdir()
    for name in Packing.__slots__:
        with (stage / f"{name}.npy").open("wb") as file:
            np.save(file, getattr(packing, name))
            file.flush()
            os.fsync(file.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    stage.rename(folder)


def _ranges(starts: Int64, lengths: Int64) -> Int64:
    """`range(start, start + length)` of each pair, joined."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()), dtype=np.int64)
