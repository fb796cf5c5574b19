"""Promises of `control.rerun`: fresh ranks compute what they are told, their failures are told, and none outlives its job."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest

from plt_tui.config.edits import Edit
from plt_tui.config.load import from_toml
from plt_tui.config.schema import CheckpointSection, RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.placement import Placement
from plt_tui.control.rerun import Job, compute, newest_whole
from plt_tui.errors import DataError, RankFailed
from plt_tui.protocol.events import Checkpoint, Done, Event, RankStatus, Run, Step
from tests.control.fake_reruns import checkpoint

DEADLINE_S = 30.0
ELSEWHERE = RunConfig(checkpoint=CheckpointSection(dir="/elsewhere", every=3))


def job(
    entry: str, until: int = 5, *, ranks: int = 2, resume: str = "never", save_every: int = 0, edits: tuple[Edit, ...] = ()
) -> Job:
    """Work for ranks that play `entry`."""
    return Job(
        config=ELSEWHERE,
        placement=Placement(devices=("cpu",) * ranks, threads=3),
        until=until,
        edits=edits,
        resume=resume,
        save_every=save_every,
        entry=f"tests.control.fake_reruns:{entry}",
    )


def play(folder: Path, work: Job, num_steps: int = 10**9) -> tuple[list[Event], Done | None]:
    """What was heard until `num_steps` steps, and the last word."""
    heard: list[Event] = []

    def hear(event: Event) -> bool:
        heard.append(event)
        return sum(isinstance(one, Step) for one in heard) < num_steps

    return heard, asyncio.run(asyncio.wait_for(compute(work, RunFolder(folder), hear), DEADLINE_S))


def test_the_ranks_compute_what_they_are_told(tmp_path: Path) -> None:
    """From the given checkpoint to the given step, with the edits, and their own checkpoints in their own folder."""
    edits = (Edit(id="x", step=8, name="lr", value=0.5),)
    heard, done = play(tmp_path, job("computes", 9, resume="/far/step-00000006", save_every=9, edits=edits))
    assert [(event.step, event.lr) for event in heard if isinstance(event, Step)] == [(7, 0.1), (8, 0.5), (9, 0.5)]
    (run,) = (event for event in heard if isinstance(event, Run))
    assert (run.world_size, run.device, run.environment["threads"]) == (2, "cpu", 3)
    assert [event.path for event in heard if isinstance(event, Checkpoint)] == [f"{tmp_path}/checkpoints/step-00000009"]
    assert done is not None
    assert (done.rank, done.step, done.weights_sha256) == (0, 9, "sha of 9")
    assert from_toml((tmp_path / "config.toml").read_text()).checkpoint.dir == ""


def test_ranks_are_ended_once_enough_was_heard(tmp_path: Path) -> None:
    """Also those that would never end by themselves."""
    heard, done = play(tmp_path, job("computes_for_ever"), num_steps=1)
    assert done is None
    pids = {event.pid for event in heard if isinstance(event, RankStatus)}
    assert pids
    assert not any(map(psutil.pid_exists, pids))


def test_a_failure_is_the_error_of_its_kind(tmp_path: Path) -> None:
    """As a run would report it: the cause and where it happened; nothing is started again."""
    with pytest.raises(RankFailed, match=r"^rank 0 failed at step 3: killed by SIGKILL"):
        play(tmp_path / "killed", job("is_killed_at_3"))
    with pytest.raises(DataError, match=r"^corpus.txt: no such file$"):
        play(tmp_path / "data", job("has_no_data"))


def test_cancelled_work_leaves_no_rank_behind(tmp_path: Path) -> None:
    """A Ctrl-C is a cancellation; the ranks are gone when it comes out."""
    pids: set[int] = set()

    async def scenario() -> None:
        going = asyncio.Event()

        def hear(event: Event) -> bool:
            pids.update([event.pid] if isinstance(event, RankStatus) else [])
            if isinstance(event, Step):
                going.set()
            return True

        task = asyncio.ensure_future(compute(job("computes_for_ever"), RunFolder(tmp_path), hear))
        await asyncio.wait_for(going.wait(), DEADLINE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert pids
    assert not any(map(psutil.pid_exists, pids))


def test_the_newest_whole_checkpoint_is_found(tmp_path: Path) -> None:
    """Damaged ones are passed over, and those whose weights are not the ones of the line."""
    folders = {step: checkpoint(tmp_path, step) for step in (3, 6, 9, 12)}
    assert newest_whole(folders) == 12
    (folders[12] / "model.safetensors").write_bytes(b"weightz")
    assert newest_whole(folders) == 9
    (folders[9] / "manifest.json").write_text("[]")
    assert newest_whole(folders) == 6
    assert newest_whole(folders, {3: "sha of 3", 6: "of a branch"}) == 3
    assert newest_whole(folders, {}) == 0
    assert newest_whole({}) == 0
