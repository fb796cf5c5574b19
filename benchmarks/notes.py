"""Why a row of the table misses its budget, or what its reader should know: words by the row's first column.

Written by people after a measurement. `python -m benchmarks` names every note whose row it did not find.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTES: Mapping[str, str] = {
    "tokens/s against a bare torch DDP loop, 2 ranks, by the whole time": "the four pairs spread from 0.968 to 1.053",
    "cost of agreement, in a step on 2 CPU ranks": (
        "the exchange keeps the ranks in step; what it costs is less than what it saves"
    ),
    "tokens/s with the UI attached, 200x60, against headless": (
        "the eight windows spread from 0.963 to 0.998; the UI's own CPU is 1.0 % of two cores"
    ),
}
