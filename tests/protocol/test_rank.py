"""Promises of `protocol.rank`: what a rank prints is in its log if the disk takes it, and ends nobody's training if not."""

from __future__ import annotations

import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest

from plt_tui.protocol.events import Done, Event
from plt_tui.protocol.link import HubEnd, Queues, RankEnd
from plt_tui.protocol.rank import RankSpec, rank_process

DEADLINE_S = 30.0


def prints_much(spec: RankSpec, link: RankEnd) -> int:
    """Print in every way that Python has, many times, then say that the work is done."""
    logging.basicConfig(stream=sys.stdout)
    for number in range(1000):
        print(f"step {number}", flush=number % 2 == 0)
        sys.stderr.write("10%\r")
        warnings.warn(f"warning {number}", stacklevel=1)
        logging.error("error %d", number)
    link.send(Done(rank=spec.rank, step=1000, finished=True))
    return 0


@pytest.mark.parametrize("log", ["/dev/full", "/nowhere/at/all", ""], ids=["full", "gone", "good"])
def test_a_rank_whose_log_cannot_be_written_trains_on(tmp_path: Path, log: str) -> None:
    """Nothing that prints raises, whether the disk is full or the folder of the logs was tidied away."""
    (tmp_path / "logs").mkdir()
    path = tmp_path / "logs" / "rank-0.log"
    if log:
        path.symlink_to(log)
    spec = RankSpec(
        entry="tests.protocol.test_rank:prints_much",
        run_dir=str(tmp_path),
        rank=0,
        world_size=1,
        device="cpu",
        threads=1,
        meeting_file=str(tmp_path / ".meeting"),
        hub_pid=os.getpid(),
    )
    context = multiprocessing.get_context("spawn")
    queues = Queues.create(context)
    process = context.Process(target=rank_process, args=(spec, queues))
    heard: list[Event] = []
    is_over = threading.Event()
    hub = HubEnd(queues, heard.extend, is_over.set)
    process.start()
    hub.open()
    assert is_over.wait(DEADLINE_S)
    process.join(DEADLINE_S)
    hub.close()
    assert ([type(event) for event in heard], process.exitcode) == ([Done], 0)
    process.close()
    if not log:
        assert path.read_text().count("\n") > 3000


BEGIN = """
import os, resource, sys, warnings
from plt_tui.protocol import rank
path = sys.argv[1]
"""


def run(code: str, path: Path) -> None:
    """`code` in a process whose output is to go to `path`."""
    subprocess.run([sys.executable, "-c", BEGIN + code, str(path)], check=True, timeout=DEADLINE_S)


LIMITED = """
rank._write_output_to(path)
for number in range(100):
    if number == 30:
        resource.setrlimit(resource.RLIMIT_FSIZE, (900, resource.RLIM_INFINITY))
    if number == 60:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(f"line {number:04}")
    warnings.warn_explicit("x", UserWarning, "f", number)
sys.stdout.flush()
"""


def test_a_log_goes_on_when_its_disk_works_again(tmp_path: Path) -> None:
    """By the real system calls: what does not fit is lost, nothing is written twice, and later lines are there."""
    path = tmp_path / "rank-0.log"
    run(LIMITED, path)
    text = path.read_text()
    numbers = [int(line[-4:]) for line in text.splitlines() if line.startswith("line ")]
    assert numbers[:30] == list(range(30))
    assert numbers[-39:] == list(range(61, 100))
    assert len(numbers) == len(set(numbers)) < 75
    assert len(text.encode()) > 900


LONG = """
rank.MAX_LOG_BYTES = 1000
rank._write_output_to(path)
for number in range(1000):
    print(f"line {number:04}")
    os.write(2, b"native\\n")
"""


def test_a_long_log_is_put_aside(tmp_path: Path) -> None:
    """The newest lines are there, native ones too, in two files of bounded size; nothing is lost between them."""
    path = tmp_path / "rank-0.log"
    run(LONG, path)
    aside = tmp_path / "rank-0.log.1"
    assert sorted(tmp_path.iterdir()) == [path, aside]
    assert {file.stat().st_mode & 0o777 for file in (path, aside)} == {0o600}
    assert 1000 <= aside.stat().st_size < 1100
    assert path.stat().st_size < 1100
    lines = (aside.read_text() + path.read_text()).splitlines()
    last = [f"line {number:04}" for number in range(1000)][-len(lines) // 2 :]
    assert [line for line in lines if line != "native"][-len(last) :] == last
    assert lines.count("native") >= len(lines) // 2
