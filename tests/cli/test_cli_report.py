"""Promises of `plt-tui report`: a lab log and its curves from the record of a run, as files or on stdout."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import pytest

from plt_tui.cli.report import report
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import End, Event, Phase, Run, Step

NOTE = status_of(Command(id="n", name="note", args={"text": "all \x1b[2J well"}, actor="tui ana@box"), "applied", 5)
RUN = Run(time=1e9, name="a", dir="runs/a", world_size=2, params=10, target_step=10)
END = End(time=1e9 + 20, phase="finished", step=10, exit_code=0, weights_sha256="abc")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the recorded run "a"; the current folder is another one."""
    steps: list[Event] = [
        Step(time=1e9 + n, step=n, loss=1 / n, lr=0.1, grad_norm=1.0, tokens=n, tokens_per_s=1.0, step_ms=1.0)
        for n in range(1, 11)
    ]
    folder = RunFolder(tmp_path / "runs" / "a")
    folder.create(to_toml(RunConfig()))
    with closing(Recorder(folder, 0, lambda problem: None)) as recorder:
        for event in [Phase(time=1e9, phase="starting"), RUN, *steps, NOTE, END]:
            recorder.record(event)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return tmp_path / "runs"


def test_the_log_and_the_curves_are_written_and_named(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two files in the current folder, the one pointing to the other."""
    report("a", directory=runs)
    assert capsys.readouterr().out == "wrote report.md and report.svg\n"
    log = Path("report.md").read_text(encoding="utf-8")
    assert "# Lab log of `a`" in log
    assert "(report.svg)" in log
    assert "note: all \\\\x1b\\[2J well" in log
    assert ElementTree.parse("report.svg").getroot().get("viewBox", "").startswith("0 0 1000 ")
    assert sorted(path.name for path in Path().iterdir()) == ["report.md", "report.svg"]


@pytest.mark.parametrize("output", [".", "..", "/"])
def test_a_folder_is_no_file_to_write(runs: Path, output: str) -> None:
    """The error names a file in it, and nothing is written."""
    with pytest.raises(UsageError, match=r"this is a folder; give the name of a file, such as .*report\.md"):
        report("a", Path(output), directory=runs)
    assert list(Path().iterdir()) == []


def test_the_files_have_the_name_that_was_given(runs: Path) -> None:
    """The curves lie beside the log."""
    Path("logs").mkdir()
    report("a", Path("logs/june.md"), directory=runs)
    assert sorted(path.name for path in Path("logs").iterdir()) == ["june.md", "june.svg"]
    assert "(june.svg)" in Path("logs/june.md").read_text(encoding="utf-8")


def test_a_dash_prints_the_log_alone(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No file, no picture, and nothing that a terminal acts on."""
    report("a", Path("-"), directory=runs)
    printed = capsys.readouterr().out
    assert printed.startswith("# Lab log of `a`\n")
    assert ".svg" not in printed
    assert "\x1b" not in printed
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("name", "error"),
    [("log.svg", UsageError), ("nowhere/log.md", StorageError)],
)
def test_a_name_that_will_not_do_is_refused(name: str, error: type[Exception], runs: Path) -> None:
    """The picture must not replace the log, and a folder that is not there is said to be missing."""
    with pytest.raises(error, match="log"):
        report("a", Path(name), directory=runs)


def test_an_unknown_run_is_refused(runs: Path) -> None:
    """Before anything is written."""
    with pytest.raises(UsageError, match="nobody"):
        report("nobody", directory=runs)
    assert list(Path().iterdir()) == []
