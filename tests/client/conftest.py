"""What the tests of the client library share: a run folder, and the hub that holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from tests.client.hubs import NAME, PatientHub, door_of
from tests.server.hub_fakes import until


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that was made and has not begun, in `runs/` of the working folder."""
    monkeypatch.chdir(tmp_path)
    made = RunFolder(tmp_path / "runs" / NAME)
    made.create(to_toml(RunConfig()))
    return made


@pytest.fixture
async def no_task_left() -> AsyncIterator[None]:
    """Whatever happened, nothing goes on in the background."""
    yield
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})


@pytest.fixture
async def hub(folder: RunFolder, no_task_left: None) -> AsyncIterator[PatientHub]:
    """The hub of the run in `folder`, behind its door; at the end nobody listens to it any more."""
    found = PatientHub()
    async with door_of(folder, found):
        yield found
    assert found.feed._listeners == []
