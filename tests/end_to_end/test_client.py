"""The client library against real runs of two ranks: what a program sees and does is what the record holds."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

import plt_tui
from plt_tui import events
from plt_tui.client.history import Evals, History
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_journal
from plt_tui.protocol.events import CommandStatus
from tests.end_to_end.runs import DEADLINE_S, at_step, command, ended, environment, finish, read_until, start

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "lower_lr_on_plateau.py"
STALLED = (
    "train.steps=1000000",
    "optim.lr=1e-8",
    "optim.min_lr=0",
    "optim.schedule=constant",
    "optim.warmup=0",
    "eval.every=0",
)
"""A rate at which no weight moves: the loss is that of the untrained model, and its mean over 50 steps moves by parts in a
thousand."""
STEERED = ("eval.every=20", "sample.every=0", "checkpoint.every=0", "checkpoint.recent=40")


def bits(values: History | Evals) -> dict[str, bytes]:
    """Every array to the bit."""
    return {name: column.tobytes() for name, column in values.as_dict().items()}


def test_the_example_lowers_the_rate_of_a_run_whose_loss_has_stalled(tmp_path: Path) -> None:
    """The record holds the edit at the step that the example printed, by its actor; steps from there on have the new rate."""
    process = start(tmp_path, "stalled", *STALLED)
    with ended(process):
        read_until(process, at_step(1))
        done = subprocess.run(
            [sys.executable, EXAMPLE, "stalled", "--window", "50", "--times", "1"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        printed = re.fullmatch(r"step (\d+): lr 1e-08 -> 5e-09\n", done.stdout)
        assert printed is not None, done.stdout
        step = int(printed[1])
        read_until(process, at_step(step + 10))
        command(tmp_path, "ctl", "stalled", "stop", "--now")
        finish(process, exit_code=143)
    journal = read_journal(RunFolder(tmp_path / "runs" / "stalled"))
    statuses = [event for event in journal if isinstance(event, CommandStatus)]
    edits = [status for status in statuses if (status.name, status.status) == ("set", "applied")]
    assert [(edit.step, edit.actor, edit.before, edit.after) for edit in edits] == [(step, "lower_lr_on_plateau", 1e-8, 5e-9)]
    assert step > 2 * 50
    history = plt_tui.read_run("stalled", tmp_path / "runs").history
    assert np.array_equal(history.lr, np.where(history.step < step, 1e-8, 5e-9))


async def steer(directory: Path) -> tuple[plt_tui.Connection, int]:
    """Rewind a run, evaluate it, stop it, and follow it to its end."""
    async with plt_tui.connect("steered", directory=directory) as run:
        async for _ in run.events(events.Steps):
            if run.state.step >= 30:
                break
        checked = await run.set("grad_clip", 0.5)
        before = run.history
        rewound = await run.rewind(checked.step - 5)
        assert rewound.step < checked.step
        left = run.branches[1]
        assert (left.step[0], left.step[-1]) == (rewound.step + 1, rewound.before)
        assert left.loss[left.step <= before.step[-1]].tobytes() == before.loss[before.step > rewound.step].tobytes()
        evaluated = await run.evaluate()
        assert np.count_nonzero(run.evals.step == evaluated.step) == 1  # one that was due may have followed already
        reader = run.events(events.End)
        await run.stop()
        end = await asyncio.wait_for(anext(reader), DEADLINE_S)
        assert (end.phase, [event async for event in reader]) == ("stopped", [])
        return run, rewound.step


def test_a_connection_has_what_the_record_has(tmp_path: Path) -> None:
    """Followed live through an edit, a rewind, an evaluation and a stop: it has the bits of the files; so has a later one."""
    process = start(tmp_path, "steered", "train.steps=1000000", *STEERED)
    with ended(process):
        read_until(process, at_step(1))
        live, back_at = asyncio.run(steer(tmp_path / "runs"))
        finish(process, exit_code=143)
    record = plt_tui.read_run("steered", tmp_path / "runs")

    async def again() -> plt_tui.Connection:
        async with plt_tui.connect("steered", directory=tmp_path / "runs") as run:
            return run

    for seen in (live, asyncio.run(again())):
        assert bits(seen.history) == bits(record.history)
        assert bits(seen.evals) == bits(record.evals)
        assert {number: bits(branch) for number, branch in seen.branches.items()} == {1: bits(record.branches[1])}
        assert seen.state.end == record.state.end
        assert (seen.state.step, seen.state.edits, seen.state.branches) == (
            record.state.step,
            record.state.edits,
            record.state.branches,
        )
    assert record.state.branches[0].first == back_at + 1
    assert np.array_equal(record.history.step, np.arange(1, record.state.step + 1))
