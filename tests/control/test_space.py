"""Promises of `control.space`: who trains is warned before a checkpoint does not fit, once, and with numbers."""

from __future__ import annotations

from functools import reduce
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control.space import shortage, space_alert
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.events import Checkpoint, Run

GIB = 1 << 30


@pytest.mark.parametrize(
    ("free", "last", "params", "was_short", "is_short"),
    [
        (13 * GIB, 10 * GIB, 0, False, False),
        (12 * GIB, 10 * GIB, 0, False, False),
        (12 * GIB - 1, 10 * GIB, 0, False, True),
        (13 * GIB, 10 * GIB, 0, True, True),
        (15 * GIB, 10 * GIB, 0, True, False),
        (0, 10 * GIB, 0, False, True),
        (None, 10 * GIB, 0, False, False),
        (None, 10 * GIB, 0, True, False),
        (0, 0, 0, False, False),
        (14 * GIB, 0, GIB, False, True),
        (15 * GIB, 0, GIB, False, False),
        (2 * GIB, 1 * GIB, GIB, False, False),
    ],
)
def test_space_is_short_before_the_next_checkpoint_does_not_fit(
    free: int | None, last: int, params: int, was_short: bool, is_short: bool
) -> None:
    """With a margin, a wider one to be clear of it; by the last checkpoint, else by the parameters; silent when unknown."""
    assert bool(shortage(free, last, params, was_short=was_short)) is is_short


def test_the_warning_says_how_much_is_needed_and_what_to_do() -> None:
    """In units that people read."""
    assert shortage(int(1.1 * GIB), 1 * GIB, 7, was_short=False) == (
        "the next checkpoint needs 1 GiB, and 1.1 GiB are free: "
        "make 410 MiB more room on the disk of the checkpoints, or it may not be saved"
    )
    assert shortage(999, 0, 1_000_000, was_short=False).startswith(
        "the next checkpoint needs up to 11.4 MiB, and 999 B are free: make 17.2 MiB more room"
    )


@given(free=st.lists(st.integers(0, 200), min_size=2, max_size=30))
def test_the_warning_does_not_flap(free: list[int]) -> None:
    """Between two changes of the answer the space has crossed both borders; a save that does not fit is never missed."""
    was_short = False
    for value in free:
        is_short = bool(shortage(value, 100, 0, was_short=was_short))
        assert is_short or value >= 120
        assert not is_short or value < 150
        if is_short is not was_short:
            assert (value < 120) if is_short else (value >= 150)
            was_short = is_short


@pytest.mark.parametrize("path", ["checkpoints/step-00000005", "{elsewhere}/step-00000005"])
def test_the_warning_names_what_was_set_aside(tmp_path: Path, path: str) -> None:
    """Nobody but a person deletes it, and it may be all that fills the disk; wherever the checkpoints lie."""
    path = path.format(elsewhere=tmp_path / "elsewhere")
    for name in ("step-00000007.aside-1a2b3c", "step-00000008.aside-1a2b3c"):
        folder = tmp_path / "run" / Path(path).with_name(name)
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(bytes(3 << 19))
    run = Run(name="run", dir=str(tmp_path / "run"), world_size=1, params=1, target_step=9)
    state = reduce(apply, [run, Checkpoint(step=5, path=path, bytes=GIB)], RunState())
    short = space_alert(state, GIB)
    assert short is not None
    assert short.text.endswith(f"; 2 set-aside checkpoints take 3 MiB in {(tmp_path / 'run' / path).parent} (*.aside-*)")


def test_it_is_told_once_and_taken_back_once() -> None:
    """However often the disk is looked at; the newest checkpoint says how much the next one needs."""
    state = apply(RunState(), Checkpoint(step=5, path="c", bytes=GIB))
    assert space_alert(state, 2 * GIB) is None
    short = space_alert(state, GIB)
    assert short is not None
    assert (short.topic, short.level) == ("disk", "warning")
    state = apply(state, short)
    assert space_alert(state, GIB // 2) is None
    clear = space_alert(state, 2 * GIB)
    assert clear is not None
    assert apply(state, clear).alerts == {}
