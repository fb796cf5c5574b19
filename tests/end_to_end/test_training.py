"""Two real ranks over gloo: training, stopping, resuming, steering, failing; compared bit for bit with a run left alone."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from plt_tui.protocol.commands import new_command
from tests.end_to_end.runs import (
    applied_step,
    arm,
    ask,
    command,
    end_of,
    finish,
    go_on,
    losses,
    options,
    phase_of,
    show,
    start_to,
    stop,
    stopped_at,
    train,
    wait_to,
    wait_until,
)

TARGET = 400
STEPS = f"train.steps={TARGET}"
SCHEDULE = ("eval.every=100", "sample.every=125", "checkpoint.every=100")
JSON_KEYS = {
    "run": {"kind", "name", "dir", "world_size", "params"},
    "step": {"kind", "step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "step_ms"},
    "eval": {"kind", "step", "loss", "perplexity", "bits_per_byte", "accuracy"},
    "checkpoint": {"kind", "step", "path"},
    "command": {"kind", "id", "name", "args", "actor", "status", "step"},
    "end": {"kind", "state", "step", "weights_sha256", "exit_code"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs of this module lie."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Iterator[list[dict]]:
    """A run that nobody touches."""
    return train(folder, "reference", STEPS, *SCHEDULE)


def test_a_run_says_everything_in_the_agreed_words(reference: list[dict], folder: Path) -> None:
    """Every line has exactly the documented keys, every step is there once and in order, and the loss falls."""
    for line in reference:
        assert set(line) == JSON_KEYS[line["kind"]]
    steps = [line["step"] for line in reference if line["kind"] == "step"]
    assert steps == list(range(1, TARGET + 1))
    assert losses(reference)[TARGET] < losses(reference)[1] - 1.0
    assert [line["step"] for line in reference if line["kind"] == "eval"] == [100, 200, 300, 400]
    assert [line["step"] for line in reference if line["kind"] == "checkpoint"] == [100, 200, 300, 400]
    assert reference[0]["world_size"] == 2
    assert end_of(reference)["state"] == "finished"
    shown = show(folder, "reference")
    assert shown["weights_sha256"] == end_of(reference)["weights_sha256"]
    assert (shown["state"], shown["step"], shown["world_size"]) == ("finished", TARGET, 2)
    assert [rank["rank"] for rank in shown["ranks"]] == []
    assert shown["last"]["loss"] == losses(reference)[TARGET]


def test_stop_and_resume_equals_no_stop(reference: list[dict], folder: Path) -> None:
    """A run stopped by Ctrl-C in mid-way exits 130 with a checkpoint and, resumed, ends with the same losses and weights."""
    before = stopped_at(folder, "stopped", 31, STEPS, *SCHEDULE)
    assert end_of(before)["state"] == "stopped"
    last = end_of(before)["step"]
    assert 30 <= last < TARGET
    assert show(folder, "stopped")["last_checkpoint"] == f"checkpoints/step-{last:08d}"
    after = train(folder, "stopped", STEPS, *SCHEDULE)
    assert min(losses(after)) == last + 1
    assert {**losses(before), **losses(after)} == losses(reference)
    assert end_of(after)["weights_sha256"] == end_of(reference)["weights_sha256"]


def test_a_resumed_run_needs_no_config(reference: list[dict], folder: Path) -> None:
    """`run --name OLD` without a file takes the run's own configuration; a finished run has nothing left to do."""
    lines = [json.loads(line) for line in command(folder, "run", "--json", "--name", "reference").splitlines()]
    assert losses(lines) == {}
    assert end_of(lines)["weights_sha256"] == end_of(reference)["weights_sha256"]


def test_looking_and_pausing_do_not_perturb(reference: list[dict], folder: Path) -> None:
    """Pause, evaluate, sample, save, note, resume: every command answers with its step, and not one loss bit changes."""
    process = start_to(folder, "watched", "rank.1.step.6", "stop", STEPS, *SCHEDULE)
    paused_at = asyncio.run(ask(folder, "watched", new_command("pause", actor="test"))).step
    state = show(folder, "watched")
    assert (state["state"], state["step"]) == ("paused", paused_at)
    assert len({rank["pid"] for rank in state["ranks"]}) == 2
    for words in (["eval"], ["sample", "def "], ["checkpoint", "keep-me"], ["note", "all is well"]):
        assert applied_step(command(folder, "ctl", "watched", *words)) == paused_at
    command(folder, "ctl", "watched", "resume")
    lines = finish(process)
    assert losses(lines) == losses(reference)
    assert end_of(lines)["weights_sha256"] == end_of(reference)["weights_sha256"]
    kept = json.loads((folder / f"runs/watched/checkpoints/step-{paused_at:08d}/manifest.json").read_text())
    assert kept["name"] == "keep-me"


def test_a_learning_rate_edit_is_in_force_at_the_step_it_names(reference: list[dict], folder: Path) -> None:
    """The rate changes exactly at the acknowledged step, survives stop and resume, and undo restores the schedule."""
    process = start_to(folder, "edited", "rank.1.step.6", "stop", STEPS, *SCHEDULE)
    asyncio.run(ask(folder, "edited", new_command("pause", actor="test")))
    first = applied_step(command(folder, "ctl", "edited", "set", "lr", "0.5", "scale"))
    refused = command(folder, "ctl", "edited", "set", "lr", "99", exit_code=2)
    assert "outside 0 to 10" in refused
    held = f"rank.1.step.{first + 10}"
    arm(folder, "edited", {held: "stop"})
    command(folder, "ctl", "edited", "resume")
    wait_to(folder, "edited", held, "stop")
    stop(process, signal.SIGTERM)
    wait_until(lambda: phase_of(folder, "edited") == "stopping")
    go_on(folder)
    lines = finish(process, exit_code=143)
    process = start_to(folder, "edited", f"rank.1.step.{end_of(lines)['step'] + 5}", "stop", STEPS, *SCHEDULE)
    last = asyncio.run(ask(folder, "edited", new_command("undo", actor="test"))).step - 1
    lines += finish(process)
    planned = {line["step"]: line["lr"] for line in reference if line["kind"] == "step"}
    seen = {line["step"]: line["lr"] for line in lines if line["kind"] == "step"}
    assert {step: seen[step] / planned[step] for step in seen} == pytest.approx(
        {step: 0.5 if first <= step <= last else 1.0 for step in seen}
    )
    assert len(seen) == TARGET


def test_three_ranks_resume_to_the_same_bits(folder: Path) -> None:
    """With three ranks the order of sums matters: DDP's buckets must lie as they did in the run that never stopped."""
    three = ("parallel.ranks=3", "train.steps=40", "checkpoint.every=15")
    whole = train(folder, "three", *three)
    before = stopped_at(folder, "three-stopped", 13, *three)
    after = train(folder, "three-stopped", *three)
    assert {**losses(before), **losses(after)} == losses(whole)
    assert end_of(after)["weights_sha256"] == end_of(whole)["weights_sha256"]


def test_a_detached_run_is_found_stopped_and_left_whole(folder: Path) -> None:
    """`run --detach` returns; `ls` finds the run, a second start is refused with exit 6, `ctl stop` saves and ends it."""
    command(folder, "run", "--detach", "--name", "apart", *options("train.steps=100000"))
    wait_until(lambda: show(folder, "apart")["step"] > 3)
    assert any(row["name"] == "apart" and row["state"] == "running" for row in json.loads(command(folder, "ls", "--json")))
    busy = command(folder, "run", "--no-ui", "--name", "apart", exit_code=6)
    assert "plt-tui attach apart" in busy
    last = applied_step(command(folder, "ctl", "apart", "stop"))
    wait_until(lambda: show(folder, "apart")["state"] == "stopped")
    assert show(folder, "apart")["step"] == last
    assert show(folder, "apart")["last_checkpoint"] == f"checkpoints/step-{last:08d}"
    assert "rank" in command(folder, "logs", "apart")


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"", "empty"), (b"abc \xff def", "byte 4"), (b"too short", "too short")],
)
def test_bad_data_ends_with_exit_7_and_a_sentence(folder: Path, tmp_path: Path, content: bytes, expected: str) -> None:
    """An unusable corpus is named, whether it is found before the ranks start or by them."""
    corpus = tmp_path / "corpus.txt"
    corpus.write_bytes(content)
    said = command(folder, "run", "--no-ui", *options(train=corpus), exit_code=7)
    assert str(corpus) in said
    assert expected in said
    assert "Traceback" not in said
