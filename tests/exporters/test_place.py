"""Promises of the place of an export: kept whole, one holder, and never taken for that of another run."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from plt_tui.errors import RunInUse, StorageError, UsageError
from plt_tui.exporters.place import Place, held, read_place, run_id, write_place
from plt_tui.exporters.tail import Mark
from tests.exporters.records import new_folder, record, session, steps

PLACE = Place(
    run="ab" * 16,
    marks={"metrics.jsonl": Mark(seq=7, time=1.5, end=900, length=120, sha256="cd" * 32)},
    step=6,
    kept={"id": "x"},
    has_flushed=True,
)


def test_a_place_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    """Readable by its owner only, and nothing half-written beside it."""
    write_place(tmp_path / "a.json", PLACE)
    assert read_place(tmp_path / "a.json", PLACE.run) == PLACE
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_without_a_file_it_is_the_beginning(tmp_path: Path) -> None:
    """Nothing was handed over."""
    assert read_place(tmp_path / "a.json", "ab") == Place(run="ab")


def test_the_place_of_another_run_is_refused(tmp_path: Path) -> None:
    """Somebody exports two runs into one folder."""
    write_place(tmp_path / "a.json", PLACE)
    with pytest.raises(UsageError, match="belongs to the export of another run; delete it, or choose another folder"):
        read_place(tmp_path / "a.json", "ef" * 16)


@pytest.mark.parametrize("content", ["", "[]", "{}", "null", '{"version": 2}', '{"version": 1, "marks": 5}', '"x"', "\x00"])
def test_what_is_no_place_is_refused(tmp_path: Path, content: str) -> None:
    """It is not taken for the beginning, which would write everything twice."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UsageError, match="delete it to export all of the run once more"):
        read_place(tmp_path / "a.json", "ab")


def test_a_place_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """What it means is not known here."""
    write_place(tmp_path / "a.json", PLACE)
    value = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps({**value, "version": 2}))
    with pytest.raises(UsageError, match="delete it"):
        read_place(tmp_path / "a.json", PLACE.run)


def test_one_holds_a_place(tmp_path: Path) -> None:
    """A second one is refused until the first has left; the folder is made."""
    path = tmp_path / "exports" / "a.json"
    with held(path), pytest.raises(RunInUse, match="another process exports this run there"), held(path):
        pass
    with held(path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """As any other failure of the disk."""
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="choose another folder"), held(tmp_path / "file" / "a.json"):
        pass
    with pytest.raises(StorageError, match="cannot be written"):
        write_place(tmp_path / "nowhere" / "a.json", PLACE)


def test_a_run_has_one_id(tmp_path: Path) -> None:
    """From its first line on, through all sessions; another run has another."""
    folder = new_folder(tmp_path / "a")
    assert run_id(folder) == ""
    record(folder, [session()])
    first = run_id(folder)
    assert len(first) == 32
    record(folder, [*steps(1, 3), session(3)])
    assert run_id(folder) == first
    other = new_folder(tmp_path / "b")
    record(other, [session(1)])
    assert run_id(other) != first
