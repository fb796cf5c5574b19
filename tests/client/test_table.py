"""Promises of `client.table`: rows by column, and arrays that stay as they were when they were taken."""

from __future__ import annotations

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.client.table import MIN_ROWS, Table

KINDS = {"step": np.int64, "loss": np.float64}


def rows(*steps: int, loss: float = 0.0) -> dict[str, array[float]]:
    """Rows of these steps, as they lie in a block."""
    return {"step": array("d", steps), "loss": array("d", [loss + step / 10 for step in steps])}


def steps_of(table: Table) -> list[int]:
    """Its steps; every column is as long."""
    columns = table.columns()
    assert {len(values) for values in columns.values()} == {len(table)}
    return [int(step) for step in columns["step"]]


@pytest.mark.parametrize(
    ("added", "steps"),
    [
        ([], []),
        ([(1, 2, 3)], [1, 2, 3]),
        ([(1, 2), (3,), ()], [1, 2, 3]),
        ([(1, 2, 3), (2,)], [1, 2]),
        ([(5, 6), (1,)], [1]),
        ([(1, 2), (9,)], [1, 2, 9]),
    ],
)
def test_rows_replace_those_from_their_first_step_on(added: list[tuple[int, ...]], steps: list[int]) -> None:
    """As a block of steps that are computed again does."""
    table = Table(KINDS)
    for block in added:
        table.extend(rows(*block))
    assert steps_of(table) == steps


@pytest.mark.parametrize(("last_step", "steps"), [(0, []), (2, [1, 2]), (3, [1, 2]), (4, [1, 2, 4]), (9, [1, 2, 4])])
def test_a_cut_forgets_what_came_after_a_step(last_step: int, steps: list[int]) -> None:
    """Whether or not the step itself is known."""
    table = Table(KINDS, rows(1, 2, 4))
    table.cut(last_step)
    assert steps_of(table) == steps


def test_columns_have_the_types_that_they_were_given() -> None:
    """Whatever types the rows came in, also where there are none."""
    for table in (Table(KINDS), Table(KINDS, rows(1)), Table(KINDS)):
        table.extend({"step": [2**53], "loss": np.array([0.5], np.float32)})
        columns = table.columns()
        assert {name: values.dtype.type for name, values in columns.items()} == KINDS
        assert columns["step"][-1] == 2**53


def test_an_array_cannot_be_written_to() -> None:
    """It is shared by all who ask."""
    with pytest.raises(ValueError, match="read-only"):
        Table(KINDS, rows(1)).columns()["loss"][0] = 1.0


@given(
    acts=st.lists(
        st.one_of(
            st.tuples(st.just("extend"), st.integers(1, 3 * MIN_ROWS)),
            st.tuples(st.just("cut"), st.integers(0, 99)),
        ),
        max_size=12,
    )
)
def test_what_was_handed_out_never_changes(acts: list[tuple[str, int]]) -> None:
    """However the table grows and is cut afterwards, also by exactly what was there before."""
    table, last, taken = Table(KINDS, rows(1, 2)), 2, []
    for number, (act, amount) in enumerate(acts):
        if act == "extend":
            table.extend(rows(*range(last + 1, last + 1 + amount), loss=number))
            last += amount
        else:
            last = last * amount // 100
            table.cut(last)
        assert len(table) == last
        columns = table.columns()
        taken.append((columns, {name: values.copy() for name, values in columns.items()}))
    for columns, copies in taken:
        assert all(np.array_equal(columns[name], copies[name]) for name in KINDS)


def test_a_table_can_begin_with_what_is_there_without_a_copy() -> None:
    """A record of a million steps is in memory once; to go on, it is moved."""
    found = rows(1, 2)
    table = Table(KINDS, found)
    assert np.shares_memory(table.columns()["loss"], np.frombuffer(found["loss"]))
    table.extend(rows(3))
    assert (steps_of(table), list(found["step"])) == ([1, 2, 3], [1.0, 2.0])
