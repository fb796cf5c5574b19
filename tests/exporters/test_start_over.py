"""An exporter whose tool has lost what it was given gets the record from its beginning."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.exporters.base import ExportTarget, RunFacts, StartOver
from plt_tui.exporters.process import Foreground, follow
from tests.exporters.records import Remembered, new_folder, record, session, steps


class Forgetful(Remembered):
    """Its tool has lost everything, once, or whenever it looks."""

    always = False

    def open(self, run: RunFacts) -> None:
        """See Exporter."""
        self.target.keep("opened", str(1 + int(self.target.kept.get("opened", "0"))))
        super().open(run)
        if self.always or not run.is_new:
            raise StartOver("all is gone")


class AlwaysForgetful(Forgetful):
    """Never content."""

    always = True


class Factory:
    """Makes exporters of a class, and remembers them."""

    def __init__(self, cls: type[Forgetful]) -> None:
        self.made: list[Forgetful] = []
        self._cls = cls

    def __call__(self, target: ExportTarget) -> Forgetful:
        """A new one."""
        self.made.append(self._cls(target))
        return self.made[-1]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run of five steps."""
    made = new_folder(tmp_path / "a")
    record(made, [session(), *steps(1, 5)])
    return made


def _export(factory: Factory, folder: RunFolder) -> None:
    place = folder.path / "exports" / "x.json"
    assert follow(factory, folder, place, Foreground(), directory=folder.path / "exports" / "x", project="p") is not None


def test_everything_comes_again_to_a_new_exporter(folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """From the first step on, and as if the run were new; what was kept stays."""
    factory = Factory(Forgetful)
    _export(factory, folder)
    record(folder, steps(6, 7))
    _export(factory, folder)
    assert [exporter.steps for exporter in factory.made] == [[1, 2, 3, 4, 5], [], [1, 2, 3, 4, 5, 6, 7]]
    assert [exporter.calls[0] for exporter in factory.made] == [("open", 0, True), ("open", 5, False), ("open", 0, True)]
    assert capsys.readouterr().out == "WARNING all is gone; the run is handed over from its beginning\n"
    place = json.loads((folder.path / "exports" / "x.json").read_text())
    assert (place["step"], place["kept"]) == (7, {"opened": "2"})


def test_one_that_is_never_content_has_failed(folder: RunFolder) -> None:
    """The second time is an error like any other."""
    factory = Factory(AlwaysForgetful)
    with pytest.raises(StartOver):
        _export(factory, folder)
    assert len(factory.made) == 2
