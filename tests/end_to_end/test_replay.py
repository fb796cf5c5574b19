"""Real ranks: a run with every kind of command in it comes out of its record again to the bit, and of no other record."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.control.state import RunState, apply
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import CommandStatus, Event
from plt_tui.views.client import HubClient
from tests.end_to_end.runs import (
    CORPUS,
    DEADLINE_S,
    PLT_TUI,
    command,
    end_of,
    environment,
    finish,
    show,
    start,
    train,
    wait_until,
)

NAME = "steered"
WISHES = (
    f"data.train=['{CORPUS}', '{CORPUS.parents[1] / 'LICENSE-APACHE'}']",
    "train.tokens=2000000",
    "checkpoint.every=20",
    "checkpoint.keep=50",
    "eval.every=30",
    "sample.every=45",
)
"""As many steps as the size of the batches makes of it, far more than are needed."""


@dataclass
class Hand:
    """Follows a live run and steers it."""

    client: HubClient
    said: AsyncIterator[Event]
    state: RunState

    async def until(self, is_so: Callable[[RunState], bool]) -> None:
        """Go on to read until the run's state is so."""
        while not is_so(self.state):
            event = await asyncio.wait_for(anext_of(self.said), DEADLINE_S)
            self.state = apply(self.state, event)

    async def at(self, step: int) -> None:
        """Go on to read until this many steps are done."""
        await self.until(lambda state: state.step >= step)

    async def do(self, verb: str, /, **args: Any) -> CommandStatus:
        """The fate of a command, which must be applied."""
        asked = new_command(verb, args)
        await self.client.send(asked)

        def fate(state: RunState) -> CommandStatus | None:
            known = [one for one in state.commands if one.id == asked.id]
            return known[0] if known and known[0].status in ("applied", "refused") else None

        await self.until(lambda state: fate(state) is not None)
        status = fate(self.state)
        assert status is not None
        assert status.status == "applied", status
        return status


async def anext_of(events: AsyncIterator[Event]) -> Event:
    """The next event; the run must not have ended."""
    async for event in events:
        return event
    raise AssertionError("the hub is gone")


@asynccontextmanager
async def hand_on(folder: Path, name: str) -> AsyncIterator[Hand]:
    """A hand on a run that was just started."""
    run = RunFolder(folder / "runs" / name)
    give_up_at = asyncio.get_running_loop().time() + DEADLINE_S
    while (info := run.read_info()) is None or not info.socket:
        assert asyncio.get_running_loop().time() < give_up_at, "no hub"
        await asyncio.sleep(0.02)
    client = await HubClient.connect(Path(info.socket), actor="test", deadline_s=DEADLINE_S)
    try:
        yield Hand(client, client.events(), RunState())
    finally:
        await client.close()


async def steer(folder: Path) -> dict[str, int]:
    """Every kind of command, and a rank that is killed. Returns at which steps edits took effect."""
    applied: dict[str, int] = {}
    async with hand_on(folder, NAME) as hand:
        await hand.at(5)
        await hand.do("set", name="lr", value=0.5, mode="scale")
        await hand.at(10)
        await hand.do("undo")
        await hand.at(15)
        await hand.do("pause")
        for name in ("eval", "sample", "checkpoint"):
            await hand.do(name)
        await hand.do("set", name="batch_size", value=2, mode="keep")
        await hand.do("note", text="half the batch, twice as often")
        await hand.do("resume")
        await hand.at(hand.state.step + 5)
        await hand.do("set", name="weights", value="3,1")
        await hand.at(hand.state.step + 10)
        lost = await hand.do("set", name="grad_clip", value=0.25)
        await hand.at(lost.step + 10)
        rewind = await hand.do("rewind", step=lost.step - 5, skip=3)
        applied["left"] = int(rewind.before)
        await hand.at(applied["left"] + 10)
        await hand.do("set", name="accumulate", value=1)
        os.kill(hand.state.ranks[1].pid, signal.SIGKILL)
        await hand.until(lambda state: state.restarts == 1 and state.phase == "running")
        await hand.at(hand.state.step + 25)
        await hand.do("set", name="embedding_grad_scale", value=0.1)
        await hand.do("hibernate")
        await hand.do("resume")
        applied["lr"] = (await hand.do("set", name="lr", value=0.002)).step
        await hand.at(applied["lr"] + 5)
        await hand.do("stop")
    return applied


@dataclass(frozen=True)
class Steered:
    """A run that had everything done to it."""

    folder: Path
    applied: dict[str, int]
    stopped_at: int
    last: int
    weights_sha256: str


@pytest.fixture(scope="module")
def steered(tmp_path_factory: pytest.TempPathFactory) -> Steered:
    """Steered, stopped, and resumed with another learning rate and another end in its configuration."""
    folder = tmp_path_factory.mktemp("replayed")
    process = start(folder, NAME, *WISHES)
    try:
        applied = asyncio.run(steer(folder))
    except BaseException:
        process.send_signal(signal.SIGTERM)
        process.communicate()
        raise
    stopped_at = end_of(finish(process, exit_code=143))["step"]
    end = end_of(train(folder, NAME, *WISHES, "train.tokens=0", f"train.steps={stopped_at + 30}", "optim.lr=0.001"))
    return Steered(folder, applied, stopped_at, end["step"], end["weights_sha256"])


def copied(steered: Steered, name: str) -> RunFolder:
    """A copy of the run under another name, to be changed."""
    runs = steered.folder / "runs"
    shutil.copytree(runs / NAME, runs / name, ignore=shutil.ignore_patterns("*.sock"))
    return RunFolder(runs / name)


def rewrite(path: Path, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    """Change the lines of a record; None leaves one out."""
    changed = [change(json.loads(line)) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in changed if line is not None))


def test_a_run_is_a_function_of_its_configuration_and_its_edits(steered: Steered) -> None:
    """Every loss and the final weights come out again to the bit, through pauses, rewinds, restarts and a resume."""
    said = command(steered.folder, "replay", NAME)
    assert steered.last == steered.stopped_at + 30
    assert said == (
        f"replayed {steered.last} steps on 2 ranks: every loss has the same bits, and so have the weights "
        f"(sha256 {steered.weights_sha256})\n"
    )
    assert show(steered.folder, NAME)["weights_sha256"] == steered.weights_sha256


def test_a_branch_is_replayed_as_it_was_left(steered: Steered) -> None:
    """With the edits that the rewind took away, up to its last step."""
    said = json.loads(command(steered.folder, "replay", NAME, "--branch", "1", "--json"))
    assert (said["exact"], said["last"], said["recorded"]) == (True, steered.applied["left"], steered.applied["left"])


def test_one_bit_of_the_record_is_found(steered: Steered) -> None:
    """A replay from a checkpoint names the very step, with the digits of both values."""
    step = steered.last - 5
    values: list[float] = []

    def flip(line: dict[str, Any]) -> dict[str, Any]:
        if line["kind"] != "step" or line["step"] != step:
            return line
        values.append(line["loss"])
        return {**line, "loss": math.nextafter(line["loss"], math.inf)}

    rewrite(copied(steered, "bit").metrics, flip)
    said = command(steered.folder, "replay", "bit", "--from", str(step - 10), exit_code=8)
    expected = f"loss {math.nextafter(values[-1], math.inf)!r} in the record, {values[-1]!r} computed again"
    assert f"step {step} has other bits: {expected}; steps " in said
    assert "why it might: versions, machine, threads and the size of the data are as they were" in said


def test_an_edit_that_is_missing_is_found(steered: Steered) -> None:
    """The first step for which it was in force has another learning rate."""
    run = copied(steered, "dropped")
    edit = next(
        line["id"]
        for line in map(json.loads, run.journal.read_text().splitlines())
        if line["kind"] == "command"
        and line["status"] == "applied"
        and line["args"] == {"name": "lr", "value": 0.002, "mode": "set"}
    )

    def drop(line: dict[str, Any]) -> dict[str, Any] | None:
        if line["kind"] == "run":
            line["edits"] = [one for one in line["edits"] if one["id"] != edit]
        return None if line.get("id") == edit else line

    rewrite(run.journal, drop)
    said = command(steered.folder, "replay", "dropped", exit_code=8)
    assert re.search(rf"step {steered.applied['lr']} has other bits: lr 0\.002 in the record", said), said


def test_a_replay_that_is_interrupted_leaves_nothing(steered: Steered, tmp_path: Path) -> None:
    """A signal ends its ranks and removes its folder; the exit code says so."""
    process = subprocess.Popen(
        [*PLT_TUI, "replay", NAME],
        cwd=steered.folder,
        env={**environment(), "TMPDIR": str(tmp_path)},
        stderr=subprocess.DEVNULL,
    )
    ranks: set[psutil.Process] = set()

    def has_ranks() -> bool:
        ranks.update(psutil.Process(process.pid).children())
        return bool(list(tmp_path.glob("plt-tui-*/logs/rank-1.log")))

    wait_until(has_ranks)
    process.send_signal(signal.SIGTERM)  # whoever starts the tests in the background ignores SIGINT, and that is inherited
    assert process.wait(DEADLINE_S) == 143
    assert list(tmp_path.iterdir()) == []
    assert ranks
    wait_until(lambda: not any(rank.is_running() for rank in ranks))


def test_a_resume_is_proven_exact(steered: Steered) -> None:
    """From the newest checkpoint of a run, which is not touched."""
    run = steered.folder / "runs" / NAME
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    said = command(steered.folder, "verify-resume", NAME, "--steps", "3")
    first = steered.last + 4
    assert said == f"exact: steps {first} to {first + 2} have the same bits after a resume (2 ranks, cpu)\n"
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
