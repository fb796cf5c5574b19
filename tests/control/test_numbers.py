"""Promises of `control.numbers`: it says what a list of numbers would, and keeps only where they jump."""

from __future__ import annotations

import tracemalloc
from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control.numbers import Numbers

ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 3), st.integers(1, 4)),
        st.tuples(st.just("cut"), st.integers(0, 40), st.just(0)),
    ),
    max_size=40,
)


@given(actions=ACTIONS)
def test_it_says_what_a_list_would(actions: list[tuple[str, int, int]]) -> None:
    """Over gaps and cuts: the number of every row, and how many rows come before any number."""
    numbers, expected, last = Numbers(), list[int](), 0
    for what, value, count in actions:
        if what == "append":
            first = last + value
            last = first + count - 1
            numbers.append(first, count)
            expected.extend(range(first, last + 1))
        else:
            numbers.cut(value)
            del expected[value:]
        assert len(numbers) == len(expected)
        assert [numbers.at(row) for row in range(len(expected))] == expected
        assert [numbers.before(number) for number in range(last + 3)] == [
            bisect_left(expected, number) for number in range(last + 3)
        ]
        jumps = [number != before + 1 for before, number in zip([-1, *expected], expected, strict=False)]
        assert numbers.num_jumps == sum(jumps)


def test_rows_that_were_never_recorded_come_before_every_number() -> None:
    """A feed without a record has no numbers, and still every row."""
    numbers = Numbers()
    for _ in range(3):
        numbers.append(0)
    assert [numbers.at(row) for row in range(3)] == [0, 0, 0]
    assert (numbers.before(0), numbers.before(1), numbers.before(10)) == (0, 3, 3)


def test_a_million_steps_cost_less_than_a_megabyte() -> None:
    """With something else recorded after every 50 of them."""
    tracemalloc.start()
    try:
        numbers = Numbers()
        for number in range(1, 1_020_001, 51):
            numbers.append(number, 50)
        num_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(numbers) == 1_000_000
    assert numbers.at(999_999) == 1_019_999
    assert num_bytes < 1_000_000
