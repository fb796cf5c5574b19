"""Why a row of the table misses its budget, or what its reader should know: words by the row's first column.

Written by people after a measurement. `python -m benchmarks` names every note whose row it did not find.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTES: Mapping[str, str] = {
    "tokens/s against a bare torch DDP loop, 2 ranks, by median step": (
        "measured alone, at 1fc4631; the ranks' own loop is 0.4 % behind the bare one in the same processes (docs/LOG.md)"
    ),
    "tokens/s against a bare torch DDP loop, 2 ranks, by the whole time": "the same",
    "tokens/s with the UI attached, 200x60, against headless": (
        "the eight windows spread from 0.963 to 0.998; the UI's own CPU is 1.0 % of two cores"
    ),
}
