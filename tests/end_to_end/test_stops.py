"""SIGINT, SIGTERM and SIGUSR2, to the hub or to its whole process group, in every phase: saved, said, and nothing lost."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from pathlib import Path
from signal import SIGINT, SIGTERM, SIGUSR2

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import RunPhase
from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import Reference, assert_sound
from tests.end_to_end.runs import ask, end_of, finish, go_on, phase_of, start, start_to, stop, train, wait_until

GRACE_S, AT_ONCE_S = 25.0, 15.0
"""An end that waits for a save may take the first, on any machine; one that does not wait comes long before it."""
SAVE_EVERY, EVAL_EVERY = 10, 20
"""Of `SMALL`."""
EXIT_CODES = {SIGINT: 130, SIGTERM: 143, SIGUSR2: 143}


class Stopped:
    """A run that is stopped again and again, and goes on each time where it was."""

    name = "stopped"

    def __init__(self, folder: Path, undisturbed: Reference) -> None:
        self._folder = folder
        self._run = RunFolder(folder / "runs" / self.name)
        self._undisturbed = undisturbed

    def start(self) -> subprocess.Popen[str]:
        """The run as from a shell."""
        return start(self._folder, self.name, *SMALL, own_group=True)

    def start_to(self, point: str, action: str, *sets: str) -> subprocess.Popen[str]:
        """The run once it has come to a failpoint."""
        return start_to(self._folder, self.name, point, action, *SMALL, *sets, own_group=True)

    def wait_for(self, phase: RunPhase) -> None:
        """Return once `run.json` says that the run is in `phase`."""
        wait_until(lambda: phase_of(self._folder, self.name) == phase)

    def saves_and_ends(self, process: subprocess.Popen[str], number: signal.Signals, *, group: bool) -> str:
        """As `ends`, once the hub knows that ranks train: a moment before it has nothing to wait for."""
        self.wait_for("running")
        return self.ends(process, number, group=group)

    def ends(self, process: subprocess.Popen[str], number: signal.Signals, *, group: bool, within_s: float = GRACE_S) -> str:
        """Stop it; what was held goes on then. It ends in time and in order; returns the reason that the record gives."""
        began = time.monotonic()
        stop(process, number, group=group)
        if self._run.read_info():
            wait_until(lambda: process.poll() is not None or phase_of(self._folder, self.name) == "stopping")
        go_on(self._folder)
        lines = finish(process, EXIT_CODES[number])
        assert time.monotonic() - began < within_s
        assert "Traceback" not in (self._folder / f"{self.name}.stderr").read_text()
        feed = assert_sound(self._folder, self.name, self._undisturbed, exit_code=EXIT_CODES[number], told=lines)
        assert feed.state.phase == "stopped"
        return feed.state.reason

    @property
    def newest(self) -> str:
        """The newest checkpoint, as the record names it; empty when there is none."""
        return max((f"checkpoints/{path.name}" for path in self._run.checkpoints.glob("step-*")), default="")

    @property
    def at(self) -> int:
        """The step that the newest checkpoint is of."""
        return int(self.newest.removeprefix("checkpoints/step-"))

    def next_of(self, every: int) -> int:
        """The first step behind it at which something is due that is due `every` so many steps."""
        return (self.at // every + 1) * every


@pytest.mark.timeout(300)
def test_a_run_stopped_in_every_phase_computes_what_it_would_have(tmp_path: Path, undisturbed: Reference) -> None:
    """One stop in each phase: the last step is saved, or the record says what is, and the last start has the same bits."""
    run = Stopped(tmp_path, undisturbed)

    process = run.start()
    wait_until((tmp_path / "runs" / run.name / "lock").exists)
    stop(process, SIGTERM)
    finish(process, 143)
    said = (tmp_path / f"{run.name}.stderr").read_text()
    assert said == "" or said.startswith("plt-tui: stopped by signal SIGTERM while no rank was training")  # the hub was quicker

    for point, action, number, group in (
        ("rank.1.importing", "sleep", SIGINT, True),
        ("rank.0.building", "hang", SIGUSR2, False),
    ):
        reason = run.ends(run.start_to(point, action), number, group=group, within_s=AT_ONCE_S)
        assert reason.startswith(f"stopped by signal {number.name} while no rank was training; ")
    assert run.newest == ""

    assert run.saves_and_ends(run.start_to("rank.1.step.8", "stop"), SIGINT, group=True) == "stopped by signal SIGINT"
    assert run.at >= 8

    # How many steps a stop takes depends on the machine: what comes next is some steps on from where the last one led to.
    save = run.next_of(SAVE_EVERY)
    assert run.saves_and_ends(run.start_to("save.folder-synced", "stop"), SIGTERM, group=True) == "stopped by signal SIGTERM"
    assert run.at >= save
    evaluation = run.next_of(EVAL_EVERY)
    process = run.start_to(f"rank.0.evaluation.{evaluation}", "stop")
    assert run.saves_and_ends(process, SIGUSR2, group=True) == "stopped by signal SIGUSR2"
    assert run.at >= evaluation

    process = run.start_to(f"rank.1.step.{run.at + 2}", "hang", "control.grace_s=1", "checkpoint.every=0")
    newest = run.newest
    run.wait_for("running")
    reason = run.ends(process, SIGTERM, group=False, within_s=AT_ONCE_S)
    assert reason == (f"stopped by signal SIGTERM; not saved within 1 s (control.grace_s); the newest checkpoint is {newest}")

    process = run.start_to(f"rank.0.step.{run.at + 2}", "stop")
    assert asyncio.run(ask(tmp_path, run.name, new_command("pause", actor="test"))).status == "applied"
    assert run.ends(process, SIGINT, group=False) == "stopped by signal SIGINT"

    process = run.start_to(f"rank.0.step.{run.at + 1}", "kill")
    run.wait_for("restarting")
    reason = run.ends(process, SIGUSR2, group=True, within_s=AT_ONCE_S)
    assert reason.startswith("stopped by signal SIGUSR2 while no rank was training; ")
    assert f"the newest checkpoint is {run.newest}" in reason  # steps behind it will be computed again

    lines = train(tmp_path, run.name, *SMALL)
    assert end_of(lines)["step"] == 50
    assert_sound(tmp_path, run.name, undisturbed, exit_code=0, told=lines)
