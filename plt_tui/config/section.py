"""What all sections of a configuration have in common.

Names no setting. Invariant: a section that exists is valid, and stays as it is.
"""

from __future__ import annotations

import ast
import inspect
from functools import cache
from itertools import pairwise

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all sections: unknown keys are errors, types are not guessed, values cannot change."""

    # Built when first used, so that a section inside another is not built twice; every process of a run waits for it.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


@cache
def field_docs(section: type[Section]) -> dict[str, str]:
    """The docstring under each field of `section`, on one line (PEP 257's attribute docstrings).

    Read from the source when somebody asks: pydantic's `use_attribute_docstrings` reads it at every start.
    """
    (definition,) = ast.parse(inspect.getsource(section)).body
    assert isinstance(definition, ast.ClassDef)
    docs: dict[str, str] = {}
    for line, below in pairwise(definition.body):
        match line, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
    return docs


def as_tuple(value: object) -> object:
    """TOML's lists are tuples here, so that a section can be hashed and never changes."""
    return tuple(value) if isinstance(value, list) else value
