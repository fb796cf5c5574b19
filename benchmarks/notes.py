"""Why a row of the table misses its budget, or what its reader should know: words by the row's first column.

Written by people after a measurement. `python -m benchmarks` names every note whose row it did not find.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTES: Mapping[str, str] = {
    "cost of agreement, in a step on 2 CPU ranks": (
        "the exchange keeps the ranks in step; what it costs is less than what it saves"
    ),
}
