"""Promises of `ls`, `show`, `logs` and `attach` on runs that are over, and of the one place that speaks for errors."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from pathlib import Path

import pytest

from plt_tui.cli.attach import exit_code_of, newest_run
from plt_tui.cli.main import main
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.errors import UsageError
from plt_tui.protocol.events import Checkpoint, CommandStatus, End, Eval, Event, Phase, Run, Spike, Step


def step(number: int) -> Step:
    """A step with a loss of its own."""
    return Step(
        time=1e9 + number, step=number, loss=1 / number, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=50.0, step_ms=1.0
    )


def evaluation(number: int, loss: float) -> Eval:
    """An evaluation of which only step and loss matter."""
    return Eval(step=number, loss=loss, perplexity=1.0, bits_per_byte=1.0, accuracy=0.25)


BEGIN: list[Event] = [
    Phase(phase="starting", time=1e9),
    Run(name="a", dir="/a", world_size=2, params=10, target_step=20, tokens_per_step=1),
    Phase(phase="running"),
]
FINISH: list[Event] = [
    Checkpoint(step=20, path="checkpoints/step-00000020", weights_sha256="abc"),
    End(phase="finished", step=20, exit_code=0, weights_sha256="abc", reason="target reached"),
]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs on disk: "done" has finished, "gone" lost its hub at step 5."""
    root = tmp_path / "runs"
    steps = [step(number) for number in range(1, 21)]
    for name, events in {"gone": [*BEGIN, *steps[:5]], "done": [*BEGIN, *steps, evaluation(20, 2.0), *FINISH]}.items():
        folder = RunFolder(root / name)
        folder.create(to_toml(RunConfig()))
        with closing(Recorder(folder, 0, lambda problem: None)) as recorder:
            for event in events:
                recorder.record(event)
        folder.rank_log(0).write_bytes(b"one\n12:00 WARNING two \x1b[2J\n")
    return root


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """What `plt-tui ARGUMENTS` exits with."""
    monkeypatch.setattr(sys, "argv", ["plt-tui", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def test_ls_lists_the_runs(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each: name, state, step of target, loss, speed."""
    assert call(monkeypatch, "ls", "--dir", str(runs)) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["NAME", "STATE", "STEP", "LOSS", "TOKENS/S", "STARTED"]
    assert sorted(row[:5] for row in rows) == [
        ["done", "finished", "20/20", "0.0500", "50"],
        ["gone", "failed", "5/20", "0.2000", "50"],
    ]


def test_ls_as_json(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One array with the keys of `show`."""
    assert call(monkeypatch, "ls", "--json", "--dir", str(runs)) == 0
    assert {row["name"]: row["state"] for row in json.loads(capsys.readouterr().out)} == {"done": "finished", "gone": "failed"}


def test_ls_of_nothing_says_how_to_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty folder is no error."""
    assert call(monkeypatch, "ls", "--dir", str(tmp_path)) == 0
    assert "start one: plt-tui run" in capsys.readouterr().out


def test_show_as_json_has_the_contracts_keys(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Scripts read these names."""
    assert call(monkeypatch, "show", "done", "--json", "--dir", str(runs)) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["state"], shown["step"], shown["world_size"]) == ("done", "finished", 20, 2)
    assert shown["last"] == {"loss": 0.05, "lr": 0.1, "tokens_per_s": 50.0}
    assert (shown["weights_sha256"], shown["accuracy"], shown["exit_code"]) == ("abc", 0.25, 0)
    assert shown["ranks"] == []


def test_show_says_that_a_run_has_crashed_and_how_to_resume(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By the beginning of its name."""
    assert call(monkeypatch, "show", "go", "--dir", str(runs)) == 0
    assert "plt-tui run --resume auto --name gone" in capsys.readouterr().out


def test_show_lists_branches_and_spikes_with_the_command_that_shows_a_batch(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the line that the run is on, and on the branch where a rewind left them; of many only the newest."""
    spikes = [Spike(step=number, what="loss", value=9.0, z=7.0, act="warn") for number in (*range(2, 12), 14, 18)]
    rewind = CommandStatus(
        id="r", name="rewind", args={"step": 12, "skip": 3}, actor="me\x1b[2J", status="applied", step=12, before=20
    )
    folder = RunFolder(runs / "done")
    with closing(Recorder(folder, 100, lambda problem: None)) as recorder:
        for event in [*spikes, rewind, step(13), Spike(step=13, what="grad_norm", value=5.0, z=8.0, act="skip"), FINISH[1]]:
            recorder.record(event)
    assert call(monkeypatch, "show", "done", "--dir", str(runs)) == 0
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert [text for key, *text in lines if key == "branches"] == [
        ["1: steps 13 to 20, left by me\\x1b[2J, 3 batches left out instead"]
    ]
    said = [text[0] for key, *text in lines if key == "spikes"]
    assert said[0] == "earlier: 3, in journal.jsonl"
    assert [text.rpartition("; ")[2] for text in said[1:]] == [
        *(f"plt-tui show done --batch {number}" for number in range(5, 12)),
        *(f"plt-tui show done --batch {number} --branch 1" for number in (14, 18)),
        "plt-tui show done --batch 13",
    ]


def test_show_config_prints_the_file(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A run's configuration as it was written; without a run the one that would be used here."""
    assert call(monkeypatch, "show", "done", "--config", "--dir", str(runs)) == 0
    assert capsys.readouterr().out == (runs / "done" / "config.toml").read_text()
    monkeypatch.chdir(runs)
    assert call(monkeypatch, "show", "--config") == 0
    assert "seed = 1337  # default" in capsys.readouterr().out


def test_logs_prints_the_last_lines_safely(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that a terminal acts on."""
    assert call(monkeypatch, "logs", "done", "-n", "1", "--dir", str(runs)) == 0
    assert capsys.readouterr().out == "rank-0  12:00 WARNING two \\x1b[2J\n"


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["show", "none"], 2, "plt-tui: no run 'none' under"),
        (["show"], 2, "plt-tui: show: which run?"),
        (["logs", "done", "--rank", "7"], 2, "has no rank-7.log"),
        (["ctl", "done", "halt"], 2, "plt-tui: unknown command 'halt'; known: pause"),
        (["ctl", "done", "set", "lr"], 2, "plt-tui: set: value is missing"),
        (["ctl", "done", "pause"], 1, "plt-tui: done is not running; resume it: plt-tui run --resume auto --name done"),
        (["show", "a\x1b[2Jb"], 2, "\\x1b[2Jb"),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_its_exit_code(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    exit_code: int,
    said: str,
) -> None:
    """No traceback, nothing on stdout, and nothing that a terminal acts on."""
    assert call(monkeypatch, *arguments, "--dir", str(runs)) == exit_code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert "Traceback" not in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    "arguments",
    [["show", "gone", "--config"], ["compare", "gone", "--json"], ["attach", "gone"], ["attach", "gone", "--stdio"]],
)
def test_a_configuration_that_is_no_text_is_a_sentence(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Whoever needs it names the file; `ls` needs none."""
    (runs / "gone" / "config.toml").write_bytes(b"\xff")
    assert call(monkeypatch, *arguments, "--dir", str(runs)) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "gone/config.toml: not UTF-8 text" in err
    assert call(monkeypatch, "ls", "--dir", str(runs)) == 0


@pytest.mark.parametrize("command", ["ls", "attach"])
def test_a_folder_that_cannot_be_read_is_not_told_as_empty(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    """A sentence, and a storage error's exit code."""
    assert call(monkeypatch, command, "--dir", str(runs / "done" / "config.toml")) == 5
    out, err = capsys.readouterr()
    assert (out, "config.toml cannot be read: Not a directory" in err) == ("", True)


@pytest.mark.parametrize(
    ("name", "exit_code", "last"), [("done", 0, "finished: target reached"), ("gone", 1, "its hub is gone")]
)
def test_attach_without_a_terminal_tells_in_lines_how_a_run_ended(
    runs: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    exit_code: int,
    last: str,
) -> None:
    """On stdout, with the exit code that the UI would have, and nothing is drawn."""
    assert call(monkeypatch, "attach", name, "--dir", str(runs)) == exit_code
    out, err = capsys.readouterr()
    assert last in out
    assert ("\x1b" in out, err) == (False, "")


def test_the_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On stdout."""
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.startswith("plt-tui ")


def test_attach_without_a_name_takes_the_newest_live_run(runs: Path, tmp_path: Path) -> None:
    """A live one before a newer one that is over."""
    newest = newest_run(runs)
    older = next(RunFolder(path) for path in runs.iterdir() if path.name != newest.name)
    descriptor = older.lock()
    assert newest_run(runs).name == older.name
    import os

    os.close(descriptor)
    with pytest.raises(UsageError, match="start one: plt-tui run"):
        newest_run(tmp_path / "nowhere")


@pytest.mark.parametrize(("of_run", "of_view"), [(0, 0), (143, 0), (130, 130), (4, 4), (7, 7)])
def test_a_stop_that_somebody_asked_for_is_no_failure_of_the_view(of_run: int, of_view: int) -> None:
    """Every other exit code is passed on."""
    assert exit_code_of(of_run) == of_view
