"""Make `docs/ui.svg`: a real quick-start run on two ranks, seen by the real UI.

    .venv/bin/python docs/picture.py [STEP]

Starts a run in a temporary folder, gives it a learning rate that is too high, rewinds it, waits for STEP (600), opens the UI
without a terminal, and saves what it shows. Takes about a minute and a half on two cores.
"""

import asyncio
import subprocess
import sys
import tempfile
from pathlib import Path

from plt_tui.cli.attach import source_of
from plt_tui.config.load import from_toml
from plt_tui.control.folder import RunFolder
from plt_tui.protocol.commands import new_command
from plt_tui.views.client import HubClient, run_command
from plt_tui.views.source import Source
from plt_tui.views.tui.app import RunApp

PICTURE = Path(__file__).with_name("ui.svg")
SIZE = (140, 45)
NAME = "quickstart"


def main(step: int) -> None:
    """Run, steer, look, stop."""
    with tempfile.TemporaryDirectory() as temporary:
        command = [sys.executable, "-m", "plt_tui", "run", "--detach", "--name", NAME, "--set", "run.dir=runs"]
        subprocess.run(command, cwd=temporary, check=True)
        folder = RunFolder(Path(temporary) / "runs" / NAME)
        try:
            asyncio.run(_steer(folder, step))
            asyncio.run(_draw(folder, step))
        finally:
            asyncio.run(_ask(folder, "stop", {"now": True}))


async def _steer(folder: RunFolder, step: int) -> None:
    await _reach(folder, step // 3)
    await _ask(folder, "set", {"name": "lr", "value": 0.04})
    await _reach(folder, step // 2)
    await _ask(folder, "rewind", {"step": step // 3, "skip": 20})
    await _ask(folder, "set", {"name": "lr", "value": 0.5, "mode": "scale"})
    await _ask(folder, "checkpoint", {"name": "calm-again"})


async def _reach(folder: RunFolder, step: int) -> None:
    source = await source_of(folder, "picture", readonly=True)
    async for event in source.events():
        if getattr(event, "step", 0) >= step:
            break
    await source.close()


async def _ask(folder: RunFolder, name: str, args: dict[str, object]) -> None:
    source = await source_of(folder, "tui ana@workstation", readonly=False)
    if isinstance(source, HubClient):
        await run_command(source, new_command(name, args, actor="tui ana@workstation"), 60.0)
    await source.close()


async def _draw(folder: RunFolder, step: int) -> None:
    config = from_toml(folder.config.read_text())

    async def connect() -> Source:
        return await source_of(folder, "tui ana@workstation", readonly=False)

    app = RunApp(connect, name=folder.name, ui=config.ui, config=config, actor="tui ana@workstation")
    async with app.run_test(size=SIZE) as pilot:
        while app.model.state.step < step:
            await pilot.pause(0.25)
        await pilot.press("v")
        await pilot.pause(3.0)
        PICTURE.write_text(app.export_screenshot(title="plt-tui"))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 600)
