"""Promises of `control.placement`: which processes run where, for every machine and request."""

from __future__ import annotations

from typing import Any

import pytest

from plt_tui.config.schema import ParallelSection
from plt_tui.control.placement import MAX_AUTO_CPU_RANKS, place
from plt_tui.errors import UsageError

TABLE: list[tuple[dict[str, Any], int, list[int], tuple[str, ...], int]] = [
    # what was asked for,                    cores, GPUs,     devices,                threads
    ({}, 1, [], ("cpu",), 1),
    ({}, 2, [], ("cpu",) * 2, 1),
    ({}, 64, [], ("cpu",) * MAX_AUTO_CPU_RANKS, 16),
    ({"ranks": 6}, 64, [], ("cpu",) * 6, 10),
    ({"ranks": 3}, 2, [], ("cpu",) * 3, 1),
    ({"threads": 5}, 4, [], ("cpu",) * 4, 5),
    ({}, 16, [0, 1], ("cuda:0", "cuda:1"), 8),
    ({"ranks": 1}, 16, [0, 1], ("cuda:0",), 16),
    ({"device": "cpu"}, 2, [0, 1], ("cpu",) * 2, 1),
    ({"device": "cuda"}, 16, [2, 5], ("cuda:2", "cuda:5"), 8),
    ({"device": "cuda:1"}, 16, [0, 1, 2], ("cuda:1",), 16),
]


@pytest.mark.parametrize(("asked", "cores", "gpus", "devices", "threads"), TABLE)
def test_where_ranks_run(asked: dict[str, Any], cores: int, gpus: list[int], devices: tuple[str, ...], threads: int) -> None:
    """One rank per GPU, else one per core and at most four; all cores are shared out and nobody is left without a thread."""
    placement = place(ParallelSection(**asked), cores, gpus)
    assert (placement.devices, placement.threads) == (devices, threads)


@pytest.mark.parametrize(
    ("asked", "gpus", "said"),
    [
        ({"device": "cuda"}, [], "cuda was asked for, but the usable GPUs are: none"),
        ({"device": "cuda:7"}, [0, 1], "cuda:7 was asked for, but the usable GPUs are: cuda:0, cuda:1"),
        ({"device": "cuda:1"}, [11], "usable GPUs are: cuda:11"),
        ({"ranks": 3}, [0, 1], "3 ranks need 3 GPUs, but there are 2"),
        ({"device": "cuda:1", "ranks": 2}, [0, 1], "2 ranks need 2 GPUs, but there are 1"),
    ],
)
def test_missing_gpus_are_refused_by_name(asked: dict[str, Any], gpus: list[int], said: str) -> None:
    """The message says what was asked for and what there is."""
    with pytest.raises(UsageError, match=said):
        place(ParallelSection(**asked), 4, gpus)
