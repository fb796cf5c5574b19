"""Where a step's time goes: marks become parts that add up."""

import time

import torch

from plt_tui.training.clock import Part, StepClock, StepParts
from plt_tui.training.pulse import Pulse


def test_parts_add_up_to_the_step() -> None:
    """Micro-steps are added up, "other" is left out, and nothing is counted twice."""
    clock = StepClock(torch.device("cpu"), Pulse())
    started = time.perf_counter()
    for part in ("data", "forward", "backward", "data", "forward", "backward", "comm", "other", "optim"):
        clock.mark(part)  # type: ignore[arg-type]  # parts all
        _spin(0.002)
    parts = clock.close()
    whole_ms = (time.perf_counter() - started) * 1e3
    marked = parts.data + parts.forward + parts.backward + parts.comm + parts.optim
    assert parts.data >= 4.0
    assert parts.comm >= 2.0
    assert whole_ms - 2.0 >= marked >= 16.0


def test_the_next_step_starts_from_nothing() -> None:
    """A closed step leaves nothing behind."""
    clock = StepClock(torch.device("cpu"), Pulse())
    clock.mark("optim")
    _spin(0.002)
    clock.close()
    assert clock.close() == StepParts()


def test_a_mark_is_a_sign_of_life_and_tells_waiting_from_working() -> None:
    """Gradients on their way are waited for at the end of a CPU's backward pass; a GPU's are when their norm is read."""
    pulse = Pulse()
    clock = StepClock(torch.device("cpu"), pulse)
    seen = []
    parts: tuple[Part, ...] = ("data", "forward", "backward", "comm", "other", "optim", "other")
    for part in parts:
        clock.mark(part)
        seen.append(pulse.is_waiting)
    assert seen == [False, False, False, True, False, False, False]
    assert pulse.beats == len(parts)


def _spin(seconds: float) -> None:
    """Be busy for at least so long: a sleep would do, but may return late on a busy machine in just one part."""
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
