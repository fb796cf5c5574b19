"""Why a row of the table misses its budget, or what its reader should know: words by the row's first column.

Written by people after a measurement. `python -m benchmarks` names every note whose row it did not find.
"""

from __future__ import annotations

from collections.abc import Mapping

NOTES: Mapping[str, str] = {
    "first training step after `plt-tui run`, beyond torch's import": (
        "both ranks import torch at once, on two cores that the hub needs too; alone the import takes 1.3 s"
    ),
    "tokens/s with the UI attached, 200x60, against headless": (
        "the eight windows spread from 0.962 to 1.032; the UI's own CPU is 0.9 % of two cores"
    ),
}
