"""Promises of `plt-tui` without a command, and of what the screens there get from the files of the runs."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from pathlib import Path

import pytest

from plt_tui.cli import cockpit, main
from plt_tui.cli.cockpit import Shelf
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.errors import UsageError
from plt_tui.protocol.events import CaughtUp, End, Event, Phase, Run, Step, Steps
from tests.cli.commands import Call, caller
from tests.held_runs import held_run
from tests.server.hub_fakes import FakeHub

BEGIN: list[Event] = [
    Phase(phase="starting", time=1e9),
    Run(time=1e9, name="a", dir="/a", world_size=2, params=10, target_step=20, tokens_per_step=1),
    *(
        Step(time=1e9 + n, step=n, loss=1 / n, lr=0.1, grad_norm=1.0, tokens=n, tokens_per_s=50.0, step_ms=1.0)
        for n in range(1, 21)
    ),
]
END = End(time=2e9, phase="finished", step=20, exit_code=0)


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command as a shell does."""
    return caller(monkeypatch, capsys)


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    """Two runs: "done", and "gone", whose hub died."""
    for age, (name, events) in enumerate({"done": [*BEGIN, END], "gone": BEGIN}.items()):
        folder = RunFolder(tmp_path / name)
        folder.create(to_toml(RunConfig()))
        os.utime(folder.config, (1e9 - age, 1e9 - age))
        with closing(Recorder(folder, 0, lambda problem: None)) as recorder:
            for event in events:
                recorder.record(event)
    return Shelf(tmp_path, "me")


def test_without_a_command_and_without_a_terminal_there_is_help(call: Call) -> None:
    """On stderr, with a usage error's exit code: a script that forgot its command fails."""
    outcome = call()
    assert (outcome.exit_code, outcome.out) == (2, "")
    for words in ("Usage:", "--dir", "attach", "compare", "run"):
        assert words in outcome.err


def test_without_a_command_a_terminal_gets_all_runs(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the folder that --dir names, else of the default one, and the UI's exit code is the command's."""
    opened: list[Path] = []

    class Terminal:
        """A stream that is one."""

        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(main, "sys", type("Sys", (), {"stdin": Terminal(), "stdout": Terminal(), "exit": main.sys.exit}))
    monkeypatch.setattr(main, "open_cockpit", lambda directory: opened.append(directory) or 130)
    assert call().exit_code == 130
    assert call("--dir", str(tmp_path)).exit_code == 130
    assert opened == [Path("runs"), tmp_path]


def test_the_folder_goes_behind_a_command(call: Call, tmp_path: Path) -> None:
    """Before it, it would be ignored, so it is refused."""
    outcome = call("--dir", str(tmp_path), "ls")
    assert outcome.exit_code == 2
    assert "give it behind the command: plt-tui ls --dir ..." in outcome.err


def test_looks_tell_names_first_and_rows_of_what_changed(shelf: Shelf) -> None:
    """What was told is not told again; a dead run is told as failed."""
    looks = list(shelf.look())
    assert {look.names for look in looks} == {("done", "gone")}
    rows = {row.name: row for look in looks for row in look.rows}
    assert {name: row.state.phase for name, row in rows.items()} == {"done": "finished", "gone": "failed"}
    assert rows["done"].losses[0] == 1.0
    assert [look.rows for look in shelf.look()] == [()]


def test_rows_come_in_pieces_while_there_is_more_to_read(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """With nothing to wait for every row is a piece of its own."""
    monkeypatch.setattr(cockpit, "PIECE_S", 0.0)
    assert [[row.name for row in look.rows] for look in shelf.look()] == [["done"], ["gone"], []]


def test_an_opened_run_tells_its_whole_record(shelf: Shelf) -> None:
    """As `attach` does, read-only when it has ended; its name's beginning is enough."""
    run = shelf.open("do")
    assert (run.name, run.readonly, run.config) == ("done", True, RunConfig())

    async def told() -> list[Event]:
        source = await run.connect()
        events = [event async for event in source.events()]
        await source.close()
        return events

    events = asyncio.run(told())
    assert isinstance(events[-1], CaughtUp)
    assert sum(event.count for event in events if isinstance(event, Steps)) == 20
    with pytest.raises(UsageError, match="no run 'none'"):
        shelf.open("none")


def test_a_configuration_that_is_no_text_is_a_sentence(shelf: Shelf, tmp_path: Path) -> None:
    """The Runs screen tells it and goes on."""
    (tmp_path / "done" / "config.toml").write_bytes(b"[run]\nname = '\xff'\n")
    with pytest.raises(UsageError, match=r"done/config\.toml: not UTF-8 text \(byte 0xff at offset 14\)"):
        shelf.open("done")


async def test_a_live_run_that_is_compared_is_only_watched(tmp_path: Path) -> None:
    """Its hub is told so, and tells the other viewers; a run that is opened from the list can be steered."""
    async with held_run(tmp_path / "quick", FakeHub()):
        for readonly in (True, False):
            run = Shelf(tmp_path, "me").open("quick", readonly=readonly)
            source = await run.connect()
            assert (run.readonly, source.readonly) == (readonly, readonly)
            await source.close()


def test_a_folder_that_no_configuration_can_name_is_not_opened() -> None:
    """A run that the form starts could not lie in it."""
    with pytest.raises(UsageError, match=r"--dir .*not UTF-8, so no configuration can keep it"):
        cockpit.open_cockpit(Path(os.fsdecode(b"caf\xe9")))
