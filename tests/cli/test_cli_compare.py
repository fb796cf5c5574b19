"""Promises of `compare`: runs side by side for people and for scripts."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path

import pytest

from plt_tui.cli.compare import _open_comparison
from plt_tui.config.load import to_toml
from plt_tui.config.schema import RunConfig
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.protocol.events import End, Event, Phase, Run, Step
from plt_tui.views.tui.runs import OpenedRun
from tests.cli.commands import Call, caller
from tests.control.said import rewind


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Calls a command as a shell does."""
    return caller(monkeypatch, capsys)


def step(number: int, loss: float) -> Step:
    """A step of which only number and loss matter."""
    return Step(time=1e9 + number, step=number, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=50.0, step_ms=1.0)


def make(folder: Path, events: list[Event], lr: float = 3e-3) -> None:
    """A run that has ended, with this record."""
    base = RunConfig()
    run = RunFolder(folder)
    run.create(to_toml(base.model_copy(update={"optim": base.optim.model_copy(update={"lr": lr})})))
    begin = [
        Phase(phase="starting", time=1e9),
        Run(name=folder.name, dir="/a", world_size=2, params=10, target_step=9, config={}),
    ]
    with closing(Recorder(run, 0, lambda problem: None)) as recorder:
        for event in [*begin, *events]:
            recorder.record(event)


END = End(time=2e9, phase="finished", step=9, exit_code=0, reason="target reached", weights_sha256="ab" * 32)


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs that share two steps, and one that went back."""
    make(tmp_path / "a", [step(1, 3.0), step(2, 2.5), step(3, 2.0), END])
    make(tmp_path / "b", [step(1, 3.0), step(2, 2.5), step(3, float("nan")), END], lr=0.5)
    make(tmp_path / "back", [*(step(n, 4.0 - n) for n in (1, 2, 3)), rewind(1, 3), step(2, 1.5), END])
    return tmp_path


def test_a_comparison_for_scripts(call: Call, runs: Path) -> None:
    """Names, what differs in the configurations, the first step that differs, and the last values, exactly."""
    told = json.loads(call("compare", "a", "b", "--json", "--dir", str(runs)).out)
    assert told["names"] == ["a", "b"]
    assert told["config"] == {"optim.lr": {"a": 3e-3, "b": 0.5}}
    assert told["first_difference"] == {"b": {"from": "a", "alike_steps": 2, "step": 3}}
    assert (told["last"]["a"]["loss"], told["last"]["b"]["loss"]) == (2.0, "nan")
    assert (told["last"]["a"]["state"], told["last"]["a"]["step"]) == ("finished", 3)


def test_a_comparison_for_people_without_a_terminal(call: Call, runs: Path) -> None:
    """A table with a column for each run."""
    outcome = call("compare", "a", "b", "--dir", str(runs))
    assert outcome.exit_code == 0
    rows = {line.split("  ")[0]: line.split() for line in outcome.out.splitlines() if line}
    assert rows["optim.lr"][1:] == ["0.003", "0.5"]
    assert rows["loss differs at"][-2:] == ["step", "3"]
    assert rows["loss"][1:] == ["2.000", "NaN"]


def test_one_run_is_compared_with_its_branches(call: Call, runs: Path) -> None:
    """Also when it is named twice."""
    told = json.loads(call("compare", "back", str(runs / "back"), "--json", "--dir", str(runs)).out)
    assert told["names"] == ["back", "branch 1"]
    assert told["first_difference"] == {"branch 1": {"from": "back", "alike_steps": 0, "step": 2}}
    assert (told["last"]["back"]["loss"], told["last"]["branch 1"]["loss"]) == (1.5, 1.0)


def test_runs_of_one_name_are_told_apart_by_their_folders(call: Call, runs: Path) -> None:
    """Copies from another machine can be compared with what is here."""
    make(runs / "elsewhere" / "a", [step(1, 9.0), END])
    told = json.loads(call("compare", "a", str(runs / "elsewhere" / "a"), "--json", "--dir", str(runs)).out)
    assert told["names"] == [str(runs / "a"), str(runs / "elsewhere" / "a")]


@pytest.mark.parametrize(
    ("names", "said"), [(["a", "none"], "no run 'none'"), ([f"r{n}" for n in range(9)], "at most 8 can be told apart")]
)
def test_what_cannot_be_compared_is_said(call: Call, runs: Path, names: list[str], said: str) -> None:
    """In one sentence, with nothing on stdout."""
    for name in names:
        if name.startswith("r"):
            make(runs / name, [END])
    outcome = call("compare", *names, "--dir", str(runs))
    assert (outcome.exit_code, outcome.out) == (2, "")
    assert said in outcome.err


def test_a_comparison_on_a_terminal_only_watches(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also live runs, which could be steered."""
    opened: list[OpenedRun] = []

    class App:
        """Takes what it would show."""

        return_code = 0

        def __init__(self, *, compare: list[OpenedRun], **_: object) -> None:
            opened.extend(compare)

        def run(self) -> None:
            """Nothing."""

    monkeypatch.setattr("plt_tui.views.tui.app.RunApp", App)
    folders = {name: RunFolder(runs / name) for name in ("a", "b")}
    lock = folders["a"].lock()
    assert _open_comparison(folders) == 0
    os.close(lock)
    assert [(run.name, run.readonly) for run in opened] == [("a", True), ("b", True)]
