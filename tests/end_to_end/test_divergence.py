"""A rank whose weights are no longer those of the others is found before anything of it is saved."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.invariants import assert_sound, reference_of
from tests.end_to_end.runs import ended, finish, go_on, start_to, train

PLUGIN = Path(__file__).with_name("flipping_plugin.py")
SETS = ("model.arch=flipping", "train.steps=250", "checkpoint.every=25", "sample.every=0", "eval.every=0")


def test_a_flipped_bit_is_named_and_never_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit of one weight flips on rank 1: the next save names it, and the run ends with the bits of a healthy one."""
    armed = tmp_path / "armed"
    monkeypatch.setenv("FLIP_WHEN", str(armed))
    extra = ("--plugin", str(PLUGIN))
    train(tmp_path, "healthy", *SETS, extra=extra)
    with ended(start_to(tmp_path, "flipped", "rank.0.step.30", "stop", *SETS, extra=extra)) as process:
        armed.touch()
        go_on(tmp_path)
        lines = finish(process)
    assert armed.with_suffix(".fired").exists()
    feed = assert_sound(tmp_path, "flipped", reference_of(tmp_path, "healthy"), exit_code=0, told=lines)
    (failure,) = feed.state.failures
    assert failure.rank == 1
    assert "weights or optimizer state of rank 1 are not rank 0's after step" in failure.message
