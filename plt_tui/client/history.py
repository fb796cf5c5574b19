"""What a run has measured, as values: its steps and its evaluations by column.

Made from tables and kept nowhere. Invariant: a value is of one moment, all its arrays are of one length, and none of them
changes: a run that goes on, or back, is another value.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class _Columns:
    """What both kinds of rows have."""

    step: Ints
    """Completed steps, from 1, strictly growing."""
    time: Floats
    """Unix seconds."""
    loss: Floats
    """Nats per token."""

    def __len__(self) -> int:
        return len(self.step)

    def __repr__(self) -> str:
        name = type(self).__name__
        if not len(self):
            return f"<{name}: no rows>"
        return f"<{name}: {len(self)} rows, steps {self.step[0]} to {self.step[-1]}, last loss {self.loss[-1]:.4g}>"

    def as_dict(self) -> dict[str, npt.NDArray[Any]]:
        """All columns by name, as `pandas.DataFrame` and `polars.DataFrame` take them."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class History(_Columns):
    """The steps of one line of a run, one value per step in each read-only array. `loss` is that before the step's update."""

    lr: Floats
    grad_norm: Floats
    """Global L2 norm of the averaged gradient before clipping."""
    tokens: Ints
    """Trained on since step 0, the step included."""
    tokens_per_s: Floats
    step_ms: Floats
    data_ms: Floats
    """Milliseconds of the step that went into its batch."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evals(_Columns):
    """The evaluations of one line of a run, one value per evaluation in each read-only array."""

    perplexity: Floats
    bits_per_byte: Floats
    """loss / ln 2 x tokens per byte of text: comparable across tokenizers."""
    accuracy: Floats
    """Share of next tokens whose most probable guess was right, 0 to 1."""
    tokens: Ints
    """Evaluated on."""
    seconds: Floats
    """That the evaluation took."""
