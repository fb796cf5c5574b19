"""Files that a view keeps: whole, private, and never in the place of another one."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from plt_tui.cli.keep import FOLDER, keep, save_as
from plt_tui.errors import StorageError, UsageError


def names_in(folder: Path) -> list[str]:
    """All that lies there."""
    return sorted(path.name for path in folder.iterdir())


def test_a_kept_file_lies_among_the_exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its path is one that can be typed from here; it is for its owner alone, and nothing else is left there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "one").mkdir(parents=True)
    path = keep(tmp_path / "runs" / "one", "steps.csv", ["a,b\n", "1,ä\n"])
    assert path == Path("runs", "one", FOLDER, "steps.csv")
    assert path.read_text(encoding="utf-8") == "a,b\n1,ä\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names_in(path.parent) == ["steps.csv"]


def test_a_second_one_gets_a_number(tmp_path: Path) -> None:
    """What was kept before stays as it was, whatever lies there."""
    names = [keep(tmp_path, "screen.svg", [text]).name for text in ("first", "second", "third")]
    assert names == ["screen.svg", "screen-2.svg", "screen-3.svg"]
    (tmp_path / FOLDER / "screen-4.svg").symlink_to("nowhere")
    assert keep(tmp_path, "screen.svg", ["fourth"]).name == "screen-5.svg"
    assert (tmp_path / FOLDER / "screen.svg").read_text() == "first"


def test_a_file_that_cannot_be_made_leaves_nothing(tmp_path: Path) -> None:
    """An error while the pieces are made: neither half a file nor a temporary one."""

    def pieces() -> Iterator[str]:
        yield "head\n"
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        keep(tmp_path, "steps.csv", pieces())
    assert names_in(tmp_path / FOLDER) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_told(tmp_path: Path) -> None:
    """With the path and why."""
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError, match="Permission denied"):
        keep(tmp_path, "steps.csv", [])


def test_a_place_that_is_no_folder_is_told(tmp_path: Path) -> None:
    """With the path and why."""
    (tmp_path / FOLDER).write_text("a file")
    with pytest.raises(StorageError, match=f"{FOLDER}: cannot be written"):
        keep(tmp_path, "steps.csv", [])


def test_a_named_place_is_taken_as_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen from the working folder, or from home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert save_as("out.csv", ["1\n"]) == Path("out.csv")
    assert save_as("~/out.csv", ["2\n"]) == Path("home", "out.csv")
    assert (tmp_path / "home" / "out.csv").read_text() == "2\n"
    with pytest.raises(StorageError, match="No such file or directory"):
        save_as("missing/out.csv", ["3\n"])


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """A file, a folder, a broken link: what is there stays, also when it comes while the file is written."""
    place, late = tmp_path / "out.csv", tmp_path / "late.csv"
    place.write_text("precious")
    (tmp_path / "link.csv").symlink_to("nowhere")

    def pieces() -> Iterator[str]:
        late.write_text("precious")
        yield "new\n"

    for path, text in ((place, ["new\n"]), (tmp_path, ["new\n"]), (tmp_path / "link.csv", ["new\n"]), (late, pieces())):
        with pytest.raises(UsageError, match="there already"):
            save_as(str(path), text)
    assert (place.read_text(), late.read_text()) == ("precious", "precious")
    assert names_in(tmp_path) == ["late.csv", "link.csv", "out.csv"]
