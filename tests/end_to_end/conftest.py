"""What the tests of faults share: a run that nothing is done to, made once."""

from __future__ import annotations

import pytest

from tests.end_to_end.invariants import Reference, reference_of
from tests.end_to_end.runs import train

SMALL = ("train.steps=50", "checkpoint.every=10", "checkpoint.keep=2", "eval.every=20", "sample.every=0")
"""Two ranks and all that a fault can hit, in a second of training."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What a run of `SMALL` computes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    train(folder, "undisturbed", *SMALL)
    return reference_of(folder, "undisturbed")
