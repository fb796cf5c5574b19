"""Folders and names that must survive a power cut do, on the model of a disk that keeps what was synced and nothing else."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from plt_tui.protocol.durable import make_folder, sync_above, sync_folder
from tests.training.power_cuts import Disk


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """The root of a disk."""
    path = tmp_path / "disk"
    path.mkdir()
    return path


@pytest.fixture
def disk(top: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """What is on it for good."""
    made = Disk(top, monkeypatch)
    yield made
    made.close()


def left(disk: Disk, target: Path) -> list[str]:
    """What a power cut leaves."""
    image = disk.after_cut(target, lambda: False)
    return sorted(str(path.relative_to(image)) for path in image.rglob("*"))


def test_a_made_folder_stays_with_all_above_it(top: Path, disk: Disk, tmp_path: Path) -> None:
    """The mode is that of the last; one that is there already is left as it is."""
    make_folder(top / "a" / "b" / "c", 0o700)
    make_folder(top / "a" / "b" / "c", 0o755)
    assert [path.stat().st_mode & 0o077 for path in (top / "a" / "b" / "c",)] == [0]
    assert (top / "a").stat().st_mode & 0o500 == 0o500
    assert left(disk, tmp_path / "image") == ["a", "a/b", "a/b/c"]


def test_a_file_in_the_place_of_a_folder_is_an_error(top: Path) -> None:
    """Found when the folder is asked for, not when it is used."""
    (top / "a").touch()
    with pytest.raises(NotADirectoryError, match="Not a directory"):
        make_folder(top / "a")


def test_names_that_others_made_can_be_made_sure_of(top: Path, disk: Disk, tmp_path: Path) -> None:
    """Whoever made them may have been killed before they were."""
    (top / "a" / "b").mkdir(parents=True)
    assert left(disk, tmp_path / "before") == []
    sync_above(top / "a" / "b", 2)
    assert left(disk, tmp_path / "after") == ["a", "a/b"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_file_system_that_syncs_no_folder_is_used_as_it_is(top: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a disk that fails is an error."""

    def refuse(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if number == errno.EIO:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            sync_folder(top)
    else:
        sync_folder(top)


def test_a_folder_above_that_is_closed_to_us_is_passed_over(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is somebody else's, and holds no name that is ours."""
    opened, asked = os.open, []

    def closed(path: Path, *flags: int) -> int:
        asked.append(path)
        if path == top.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *flags)

    monkeypatch.setattr(os, "open", closed)
    sync_above(top / "a", 2)
    assert asked == [top, top.parent]
