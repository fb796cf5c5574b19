"""What all sections of a configuration have in common.

Names no setting. Invariant: a section that exists is valid, and stays as it is.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, types are not guessed, values cannot change."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False)


def as_tuple(value: object) -> object:
    """TOML's lists are tuples here, so that a section can be hashed and never changes."""
    return tuple(value) if isinstance(value, list) else value
