"""A real run in the background that trains until it is told to stop, whatever is done to those who look at it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from plt_tui.control.folder import RunFolder
from tests.end_to_end.invariants import assert_sound
from tests.end_to_end.runs import UNHURRIED, command, options, show, wait_until

ENDLESS = ("train.steps=1000000", "optim.warmup=0", "optim.schedule=constant", "eval.every=0", "sample.every=0")
MORE_STEPS = 10


@contextmanager
def endless(place: Path, name: str, *sets: str) -> Iterator[RunFolder]:
    """The run `name` under `place`, with settings beyond ENDLESS.

    It never restarts, and nothing is wrong with what it leaves (see `invariants`).
    """
    command(place, "run", "--detach", "--name", name, *options(*ENDLESS, *sets), *UNHURRIED)
    folder = RunFolder(place / "runs" / name)
    try:
        trains_on(folder)
        yield folder
        trains_on(folder)
    finally:
        command(place, "ctl", name, "stop", "--now")
        wait_until(lambda: not folder.is_live())
    shown = show(place, name)
    assert (shown["state"], shown["restarts"]) == ("stopped", 0)
    assert_sound(place, name, None, exit_code=143)


def steps_of(run: RunFolder) -> int:
    """Steps that have been written down."""
    return run.metrics.read_bytes().count(b"\n") if run.metrics.exists() else 0


def trains_on(run: RunFolder) -> None:
    """Return once there are more steps; fail when there are none."""
    before = steps_of(run)
    wait_until(lambda: steps_of(run) >= before + MORE_STEPS)
