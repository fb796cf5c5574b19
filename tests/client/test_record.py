"""Promises of `plt_tui.read_run`: a run from its files, without a hub and without an event loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import plt_tui
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_feed
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.events import End, Eval, Run, Step
from tests.client.hubs import NAME, held, write_record
from tests.control.said import rewind


def step(number: int, loss: float = 2.0) -> Step:
    """A step of which only the number and the loss matter."""
    return Step(time=1.0, step=number, loss=loss, lr=1e-3, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def evaluation(number: int) -> Eval:
    """An evaluation after a step."""
    return Eval(time=1.0, step=number, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.4)


BEGIN = Run(time=1.0, name=NAME, dir="d", world_size=2, params=1, target_step=9)
END = End(time=2.0, phase="finished", step=5, exit_code=0)
STORY = (BEGIN, step(1), step(2), evaluation(2), step(3), evaluation(3), rewind(2, 3), step(3, 9.0), step(4), step(5), END)


def test_a_finished_run_is_read(folder: RunFolder) -> None:
    """Its line, its evaluations, its branch and its state are those that its hub had."""
    write_record(folder, *STORY)
    read = plt_tui.read_run(NAME)
    assert (read.name, read.state) == (NAME, read_feed(folder).state)
    assert (read.history.step.tolist(), read.history.loss.tolist()) == ([1, 2, 3, 4, 5], [2.0, 2.0, 9.0, 2.0, 2.0])
    assert (read.evals.step.tolist(), read.branches[1].step.tolist()) == ([2], [3])
    assert read.history.step.dtype == np.int64


def test_arrays_of_a_record_are_read_only(folder: RunFolder) -> None:
    """As those of a connection."""
    write_record(folder, *STORY)
    with pytest.raises(ValueError, match="read-only"):
        plt_tui.read_run(NAME).history.loss[0] = 0.0


def test_a_run_whose_hub_died_has_failed(folder: RunFolder) -> None:
    """And its state says how to go on."""
    write_record(folder, BEGIN, step(1))
    state = plt_tui.read_run(NAME).state
    assert (state.phase, state.step) == ("failed", 1)
    assert "plt-tui run --resume auto --name quickstart" in state.reason


def test_of_a_live_run_what_is_on_disk_is_read(folder: RunFolder) -> None:
    """Nobody is asked, and it has not failed."""
    write_record(folder, BEGIN, step(1))
    with held(folder):
        assert plt_tui.read_run(folder.path).state.phase == "starting"


def test_a_run_that_has_said_nothing_yet(folder: RunFolder) -> None:
    """Has no rows, and no error."""
    read = plt_tui.read_run(NAME, directory=folder.path.parent)
    assert (len(read.history), len(read.evals), dict(read.branches)) == (0, 0, {})


def test_a_run_that_is_not_there(folder: RunFolder, tmp_path: Path) -> None:
    """As on the command line."""
    with pytest.raises(UsageError, match="no run 'nope' under runs; runs there: quickstart"):
        plt_tui.read_run("nope")
    with pytest.raises(UsageError, match="is not a run folder"):
        plt_tui.read_run(tmp_path)


def test_a_broken_record_is_named(folder: RunFolder) -> None:
    """The file, and what to do about it."""
    write_record(folder, *STORY)
    folder.journal.write_bytes(b"broken\n" + folder.journal.read_bytes())
    with pytest.raises(StorageError, match=r"journal\.jsonl cannot be read.*move it away"):
        plt_tui.read_run(NAME)
