"""Promises of `plt_tui.connect("ssh://...")`, over an ssh that is a fake: a run on another machine is a run."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from plt_tui import ConnectionLost, Refused, connect, events
from plt_tui.control.folder import RunFolder
from plt_tui.errors import UsageError
from plt_tui.protocol.events import End, Event, Phase, Run, Step
from tests import fake_ssh
from tests.client.hubs import NAME, PatientHub, write_record

TARGET = f"ssh://ana@gpu1/{NAME}"


@pytest.fixture
def calls(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The way over ssh leads to the home in which the run's folder is, to the plt-tui of the settings; records its calls."""
    record = fake_ssh.install(monkeypatch, tmp_path / "near", folder.path.parent.parent)
    settings = Path(os.environ["XDG_CONFIG_HOME"]) / "plt-tui" / "settings.toml"
    settings.parent.mkdir(parents=True)
    settings.write_text(f'[remote]\n"gpu1" = "{sys.executable} -m plt_tui"\n')
    monkeypatch.chdir(tmp_path / "near")
    return record


def ssh_processes() -> list[psutil.Process]:
    """Those that were started here and are still there."""
    return [child for child in psutil.Process().children() if any("fake_ssh" in word for word in child.cmdline())]


async def all_of(reader: AsyncIterator[Event]) -> list[str]:
    """The kinds of all events to the end."""
    return [event.kind async for event in reader]


async def test_a_live_run_is_followed_and_steered(calls: Path, hub: PatientHub) -> None:
    """History, events and commands, as here; ssh ends with the connection."""
    hub.begin()
    hub.train(1, 20)
    async with connect(TARGET, actor="watcher") as run:
        assert (run.name, run.is_live, run.readonly, len(run.history)) == (NAME, True, False, 20)
        reader = run.events(Phase)
        assert (await run.set("grad_clip", 0.5)).step == 20
        hub.feed.publish(Phase(phase="paused"))
        assert isinstance(await anext(reader), events.Phase)
    assert [command.actor for command in hub.commands] == ["watcher"]
    assert len(fake_ssh.calls(calls)) == 1
    assert ssh_processes() == []


async def test_a_lost_link_is_no_end(calls: Path, hub: PatientHub) -> None:
    """Whether the run goes on is known there."""
    async with connect(TARGET) as run:
        reader = run.events()
        for process in ssh_processes():
            process.kill()
        with pytest.raises(ConnectionLost, match="the link to gpu1 is lost"):
            await all_of(reader)
        with pytest.raises(ConnectionLost, match="the link to gpu1 is lost"):
            await run.pause()


async def test_a_run_that_has_ended_there(calls: Path, folder: RunFolder, no_task_left: None) -> None:
    """Its record, and nobody to take a command."""
    begin = Run(time=1.0, name=NAME, dir="d", world_size=2, params=1, target_step=9)
    step = Step(time=1.0, step=1, loss=2.0, lr=1e-3, grad_norm=1.0, tokens=1, tokens_per_s=1.0, step_ms=1.0)
    write_record(folder, begin, step, End(time=2.0, phase="finished", step=1, exit_code=0))
    async with connect(TARGET) as run:
        assert (run.is_live, run.readonly, run.history.loss.tolist(), run.state.phase) == (False, True, [2.0], "finished")
        assert await all_of(run.events()) == []
        with pytest.raises(Refused, match="pause refused: the run has ended"):
            await run.pause()


async def test_its_folder_is_named_by_the_address(calls: Path) -> None:
    """A folder of this machine means nothing there."""
    with pytest.raises(UsageError, match=r"name the folder in the address: ssh://HOST//FOLDER/RUN"):
        await connect(TARGET, directory="/data/runs")
    assert fake_ssh.calls(calls) == []
