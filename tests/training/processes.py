"""Two real processes for tests of what ranks do together."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.context import SpawnProcess
from typing import Any

DEADLINE_S = 60.0


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
        for process in processes:
            process.join(DEADLINE_S)
        assert [process.exitcode for process in processes] == [0, 0]
