"""Promises of `cli.echo`: nothing in a run folder from elsewhere acts on the terminal, and a reader may leave at any time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from plt_tui.cli.ctl import describe
from plt_tui.cli.echo import echo, echo_json
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.protocol.events import Alert, Checkpoint, CommandStatus, Phase, Run
from tests.cli.test_cli_runs import call

DEADLINE_S = 60.0
EVIL = "x\x1b]0;owned\x07\x9b2J\x7f"
HEADLESS = """
import functools
from plt_tui.cli import hub
from plt_tui.cli.main import main
hub.serve_run = functools.partial(hub.serve_run, entry="tests.control.fake_ranks:raises_at_step_5")
main()
"""


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A folder with one run that somebody else has sent: no hub of ours has filtered its record."""
    folder = RunFolder(tmp_path / "runs" / "sent")
    folder.create(to_toml(RunConfig()) + f"# {EVIL}\n")
    with closing(Recorder(folder, 0, lambda problem: None)) as recorder:
        recorder.record(Run(name=EVIL, dir=EVIL, world_size=1, params=1, target_step=9, device=EVIL))
        recorder.record(Checkpoint(step=1, path=EVIL, weights_sha256=EVIL))
        recorder.record(Alert(topic=EVIL, text=f"a\n{EVIL}"))
        recorder.record(Phase(phase=f"finished{EVIL}", reason=f"a\n{EVIL}"))  # type: ignore[arg-type]
    return folder.path.parent


@pytest.mark.parametrize("arguments", [["ls"], ["show", "sent"], ["show", "sent", "--config"]], ids=" ".join)
def test_nothing_of_a_copied_run_acts_on_the_terminal(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """State, reason, paths, alerts and comments are shown with their escapes made visible, one line staying one line."""
    assert call(monkeypatch, *arguments, "--dir", str(copied)) == 0
    out = capsys.readouterr().out
    assert all(char.isprintable() or char == "\n" for char in out)
    assert "\\x1b]0;owned\\x07\\x9b2J\\x7f" in out
    if arguments == ["ls"]:
        assert len(out.splitlines()) == 2


@pytest.mark.parametrize("arguments", [["ls", "--json"], ["show", "sent", "--json"]], ids=" ".join)
def test_json_of_a_copied_run_is_ascii_and_whole(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Scripts get the texts as they are, through characters that no terminal acts on."""
    assert call(monkeypatch, *arguments, "--dir", str(copied)) == 0
    out = capsys.readouterr().out
    assert out.rstrip("\n").isprintable()
    value = json.loads(out)
    assert (value[0] if isinstance(value, list) else value)["state"] == f"finished{EVIL}"


def test_texts_are_printed_whole(capsys: pytest.CaptureFixture[str]) -> None:
    """A long line is not cut: a configuration that was printed into a file can be read again."""
    echo("y" * 10_000, nl=False)
    echo(describe(CommandStatus(id="1", name=EVIL, args={}, actor="", status="applied", step=3), "run"), err=True)
    out, err = capsys.readouterr()
    assert out == "y" * 10_000
    assert err == "x\\x1b]0;owned\\x07\\x9b2J\\x7f: in force at step 3\n"
    echo_json({"a": EVIL})
    assert capsys.readouterr().out == '{"a": "x\\u001b]0;owned\\u0007\\u009b2J\\u007f"}\n'


def plt_tui(*arguments: str, script: str = "from plt_tui.cli.main import main; main()") -> subprocess.Popen[bytes]:
    """The command with a pipe for its stdout and one for its stderr."""
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-c", script, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env={**os.environ, "PYTHONPATH": root})


def after_a_line(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Exit code and stderr of a command whose reader leaves after one line."""
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() != b""
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read().decode()
    return process.wait(DEADLINE_S), said


def test_a_reader_that_has_seen_enough_is_no_failure(copied: Path) -> None:
    """`plt-tui logs RUN | head -1` succeeds and says nothing on stderr."""
    log = copied / "sent" / "logs" / "rank-0.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)))  # more than a pipe holds
    assert after_a_line(plt_tui("logs", "sent", "-n", "100000", "--dir", str(copied))) == (0, "")


@pytest.mark.parametrize("options", [["--no-ui"], ["--json"]], ids=" ".join)
def test_a_headless_run_outlives_the_reader_of_its_output(tmp_path: Path, options: list[str]) -> None:
    """`plt-tui run --no-ui | head -1`: the run goes on to its own end, and has its own exit code."""
    sets = [f"run.dir={tmp_path}", "run.name=a", "parallel.ranks=1", "parallel.device=cpu"]
    given = [f"--set={assignment}" for assignment in sets]
    assert after_a_line(plt_tui("run", *options, *given, script=HEADLESS)) == (4, "")
    assert b'"exit_code":4' in RunFolder(tmp_path / "a").journal.read_bytes().splitlines()[-1]
