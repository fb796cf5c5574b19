"""Real runs with exporters: what TensorBoard then shows, and that nothing an exporter does reaches the run."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import struct
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import read_feed
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import Alert, Eval
from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import GONE_S, Reference, assert_sound
from tests.end_to_end.runs import (
    ask,
    command,
    ended,
    finish,
    go_on,
    phase_of,
    processes_of,
    read_until,
    show,
    start,
    start_to,
    train,
    wait_until,
)

READER = Path(__file__).parents[1] / "exporters" / "read_tensorboard.py"
HOSTILE = str(Path(__file__).parent / "hostile_exporters.py")
EXPORT = ("export.to=['tensorboard']",)
PATIENT = ("control.hang_s=600",)
"""The run waits for the test, which stops a rank while it looks at an exporter."""
KILLED = -signal.SIGKILL
DYING = {
    "raising": "OSError: the server is gone \\x1b]0;owned\\x07 (exit code 1); started again in 5 s",
    "leaving": "ended with exit code 5; started again in 5 s",
    "refusing": "RuntimeError: no such thing (exit code 1); started again in 5 s",
    "eating": "MemoryError: (exit code 1); started again in 5 s",
}
"""Exporters of the plug-in, and what is told of their first end."""
ENDLESS = ("hanging", "spinning", "flooding")
"""Those that do not end by themselves."""

Rows = list[list[Any]]


def shown(folder: Path, name: str) -> dict[str, Rows]:
    """The scalars that TensorBoard reads of a run, by name."""
    directory = folder / "runs" / name / "exports" / "tensorboard"
    done = subprocess.run([sys.executable, READER, directory], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    scalars: dict[str, Rows] = json.loads(done.stdout)["scalars"]
    return scalars


def float32(value: float) -> float:
    """`value` as event files keep it."""
    kept: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return kept


def assert_same(folder: Path, name: str) -> Feed:
    """TensorBoard shows of the run's line what the record says, each step and evaluation once; returns the record."""
    feed = read_feed(RunFolder(folder / "runs" / name))
    columns, scalars = feed.history.columns, shown(folder, name)
    for tag, column in [
        ("train/loss", "loss"),
        ("train/lr", "lr"),
        ("train/grad_norm", "grad_norm"),
        ("train/tokens_per_s", "tokens_per_s"),
        ("train/step_ms", "step_ms"),
        ("tokens", "tokens"),
    ]:
        wanted = zip(columns["step"], map(float32, columns[column]), columns["time"], strict=True)
        assert scalars[tag] == list(map(list, wanted)), tag
    evals = {event.step: event.loss for event in feed.events if isinstance(event, Eval) and event.step <= feed.state.step}
    assert [row[:2] for row in scalars["eval/loss"]] == [[step, float32(loss)] for step, loss in sorted(evals.items())]
    return feed


def exporters_of(folder: Path) -> list[psutil.Process]:
    """The live processes of exporters that were started in `folder`."""
    found = []
    for process in processes_of(folder):
        with suppress(psutil.Error):
            if "plt_tui.exporters" in " ".join(process.cmdline()):
                found.append(process)
    return found


def exported_step(run: RunFolder) -> int:
    """The last step that is safe in TensorBoard; 0: none."""
    place = run.path / "exports" / "tensorboard.json"
    return int(json.loads(place.read_text())["step"]) if place.exists() else 0


def alerts_of(feed: Feed, topic: str) -> list[str]:
    """The texts of all alerts about `topic`, oldest first."""
    return [event.text for event in feed.events if isinstance(event, Alert) and event.topic == topic]


def test_tensorboard_shows_what_was_recorded(tmp_path: Path, undisturbed: Reference) -> None:
    """A run of two ranks, its resume, and nothing left behind; the bits are those of a run without an exporter."""
    told = train(tmp_path, "shown", *SMALL, extra=("--export-to", "tensorboard"))
    assert assert_sound(tmp_path, "shown", undisturbed, exit_code=0, told=told).state.step == 50
    feed = assert_same(tmp_path, "shown")
    assert alerts_of(feed, "export tensorboard") == []
    train(tmp_path, "shown", "train.steps=60", extra=("--resume", "auto"))
    feed = assert_same(tmp_path, "shown")
    assert feed.state.step == 60
    again = command(tmp_path, "export", "shown", "--format", "tensorboard")
    assert "nothing of shown is new to tensorboard" in again


def test_a_rewind_is_shown_as_one_line(tmp_path: Path) -> None:
    """TensorBoard has the steps of the line that the run is on."""
    process = start_to(tmp_path, "back", "rank.1.step.40", "stop", *SMALL, *PATIENT, *EXPORT)
    with ended(process):
        wait_until(lambda: exported_step(RunFolder(tmp_path / "runs" / "back")) >= 35)
        wish = new_command("rewind", {"step": 25, "skip": 3}, actor="test")
        assert asyncio.run(ask(tmp_path, "back", wish)).status == "applied"
        finish(process)
    feed = assert_same(tmp_path, "back")
    (left,) = feed.state.branches
    assert left.last >= 39
    assert feed.state.step == 50


def test_an_exporter_that_is_killed_misses_nothing_and_repeats_nothing(tmp_path: Path, undisturbed: Reference) -> None:
    """Kill -9 in the middle of the run: it is told of and started again; the run does not notice."""
    run = RunFolder(tmp_path / "runs" / "shot")
    process = start_to(tmp_path, "shot", "rank.1.step.30", "stop", *SMALL, *PATIENT, *EXPORT)
    with ended(process):
        wait_until(lambda: exported_step(run) >= 25)
        (exporter,) = exporters_of(tmp_path)
        exporter.kill()
        wait_until(lambda: alerts_of(read_feed(run), "export tensorboard"))
        go_on(tmp_path)
        finish(process)
    assert_sound(tmp_path, "shot", undisturbed, exit_code=0, failpoints=["rank.1.step.30"])
    feed = assert_same(tmp_path, "shot")
    first, *_ = alerts_of(feed, "export tensorboard")
    assert first == "export tensorboard: was ended by SIGKILL; started again in 5 s"
    assert len(list((tmp_path / "runs/shot/exports/tensorboard").glob("events*"))) == 2


def test_exporters_that_die_do_not_reach_the_run(tmp_path: Path, undisturbed: Reference) -> None:
    """All of them at once: same bits, no gap, nothing left, the one that works misses nothing; what each died of is told."""
    process = start_beside(tmp_path, *DYING)
    with ended(process):
        run = RunFolder(tmp_path / "runs" / "hurt")
        for name in DYING:
            wait_until(lambda name=name: alerts_of(read_feed(run), f"export {name}"))
        go_on(tmp_path)
        finish(process)
    feed = assert_sound(tmp_path, "hurt", undisturbed, exit_code=0, failpoints=["rank.1.step.20"])
    told = {name: alerts_of(feed, f"export {name}")[0] for name in DYING}
    assert told == {name: f"export {name}: {what}" for name, what in DYING.items()}
    assert_same(tmp_path, "hurt")
    assert_logs_are_small(run, *DYING)


def test_exporters_that_never_end_do_not_reach_the_run(tmp_path: Path, undisturbed: Reference) -> None:
    """All of them at once, and they are ended with the run."""
    process = start_beside(tmp_path, *ENDLESS)
    with ended(process):
        run = RunFolder(tmp_path / "runs" / "hurt")
        wait_until(lambda: len(exporters_of(tmp_path)) == 1 + len(ENDLESS))
        go_on(tmp_path)
        read_until(process, lambda line: line["kind"] == "end")  # then they would be waited for
        for exporter in exporters_of(tmp_path):
            with suppress(psutil.NoSuchProcess):
                if set(ENDLESS) & set(exporter.cmdline()):
                    exporter.kill()
        finish(process)
    assert_sound(tmp_path, "hurt", undisturbed, exit_code=0, failpoints=["rank.1.step.20"])
    assert_same(tmp_path, "hurt")
    assert_logs_are_small(run, *ENDLESS)


def start_beside(folder: Path, *names: str) -> subprocess.Popen[str]:
    """A run with TensorBoard's exporter and these, held at step 20."""
    to = f"export.to={['tensorboard', *names]}"
    return start_to(folder, "hurt", "rank.1.step.20", "stop", *SMALL, *PATIENT, to, extra=("--plugin", HOSTILE))


def assert_logs_are_small(run: RunFolder, *names: str) -> None:
    """Whatever an exporter prints."""
    for name in names:
        assert sum(path.stat().st_size for path in run.logs.glob(f"export-{name}.log*")) < 10 << 20


def test_no_exporter_outlives_a_hub_that_is_killed(tmp_path: Path, undisturbed: Reference) -> None:
    """Kill -9 of the hub ends it too; the next session's goes on where it was, without a gap and without a repeat."""
    process = start_to(tmp_path, "gone", "rank.1.step.35", "stop", *SMALL, *PATIENT, *EXPORT)
    wait_until(lambda: exported_step(RunFolder(tmp_path / "runs" / "gone")) > 0)
    exporters = exporters_of(tmp_path)
    assert len(exporters) == 1
    process.kill()
    _, alive = psutil.wait_procs(exporters, GONE_S)
    assert not alive
    told = finish(process, exit_code=KILLED)
    assert_sound(tmp_path, "gone", undisturbed, exit_code=KILLED, failpoints=["rank.1.step.35"], told=told)
    finish(start(tmp_path, "gone", *SMALL, *EXPORT, extra=("--resume", "auto")))
    assert_sound(tmp_path, "gone", undisturbed, exit_code=0)
    assert_same(tmp_path, "gone")


def test_a_stop_keeps_what_was_exported(tmp_path: Path) -> None:
    """Ctrl-C to the whole process group: the exporter does not hear it, and finishes what was recorded."""
    process = start_to(tmp_path, "stopped", "rank.1.step.30", "stop", *SMALL, *PATIENT, *EXPORT, own_group=True)
    with ended(process):
        wait_until(lambda: phase_of(tmp_path, "stopped") == "running")
        os.killpg(process.pid, signal.SIGINT)
        wait_until(lambda: phase_of(tmp_path, "stopped") == "stopping")
        go_on(tmp_path)
        finish(process, exit_code=130)
    feed = assert_same(tmp_path, "stopped")
    assert show(tmp_path, "stopped")["state"] == "stopped"
    assert alerts_of(feed, "export tensorboard") == []


def test_a_stop_by_signal_waits_for_no_exporter_beyond_its_grace(tmp_path: Path, undisturbed: Reference) -> None:
    """Whoever sends the signal kills what is still there a little later: what hangs is ended, and the exit code is kept."""
    sets = (*SMALL, *PATIENT, "export.to=['hanging']", "control.grace_s=15")
    process = start_to(tmp_path, "late", "rank.1.step.20", "stop", *sets, extra=("--plugin", HOSTILE))
    with ended(process):
        wait_until(lambda: exporters_of(tmp_path) and phase_of(tmp_path, "late") == "running")
        began = time.monotonic()
        process.terminate()
        wait_until(lambda: phase_of(tmp_path, "late") == "stopping")
        go_on(tmp_path)
        told = finish(process, exit_code=143)
        assert time.monotonic() - began < 28.0  # far less than exporters are given at any other end
    feed = assert_sound(tmp_path, "late", undisturbed, exit_code=143, failpoints=["rank.1.step.20"], told=told)
    assert feed.state.reason == "stopped by signal SIGTERM"


def test_a_finished_run_is_exported_by_hand(tmp_path: Path) -> None:
    """Into TensorBoard, and into tables that read back to the same bits."""
    train(tmp_path, "old", *SMALL)
    said = command(tmp_path, "export", "old", "--format", "tensorboard")
    assert "handed 50 steps and" in said
    feed = assert_same(tmp_path, "old")
    said = command(tmp_path, "export", "old", "--format", "csv", "-o", "tables")
    assert "metrics.csv (50 rows), evals.csv (3 rows), events.csv (" in said
    head, *rows = (tmp_path / "tables" / "metrics.csv").read_text().splitlines()
    columns = dict(zip(head.split(","), zip(*(row.split(",") for row in rows), strict=True), strict=True))
    for name, values in feed.history.columns.items():
        assert [struct.pack("<d", float(text)) for text in columns[name]] == [struct.pack("<d", value) for value in values]


def test_an_unknown_exporter_is_refused_before_anything_begins(tmp_path: Path) -> None:
    """With the names that there are; no folder is made."""
    process = start(tmp_path, "none", *SMALL, "export.to=['tensorbord']")
    finish(process, exit_code=2)
    said = (tmp_path / "none.stderr").read_text()
    assert "no plug-in of the kind exporters is called 'tensorbord'; known: mlflow, tensorboard, trackio, wandb" in said
    assert not (tmp_path / "runs" / "none").exists()
