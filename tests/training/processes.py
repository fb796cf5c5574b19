"""Two real processes for tests of what ranks do together."""

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from typing import Any

DEADLINE_S = 100.0
"""Two processes import torch on cores that others use; below what a test may take."""


@contextlib.contextmanager
def two(body: Callable[..., None], *arguments: Any) -> Iterator[list[SpawnProcess]]:
    """Two fresh processes that run `body(rank, *arguments)`; neither is left behind."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=body, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()


def run_two(body: Callable[..., None], *arguments: Any) -> None:
    """Run `body(rank, *arguments)` in two fresh processes; both must end with exit code 0."""
    with two(body, *arguments) as processes:
        give_up_at = time.monotonic() + DEADLINE_S
        for process in processes:
            process.join(max(0.0, give_up_at - time.monotonic()))
        assert [process.exitcode for process in processes] == [0, 0]
