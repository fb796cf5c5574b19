"""The file through which ranks meet: not on the run's disk, private, and gone with the session, however that ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from plt_tui.control import meeting as meeting_module
from plt_tui.control.meeting import MEMORY, ROOM_BYTES, Meeting

HUB = """
import sys, time
from pathlib import Path
from plt_tui.control.meeting import Meeting
print(Meeting(Path(sys.argv[1])).fresh(), flush=True)
time.sleep(1_000_000)
"""
DEADLINE_S = 20.0
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Folders of this test that stand for memory, for temporary files, and for the run's."""
    found = {name: tmp_path / name for name in ("memory", "temporary", "run")}
    for path in found.values():
        path.mkdir()
    monkeypatch.setattr(meeting_module, "MEMORY", found["memory"])
    monkeypatch.setattr(meeting_module.tempfile, "gettempdir", lambda: str(found["temporary"]))
    return found


def files_in(places: dict[str, Path]) -> list[Path]:
    """All files of all places."""
    return [path for place in places.values() for path in place.iterdir()]


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="no shared memory here")
def test_a_meeting_is_in_memory_and_private_and_each_has_its_own(tmp_path: Path) -> None:
    """An empty file that nobody else can read; it goes when the next is made, or the run ends."""
    meeting = Meeting(tmp_path / "run")
    first = meeting.fresh()
    assert (first.parent, first.stat().st_size, first.stat().st_mode & 0o777) == (MEMORY, 0, 0o600)
    second = meeting.fresh()
    assert first != second
    assert [first.exists(), second.exists()] == [False, True]
    meeting.clear()
    assert not second.exists()


@pytest.mark.skipif(not os.access(MEMORY, os.W_OK), reason="no shared memory here")
def test_a_killed_hub_leaves_no_meeting_in_memory(tmp_path: Path) -> None:
    """What it could not do itself is done as soon as it is gone."""
    process = subprocess.Popen([sys.executable, "-c", HUB, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    path = Path(process.stdout.readline().decode().strip())
    assert path.exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    give_up_at = time.monotonic() + DEADLINE_S
    while path.exists():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def test_what_is_left_of_other_sessions_is_removed_and_nothing_else(places: dict[str, Path]) -> None:
    """In every place that it can be in; what ranks of another run meet through stays."""
    other = Meeting(places["run"] / "other").fresh()
    for place in places.values():
        (place / Meeting(places["run"]).fresh().name).with_suffix(".left").touch()
    Meeting(places["run"]).clear()
    assert files_in(places) == [other]


def test_where_there_is_no_room_in_memory_another_place_is_taken(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files, then the run's folder; in the end a name for ranks that may need none."""
    full: list[Path] = []

    def usage(path: Path) -> Usage:
        return Usage(ROOM_BYTES, 0, ROOM_BYTES - (path in full))

    monkeypatch.setattr(shutil, "disk_usage", usage)
    meeting = Meeting(places["run"])
    for place in places.values():
        assert meeting.fresh().parent == place
        full.append(place)
    last = meeting.fresh()
    assert last.parent == places["run"]
    assert files_in(places) == []


def test_a_place_that_cannot_be_written_is_passed_over(places: dict[str, Path]) -> None:
    """Also a file that cannot be removed is no reason to fail."""
    places["memory"].rmdir()
    meeting = Meeting(places["run"])
    path = meeting.fresh()
    assert path.parent == places["temporary"]
    path.unlink()
    path.mkdir()
    meeting.clear()
    path.rmdir()
