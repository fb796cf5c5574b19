"""Faults of what a run stands on: its folder, its data, its machine's clock, ports, network and shared memory."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.protocol.events import Alert, Run
from tests.end_to_end.conftest import SMALL
from tests.end_to_end.invariants import Reference, assert_sound, reference_of
from tests.end_to_end.runs import (
    CORPUS,
    DEADLINE_S,
    arm,
    command,
    ended,
    finish,
    go_on,
    losses,
    options,
    start,
    start_to,
    train,
    wait_to,
    wait_until,
)

ANY_TARGET = ("parallel.ranks=1", "optim.schedule=constant", "optim.warmup=0", "train.batch_size=8", "checkpoint.every=8")
"""A run whose steps do not depend on how many there will be."""
HOUR_S = 3600.0
CLOCK = """
import os, time
read = time.time
def shifted():
    with open(os.environ["CLOCK_SHIFT"]) as file:
        return read() + float(file.read())
time.time = shifted
"""
"""A wall clock that can be set while processes look at it."""
FILL = """
mount -t tmpfs -o size=64k tmpfs /dev/shm && head -c $BYTES /dev/zero >/dev/shm/full || exit
"$@"
code=$?
ls /dev/shm >&2
exit $code
"""
"""Runs a command with a small and nearly full /dev/shm, and tells at the end what is in it."""
ACT = """
mkdir -p runs && $BEFORE || exit
(until [ -e act ] && grep -qs checkpoints/step-00000020 runs/*/journal.jsonl; do sleep 0.02; done; $ACT; touch acted) &
"$@"
code=$?
$AFTER
exit $code
"""
"""Runs a command in folders of its own, in which something happens as soon as there is a file `act`, and then `acted`.

What is being saved when a disk becomes read-only cannot be removed any more: the save of step 20 is waited for."""
SMALL_DISK = "mount -t tmpfs -o size=8m tmpfs runs"
FILL_DISK = "cat /dev/zero >runs/ballast"
KEEP_DISK = "rm runs/ballast && mkdir kept && cp -a runs/. kept"
READ_ONLY = "mount --bind runs runs && mount -o remount,bind,ro runs"


def unshare(*options: str) -> tuple[str, ...]:
    """The command that gives a process a part of the machine of its own; skips the test where that is not allowed."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-Ur", *options, "true"], check=False).returncode:
        pytest.skip(f"unshare -Ur {' '.join(options)} is not allowed here")
    return ("unshare", "-Ur", *options)


def little_shared_memory(left_bytes: int) -> tuple[str, ...]:
    """The command that gives a process so much shared memory; skips the test where that is not allowed."""
    return (*unshare("-m"), "env", f"BYTES={(64 << 10) - left_bytes}", "sh", "-c", FILL, "sh")


@contextmanager
def hurt(
    folder: Path, name: str, *sets: str, before: str = "true", act: str, after: str = "true"
) -> Iterator[subprocess.Popen[str]]:
    """A run of `SMALL` that has come to step 25 and stands there while `act` is done to its folders."""
    arm(folder, name, {"rank.1.step.25": "stop"})
    script = ACT.replace("$BEFORE", before).replace("$ACT", act).replace("$AFTER", after)
    process = start(folder, name, *SMALL, *sets, within=(*unshare("-m"), "sh", "-c", script, "sh"))
    with ended(process):
        wait_to(folder, name, "rank.1.step.25", "stop")
        (folder / "act").touch()
        wait_until((folder / "acted").exists)
        yield process


def content_of(folder: Path) -> dict[str, str]:
    """The hash of every file under `folder` but the lock, which says who took it last."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_one_of_two_runs_that_start_at_once_trains(tmp_path: Path) -> None:
    """The other one ends with exit code 6, and names the one that trains."""
    pair = [start(tmp_path, "twice", "parallel.ranks=1", "train.steps=5") for _ in range(2)]
    said = [process.stdout.read() for process in pair if process.stdout is not None]
    assert sorted(process.wait(DEADLINE_S) for process in pair) == [0, 6]
    winner, loser = sorted(pair, key=lambda process: process.returncode)
    assert said[pair.index(loser)] == ""
    refusal = f"in use by process {winner.pid} on {socket.gethostname()}; watch it with: plt-tui attach twice\n"
    assert (tmp_path / "twice.stderr").read_text().endswith(refusal)
    for process in pair:
        process.communicate()
    assert_sound(tmp_path, "twice", reference_of(tmp_path, "twice"), exit_code=0)


def test_a_clock_that_jumps_and_a_taken_port_disturb_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: Reference
) -> None:
    """An hour back, then two ahead, with the metrics port taken: every number that is served stays sane, and so do the bits."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK)
    shift = tmp_path / "shift"
    shift.write_text("0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("CLOCK_SHIFT", str(shift))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        sets = (*SMALL, f"metrics.address={address}", "metrics.serve=true")
        process = start_to(tmp_path, "jumps", "rank.0.step.20", "stop", *sets)
    with ended(process):
        info = RunFolder(tmp_path / "runs/jumps").read_info()
        assert info is not None
        assert info.metrics_url not in ("", f"http://{address}")
        for hours, point in ((-1, "rank.0.step.35"), (1, "rank.0.step.45")):
            written = tmp_path / "next-shift"
            written.write_text(str(hours * HOUR_S))
            written.rename(shift)  # whole at once: hub and ranks read it all the time
            arm(tmp_path, "jumps", {point: "stop"})
            go_on(tmp_path)
            wait_to(tmp_path, "jumps", point, "stop")
            with urllib.request.urlopen(f"{info.metrics_url}/api/v1/run", timeout=10) as answer:
                shown = json.load(answer)
            assert 0 <= shown["eta_s"] < 60
            assert shown["last"]["tokens_per_s"] > 0
        go_on(tmp_path)
        lines = finish(process)
    feed = assert_sound(tmp_path, "jumps", undisturbed, exit_code=0, told=lines)
    assert all(getattr(event, "seconds", 0.0) >= 0 for event in feed.events)
    assert min(feed.history.columns["step_ms"]) > 0


def test_full_shared_memory_slows_ranks_down_and_stops_nothing(tmp_path: Path, undisturbed: Reference) -> None:
    """With room for the queues' semaphores alone, ranks add up through gloo; nothing is left in shared memory."""
    semaphores = 2 * 6 * os.sysconf("SC_PAGE_SIZE")
    lines = finish(start(tmp_path, "tight", *SMALL, within=little_shared_memory(semaphores)))
    assert_sound(tmp_path, "tight", undisturbed, exit_code=0, told=lines)
    assert (tmp_path / "tight.stderr").read_text() == "full\n"


def test_no_shared_memory_at_all_is_a_sentence(tmp_path: Path) -> None:
    """Nothing can be started then: exit 5 with the way out, in the record too."""
    lines = finish(start(tmp_path, "none", *SMALL, within=little_shared_memory(0)), exit_code=5)
    feed = assert_sound(tmp_path, "none", Reference(losses={}, weights={}), exit_code=5, told=lines)
    assert "/dev/shm" in feed.state.reason
    assert "Traceback" not in (tmp_path / "none.stderr").read_text()


@pytest.mark.parametrize("killed", [False, True])
def test_a_folder_that_becomes_read_only_costs_the_saves_and_nothing_else(
    tmp_path: Path, undisturbed: Reference, killed: bool
) -> None:
    """The run goes on, through a restart too, and ends with exit 5; what it had open takes the record to its end."""
    with hurt(tmp_path, "locked", act=READ_ONLY) as process:
        arm(tmp_path, "locked", {"rank.1.step.35": "kill"} if killed else {})
        go_on(tmp_path)
        lines = finish(process, exit_code=5)
    (tmp_path / "runs/locked/.reserve").unlink()  # the one thing left: nothing is deleted from a read-only disk
    feed = assert_sound(tmp_path, "locked", undisturbed, exit_code=5, told=lines)
    assert feed.state.step == 50
    assert feed.state.restarts == killed
    assert "read-only" in feed.state.reason
    assert "checkpoint" in feed.state.alerts
    assert "Traceback" not in (tmp_path / "locked.stderr").read_text()


@pytest.mark.parametrize("killed", [False, True])
def test_a_disk_that_is_full_to_the_end_leaves_a_whole_record(tmp_path: Path, undisturbed: Reference, killed: bool) -> None:
    """The run goes on, through a restart too, and ends with exit 5; its last steps and its end find the room kept for them."""
    one = ("checkpoint.keep=1", "checkpoint.every=20")  # of two the older would give way, and leave its room to the next
    with hurt(tmp_path, "full", *one, before=SMALL_DISK, act=FILL_DISK, after=KEEP_DISK) as process:
        arm(tmp_path, "full", {"rank.1.step.35": "kill"} if killed else {})
        go_on(tmp_path)
        lines = finish(process, exit_code=5)
    (tmp_path / "runs").rmdir()
    (tmp_path / "kept").rename(tmp_path / "runs")
    feed = assert_sound(tmp_path, "full", undisturbed, exit_code=5, told=lines)
    assert feed.state.step == 50
    assert feed.state.restarts == killed
    assert "free some space" in feed.state.reason
    assert "checkpoint" in feed.state.alerts


def test_ranks_without_a_loopback_interface_are_told_what_to_do(tmp_path: Path) -> None:
    """Ranks of one machine talk over `lo`; without it two of them cannot, and no restart is tried."""
    process = start(tmp_path, "cut", *SMALL, within=unshare("-n"))
    lines = finish(process, exit_code=2)
    feed = assert_sound(tmp_path, "cut", Reference(losses={}, weights={}), exit_code=2, told=lines)
    assert "ip link set lo up" in feed.state.reason
    assert "parallel.ranks=1" in feed.state.reason
    assert feed.state.restarts == 0


def test_a_run_goes_on_with_other_ranks_but_not_with_other_data(tmp_path: Path) -> None:
    """One rank, two, one again: the same batches, close losses, the reasons in the record. Other data is refused."""
    corpus, run = tmp_path / "corpus.txt", tmp_path / "runs/parts"
    shutil.copy(CORPUS, corpus)
    sets = (*ANY_TARGET, f"data.train={corpus}")
    whole = losses(train(tmp_path, "parts", *sets, "train.steps=24"))
    parts: dict[int, float] = {}
    for ranks, batch, target, checkpoint in ((2, 4, 16, "checkpoints/step-00000008"), (1, 8, 24, ""), (2, 8, 26, "")):
        more = (f"parallel.ranks={ranks}", f"train.batch_size={batch}", f"train.steps={target}")
        resume = ("--resume", str(run / checkpoint) if checkpoint else "auto")
        parts |= losses(train(tmp_path, "parts", *sets, *more, extra=resume))
    assert list(parts) == list(range(9, 27))
    assert [parts[step] for step in range(9, 25)] == pytest.approx([whole[step] for step in range(9, 25)], rel=1e-3)
    feed = assert_sound(tmp_path, "parts", reference_of(tmp_path, "parts"), exit_code=0)
    told = [event.text for event in feed.events if isinstance(event, Alert) and event.topic == "resume"]
    assert ["world_size 1 -> 2" in told[0], "world_size 2 -> 1" in told[1], "world_size 1 -> 2" in told[2]] == [True] * 3
    assert ["global_batch" in text for text in told] == [False, False, True]
    assert "global_batch 8 -> 16" in told[2]
    assert [event.tokens_per_step for event in feed.events if isinstance(event, Run)] == [256, 256, 256, 512]

    before = content_of(run)
    words = options(*sets, "train.steps=30", "data.tokenizer=char")
    said = command(tmp_path, "run", "--no-ui", "--name", "parts", *words, exit_code=7)
    assert 'data.tokenizer: "byte" -> "char"' in said
    assert content_of(run) == before
    content = bytearray(corpus.read_bytes())
    content[1000] ^= 1
    corpus.write_bytes(content)
    train(tmp_path, "parts", *sets, "train.steps=30", exit_code=7)
    reason = (tmp_path / "parts.stderr").read_text()
    assert "the training data or tokenizer changed since" in reason
    assert "start a new run with another --name" in reason
    after = content_of(run)
    kept = [path for path in before if path.startswith(("checkpoints", "metrics", "samples", "tokenizer"))]
    assert {path: after.get(path) for path in kept} == {path: before[path] for path in kept}


def test_a_chosen_checkpoint_that_is_refused_leaves_the_run_as_it_was(tmp_path: Path) -> None:
    """Damaged: exit 5; of another corpus: 7. Record and checkpoints stand, and `auto` goes on from them, to the same bits."""
    corpus, run = tmp_path / "corpus.txt", tmp_path / "runs/chosen"
    shutil.copy(CORPUS, corpus)
    sets = (*ANY_TARGET, "checkpoint.keep=9", f"data.train={corpus}")
    train(tmp_path, "whole", *sets, "train.steps=32")
    reference = reference_of(tmp_path, "whole")
    train(tmp_path, "chosen", *sets, "train.steps=24")
    before, chosen = content_of(run / "checkpoints"), run / "checkpoints/step-00000008"
    for hurt, code in ((chosen / "model.safetensors", 5), (corpus, 7)):
        content = hurt.read_bytes()
        hurt.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        train(tmp_path, "chosen", *sets, "train.steps=32", extra=("--resume", str(chosen)), exit_code=code)
        hurt.write_bytes(content)
        assert content_of(run / "checkpoints") == before
        feed = assert_sound(tmp_path, "chosen", reference, exit_code=code)
        assert (feed.state.step, feed.state.known_step, feed.state.branches) == (24, 24, ())
    train(tmp_path, "chosen", *sets, "train.steps=32", extra=("--resume", "auto"))
    feed = assert_sound(tmp_path, "chosen", reference, exit_code=0)
    assert [event.start_step for event in feed.events if isinstance(event, Run)] == [0, 24]
