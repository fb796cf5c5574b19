"""A hub that is killed: its ranks end with it, and the next start finds all that anybody was told."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from plt_tui.cli.attach import source_of
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.errors import HubUnreachable
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import Event, Phase, Run
from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import GONE_S, Reference, assert_sound, reference_of
from tests.end_to_end.runs import arm, ask, command, finish, has_fired, show, start, start_to, wait_to, wait_until

EDIT = {"name": "lr", "value": 0.5, "mode": "scale"}
WISH = new_command("set", {"name": "temperature", "value": 0.5}, actor="test")
"""Changes no loss."""
KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What a run computes whose learning rate is halved before its first step."""
    folder = tmp_path_factory.mktemp("edited")
    finish(start_edited(folder, "edited", {}))
    return reference_of(folder, "edited")


def start_edited(folder: Path, name: str, points: Mapping[str, str]) -> subprocess.Popen[str]:
    """A run that halves its learning rate, asked to while its ranks are being built: in force at step 1. Then come `points`."""
    arm(folder, name, points)
    process = start_to(folder, name, "rank.0.building", "stop", *SMALL)
    status = asyncio.run(ask(folder, name, new_command("set", EDIT, actor="test")))
    assert (status.status, status.step) == ("applied", 1)
    return process


async def told_to_a_view(run: RunFolder) -> list[Event]:
    """What `attach` would show of a run that is not live."""
    source = await source_of(run, "test", readonly=True)
    return [event async for event in source.events()]


def assert_told_as_crashed(folder: Path, name: str) -> None:
    """`show`, `ls` and a view say that the hub is gone, and the way on."""
    way_on = f"its hub is gone without a word; resume: plt-tui run --resume auto --name {name}"
    shown, (row,) = show(folder, name), json.loads(command(folder, "ls", "--json"))
    assert (shown["state"], shown["reason"], shown["exit_code"]) == ("failed", way_on, None)
    assert (row["state"], row["reason"]) == ("failed", way_on)
    events = asyncio.run(told_to_a_view(RunFolder(folder / "runs" / name)))
    assert [(event.phase, event.reason) for event in events if isinstance(event, Phase)][-1] == ("failed", way_on)


def test_nothing_that_was_acknowledged_dies_with_the_hub(tmp_path: Path, edited: Reference) -> None:
    """Killed as it hears of a checkpoint, and of a wish while a rank hangs: what was told is there, what was not is refused."""
    process = start_edited(tmp_path, "shot", {"hub.checkpoint.20": "kill"})
    told = finish(process, exit_code=KILLED)
    assert_sound(tmp_path, "shot", edited, exit_code=KILLED, failpoints=["hub.checkpoint.20"], told=told)
    assert_told_as_crashed(tmp_path, "shot")

    arm(tmp_path, "shot", {"hub.requested.set": "kill"})
    process = start_to(tmp_path, "shot", "rank.0.step.25", "hang", *SMALL, extra=("--resume", "auto"))
    ranks = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    assert len(ranks) == 2
    with pytest.raises(HubUnreachable, match="the hub ended before it answered to set; `plt-tui show` tells how"):
        asyncio.run(ask(tmp_path, "shot", WISH))
    _, alive = psutil.wait_procs(ranks, GONE_S)
    assert not alive
    told += finish(process, exit_code=KILLED)
    assert_sound(tmp_path, "shot", edited, exit_code=KILLED, failpoints=["hub.requested.set"], told=told)

    told += finish(start(tmp_path, "shot", *SMALL, extra=("--resume", "auto")))
    feed = assert_sound(tmp_path, "shot", edited, exit_code=0, told=told)
    assert [event.start_step for event in feed.events if isinstance(event, Run)] == [0, 20, 20]
    assert fate(feed, WISH) == ("refused", "its hub died before it was confirmed")


def test_ranks_that_were_ahead_of_a_hanging_hub_leave_no_gap(tmp_path: Path, edited: Reference) -> None:
    """The hub hangs on an answer and dies while its ranks go on and save: no step is missing, and refused is not in force."""
    process = start_edited(tmp_path, "ahead", {"rank.0.step.35": "stop"})
    wait_to(tmp_path, "ahead", "rank.0.step.35", "stop")
    arm(tmp_path, "ahead", {"hub.applied.set": "stop"})
    saved = tmp_path / "runs/ahead/checkpoints/step-00000040/manifest.json"

    def kill_it_when_saved() -> None:
        try:
            wait_until(lambda: saved.exists() and has_fired(tmp_path, "ahead", "hub.applied.set"))
        finally:
            process.kill()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill_it_when_saved)
        with pytest.raises(HubUnreachable):
            asyncio.run(ask(tmp_path, "ahead", WISH))
        killing.result()
    told = finish(process, exit_code=KILLED)
    assert_sound(tmp_path, "ahead", edited, exit_code=KILLED, failpoints=["hub.applied.set"], told=told)
    told += finish(start(tmp_path, "ahead", *SMALL, extra=("--resume", "auto")))
    feed = assert_sound(tmp_path, "ahead", edited, exit_code=0, told=told)
    is_in_force = any(edit.id == WISH.id for edit in feed.state.edits)
    assert fate(feed, WISH)[0] == ("applied" if is_in_force else "refused")


def test_a_hub_that_hangs_for_long_and_dies_leaves_no_gap(tmp_path: Path) -> None:
    """Its ranks save more checkpoints than are kept; one that the record knows of is still there, and no step is missing."""
    sets = (*SMALL, "train.steps=100", "parallel.ranks=1", "eval.every=0")
    finish(start(tmp_path, "left-alone", *sets))
    reference = reference_of(tmp_path, "left-alone")
    process = start_to(tmp_path, "hangs", "hub.checkpoint.20", "stop", *sets)
    try:
        wait_until(lambda: (tmp_path / "runs/hangs/checkpoints/step-00000080").exists())
    finally:
        process.kill()
    told = finish(process, exit_code=KILLED)
    assert_sound(tmp_path, "hangs", reference, exit_code=KILLED, failpoints=["hub.checkpoint.20"], told=told)
    told += finish(start(tmp_path, "hangs", *sets, extra=("--resume", "auto")))
    feed = assert_sound(tmp_path, "hangs", reference, exit_code=0, told=told)
    assert feed.state.run is not None
    assert feed.state.run.start_step in (10, 20)


def fate(feed: Feed, wanted: Command) -> tuple[str, str]:
    """The last word of the record about a command, and its reason."""
    return next((status.status, status.reason) for status in feed.state.commands if status.id == wanted.id)
