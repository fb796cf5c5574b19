"""What the tests of the hub share."""

from __future__ import annotations

import multiprocessing.resource_tracker
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control import attempt as attempt_module
from plt_tui.control import logs as logs_module
from plt_tui.control import restart as restart_module
from plt_tui.control.folder import RunFolder

PATIENCE_S = 5.0
"""How long what a hub has left may take to go."""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recover within moments."""
    monkeypatch.setattr(attempt_module, "GATHER_S", 0.15)
    monkeypatch.setattr(logs_module, "TICK_S", 0.02)
    monkeypatch.setattr(restart_module, "FIRST_BACKOFF_S", 0.02)


@pytest.fixture
def no_descriptor_left_open() -> Iterator[None]:
    """Pipes, semaphores and files of a run go with it, without the garbage collector's help."""
    multiprocessing.resource_tracker.ensure_running()  # its pipe stays open until the end of the tests
    before = _open_descriptors()
    yield
    give_up_at = time.monotonic() + PATIENCE_S
    while left := _open_descriptors().items() - before.items():  # a thread of a queue closes its own end of a pipe
        assert time.monotonic() < give_up_at, left
        time.sleep(0.01)


def _open_descriptors() -> dict[str, str]:
    """What each descriptor of this process is; the one that lists them is closed by then."""
    found = {}
    for path in list(Path("/proc/self/fd").iterdir()):
        with suppress(FileNotFoundError):
            found[path.name] = str(path.readlink())
    return found


@pytest.fixture
def hub_folder(tmp_path: Path) -> RunFolder:
    """The folder of a run that is about to start."""
    made = RunFolder(tmp_path / "a")
    made.create(to_toml(RunConfig()))
    return made
