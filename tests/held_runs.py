"""A run's folder that this process holds, with a fake hub behind a real door: what `attach` finds of a live run."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder, RunInfo
from tests.server.clients import opened
from tests.server.hub_fakes import FakeHub


@asynccontextmanager
async def held_run(path: Path, hub: FakeHub) -> AsyncIterator[RunFolder]:
    """The run in `path`, held and served by `hub` until the end; its record, if it has one, stays as it is."""
    run = RunFolder(path)
    run.create(to_toml(RunConfig()))
    async with opened(hub, path) as door:
        lock = run.lock()
        try:
            run.write_info(RunInfo(name=run.name, host="", pid=os.getpid(), boot_id="", socket=str(door.path), phase="running"))
            yield run
        finally:
            os.close(lock)  # first: who sees the door close looks at once whether the run is still live
