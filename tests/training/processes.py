"""Two real processes for tests of what ranks do together."""

import multiprocessing
from collections.abc import Callable
from typing import Any

DEADLINE_S = 60.0


def run_two(body: Callable[..., None], *arguments: Any) -> None:
    """Run `body(rank, *arguments)` in two fresh processes; both must end with exit code 0, and neither is left behind."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=body, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(DEADLINE_S)
        assert [process.exitcode for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.join()
            process.close()
