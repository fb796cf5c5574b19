"""Ranks without torch: what a rank says and how it ends, played by small functions that processes of their own run.

Each public function is an entry point, "tests.control.fake_ranks:NAME". They count steps and compute nothing. Rank 0 leads; the
others wait until it has left a file, because there are no collectives that would tell them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import Checkpoint, Done, Failed, RankStatus, Run, Sample, Step
from plt_tui.protocol.link import RankEnd
from plt_tui.protocol.rank import RankSpec
from plt_tui.training import status
from plt_tui.training.status import StatusReporter

TARGET = 12
FLOOD = 50_000
FOREVER = 10**9
PACE_S = 0.002
Act = Callable[[int], None]


def _step(number: int) -> Step:
    now, loss = time.time(), 1.0 / number
    return Step(time=now, step=number, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def _run(spec: RankSpec, start: int, target: int) -> Run:
    return Run(
        time=time.time(),
        name=Path(spec.run_dir).name,
        dir=spec.run_dir,
        world_size=spec.world_size,
        params=1,
        target_step=target,
        start_step=start,
        resumed_from=spec.resume,
        environment={
            "edits": spec.edits,
            "attempt": _attempt(spec),
            "paused": spec.paused,
            "threads": spec.threads,
            "known_step": spec.known_step,
            "guard_acts": spec.guard_acts,
        },
    )


def _say(spec: RankSpec, link: RankEnd, doing: str) -> None:
    link.send(RankStatus(time=time.time(), rank=spec.rank, pid=os.getpid(), doing=doing))


def _attempt(spec: RankSpec) -> int:
    """Starts of the ranks in this folder before this one: each has a meeting file of its own, which leaves a mark here."""
    marks = Path(spec.run_dir) / "attempts"
    marks.mkdir(exist_ok=True)
    (marks / Path(spec.meeting_file).name).touch()
    return len(list(marks.iterdir())) - 1


def _left(spec: RankSpec) -> Path:
    """The file by which rank 0 tells the others of its attempt that it has left."""
    return Path(f"{spec.meeting_file}-left")


def _came(spec: RankSpec, rank: int) -> Path:
    """The file by which a rank tells rank 0 that it has said its first word."""
    return Path(f"{spec.meeting_file}-came-{rank}")


def _follow(spec: RankSpec, link: RankEnd, step: int = 0) -> int:
    """What every rank but rank 0 does: wait until rank 0 has left its file, and say meanwhile that it lives."""
    status.PULSE_S = 0.02
    with StatusReporter(link, spec.rank, spec.device) as reporter:
        reporter.say("training", step)
        _came(spec, spec.rank).touch()
        with reporter.pulse.waiting():
            while not _left(spec).exists():
                time.sleep(PACE_S)
    return 0


class _Leader:
    """Rank 0: counts steps, answers commands between them, as `training.session` does."""

    def __init__(self, spec: RankSpec, link: RankEnd, target: int, start: int = 0, act: Act | None = None) -> None:
        self.spec, self.link, self.target, self.step = spec, link, target, start
        self.act = act
        self.paused = spec.paused
        self.stopped = False
        self.reason = "1 -> 2"

    def train(self) -> int:
        self.link.send(_run(self.spec, self.step, self.target))
        while not all(_came(self.spec, rank).exists() for rank in range(1, self.spec.world_size)):  # as a collective would
            time.sleep(PACE_S)
        while not self.stopped and (self.paused or self.step < self.target):
            _say(self.spec, self.link, "paused" if self.paused else "training")
            for command in self.link.take(PACE_S):
                self.answer(command)
            if not self.paused and not self.stopped:
                self.step += 1
                self.link.send(_step(self.step))
                if self.act is not None:
                    self.act(self.step)
        self.link.send(
            Done(time=time.time(), rank=0, step=self.step, finished=not self.stopped, weights_sha256=f"sha of {self.step}")
        )
        _left(self.spec).touch()
        return 0

    def answer(self, command: Command) -> None:
        first = self.step + 1 if command.name in ("set", "undo") else self.step
        self.link.send(replace(status_of(command, "agreed", self.step), time=time.time()))
        if command.name in ("pause", "resume"):
            self.paused = command.name == "pause"
        self.stopped = self.stopped or command.name in ("stop", "hibernate")
        if command.name == "rewind":
            self.step = first = int(command.args["step"])
        if command.name == "checkpoint":
            self.link.send(Checkpoint(time=time.time(), step=self.step, path=f"checkpoints/step-{self.step:08d}"))
        self.link.send(replace(status_of(command, "applied", first, self.reason), time=time.time()))


def _play(spec: RankSpec, link: RankEnd, target: int, start: int = 0, act: Act | None = None) -> int:
    if spec.rank == 0:
        return _Leader(spec, link, target, start, act).train()
    code = _follow(spec, link)
    link.send(Done(time=time.time(), rank=spec.rank, step=0, finished=True))
    return code


def _fail(spec: RankSpec, link: RankEnd, message: str, exit_code: int = 4) -> None:
    link.send(Failed(time=time.time(), rank=spec.rank, message=message, exit_code=exit_code, traceback="Traceback ..."))
    link.close()
    os._exit(1)


def trains(spec: RankSpec, link: RankEnd) -> int:
    """Reach the target."""
    print("2026-01-02T03:04:05 INFO hello from", spec.rank)
    return _play(spec, link, TARGET)


def tells_its_environment(spec: RankSpec, link: RankEnd) -> int:
    """Reach the target; the log holds the environment."""
    for name, value in os.environ.items():
        print(f"{name}={value}")
    return _play(spec, link, TARGET)


def trains_on(spec: RankSpec, link: RankEnd) -> int:
    """Train until told to stop."""
    return _play(spec, link, FOREVER)


def trains_on_from_its_saves(spec: RankSpec, link: RankEnd) -> int:
    """Train until told to stop; another start goes on from the last save."""
    start = spec.known_step if spec.resume == "auto" else 0
    return _play(spec, link, FOREVER, start=start)


def crashes_as_it_leaves(spec: RankSpec, link: RankEnd) -> int:
    """Train until told to stop; rank 1 is then gone by a signal instead of saying that it is done."""
    if spec.rank == 0:
        return _play(spec, link, FOREVER)
    _follow(spec, link)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def raises_once(spec: RankSpec, link: RankEnd) -> int:
    """Raise at step 5 of the first attempt, reach the target in the second."""
    return _play(
        spec, link, TARGET, act=lambda step: _fail(spec, link, "boom \x1b[2J") if (_attempt(spec), step) == (0, 5) else None
    )


def raises_at_step_5(spec: RankSpec, link: RankEnd) -> int:
    """Raise at step 5 of every attempt."""
    return _play(spec, link, TARGET, act=lambda step: _fail(spec, link, "boom") if step == 5 else None)


def raises_ever_later(spec: RankSpec, link: RankEnd) -> int:
    """Raise in every attempt, one step later each time."""
    return _play(spec, link, TARGET, act=lambda step: _fail(spec, link, "boom") if step == 5 + _attempt(spec) else None)


def has_no_data(spec: RankSpec, link: RankEnd) -> int:
    """Every rank finds the corpus missing."""
    _fail(spec, link, "corpus.txt: no such file", exit_code=7)
    return 1


def loses_its_peer(spec: RankSpec, link: RankEnd) -> int:
    """In the first attempt rank 0's collective breaks at step 3, because rank 1 is killed."""
    going = Path(spec.run_dir) / "going"
    if _attempt(spec) == 0 and spec.rank == 1:
        going.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if _attempt(spec) == 0:
        while not going.exists():
            time.sleep(PACE_S)
        link.send(_run(spec, 0, TARGET))
        for number in (1, 2, 3):
            link.send(_step(number))
        lost = Failed(time=time.time(), rank=0, message="Connection closed by peer", exit_code=4, is_lost_peer=True)
        link.send(lost)
        return 1
    return _play(spec, link, TARGET)


def says_its_steps_late(spec: RankSpec, link: RankEnd) -> int:
    """Rank 1 is killed; rank 0, which does not notice, says only then which steps it has made, and ends."""
    going, dying = Path(spec.run_dir) / "going", Path(spec.run_dir) / "dying"
    if spec.rank == 1:
        while not going.exists():
            time.sleep(PACE_S)
        dying.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    link.send(_run(spec, 0, TARGET))
    going.touch()
    while not dying.exists():
        time.sleep(PACE_S)
    time.sleep(0.1)
    for number in (1, 2, 3):
        link.send(_step(number))
    return 0


def takes_its_last_steps_along(spec: RankSpec, link: RankEnd) -> int:
    """Rank 0 is killed before it has told of its steps; rank 1 has said how far they are."""
    going = Path(spec.run_dir) / "going"
    if spec.rank == 1:
        word = RankStatus(rank=1, pid=os.getpid(), doing="training", step=9)
        link.send(word)
        is_heard = link.receipt()
        while not is_heard():  # which takes further messages
            link.send(word)
            time.sleep(PACE_S)
        going.touch()
        return _follow(spec, link, step=9)
    link.send(_run(spec, 0, TARGET))
    while not going.exists():
        time.sleep(PACE_S)
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def crashes_once_paused(spec: RankSpec, link: RankEnd) -> int:
    """Train on; in the first attempt rank 0 waits for a pause, then for the file "die", and is gone by SIGSEGV."""

    def wait_and_die() -> None:
        while not (Path(spec.run_dir) / "die").exists():
            time.sleep(PACE_S)
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)

    if spec.rank != 0 or _attempt(spec) > 0:
        return _play(spec, link, FOREVER)
    leader = _Leader(spec, link, FOREVER)
    answer = leader.answer

    def answer_and_die(command: Command) -> None:
        answer(command)
        if command.name == "pause":
            wait_and_die()

    leader.answer = answer_and_die  # type: ignore[method-assign]
    return leader.train()


def dies_with_unanswered_commands(spec: RankSpec, link: RankEnd) -> int:
    """In the first attempt take a command and die without a word about it; answer everything in the second."""
    if spec.rank != 0 or _attempt(spec) > 0:
        return _play(spec, link, FOREVER)
    link.send(_run(spec, 0, FOREVER))
    while not link.take(0.05):
        pass
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def floods(spec: RankSpec, link: RankEnd) -> int:
    """Say FLOOD steps as fast as it goes."""
    if spec.rank != 0:
        return _play(spec, link, TARGET)
    link.send(_run(spec, 0, FLOOD))
    template = _step(1)
    for number in range(1, FLOOD + 1):
        link.send(replace(template, step=number))
    link.send(Done(time=time.time(), rank=0, step=FLOOD, finished=True))
    _left(spec).touch()
    return 0


def is_deaf(spec: RankSpec, link: RankEnd) -> int:
    """Train and never look at a command; ignore every signal that can be ignored."""
    if spec.rank == 0:
        link.send(_run(spec, 0, FOREVER))
        link.send(_step(1))
    while True:
        time.sleep(1.0)


def saves_slowly(spec: RankSpec, link: RankEnd) -> int:
    """Train on; a stop is in force once the file "saved" is there."""
    if spec.rank != 0:
        return _play(spec, link, FOREVER)
    leader = _Leader(spec, link, FOREVER)
    answer = leader.answer

    def answer_once_saved(command: Command) -> None:
        while command.name == "stop" and not (Path(spec.run_dir) / "saved").exists():
            time.sleep(PACE_S)
        answer(command)

    leader.answer = answer_once_saved  # type: ignore[method-assign]
    return leader.train()


def cannot_save(spec: RankSpec, link: RankEnd) -> int:
    """Train on; at a stop the disk is full."""
    if spec.rank != 0:
        return _play(spec, link, FOREVER)
    leader = _Leader(spec, link, FOREVER)
    leader.answer = lambda command: _fail(spec, link, "disk full", exit_code=5)  # type: ignore[method-assign]
    return leader.train()


def hangs_after_done(spec: RankSpec, link: RankEnd) -> int:
    """Reach the target, say so, and hang in a library's shutdown."""
    _play(spec, link, TARGET)
    while True:
        time.sleep(1.0)


def fails_after_done(spec: RankSpec, link: RankEnd) -> int:
    """Reach the target and say so; then rank 0 cannot leave its group, and rank 1 crashes in a library's shutdown."""
    _play(spec, link, TARGET)
    if spec.rank == 0:
        _fail(spec, link, "the group cannot be left")
    link.close()
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def speaks_in_escapes(spec: RankSpec, link: RankEnd) -> int:
    """Write a sample that a terminal would act on, train on, and answer with an escape too."""
    if spec.rank != 0:
        return _play(spec, link, FOREVER)
    link.send(Sample(time=time.time(), step=0, prompt="a\x1b[2J", text="b\n\x9b31m\u202e"))
    leader = _Leader(spec, link, FOREVER)
    leader.reason = "1 -> \x1b]0;owned\x07"
    return leader.train()


def never_begins(spec: RankSpec, link: RankEnd) -> int:
    """Hang before the first `Run`, as a slow import does."""
    _say(spec, link, "importing torch")
    while True:
        time.sleep(1.0)


def stands_still_once(spec: RankSpec, link: RankEnd) -> int:
    """In the first attempt rank 1 stands still in its data and rank 0 waits for it; both say so. Train in the second."""
    if _attempt(spec) > 0:
        return _play(spec, link, TARGET)
    still = RankStatus(rank=spec.rank, pid=os.getpid(), doing="preparing data", idle_s=60.0, waiting=spec.rank == 0)
    while True:
        link.send(replace(still, time=time.time()))
        time.sleep(PACE_S)


def rank_1_is_never_heard(spec: RankSpec, link: RankEnd) -> int:
    """Rank 1 hangs before it can say a word; rank 0 waits for it."""
    if spec.rank == 0:
        return _follow(spec, link)
    while True:
        time.sleep(1.0)


def begins_late(spec: RankSpec, link: RankEnd) -> int:
    """Begin to train when the file "begin" is there."""
    while not (Path(spec.run_dir) / "begin").exists():
        time.sleep(PACE_S)
    return _play(spec, link, FOREVER)


def ends_without_a_word(spec: RankSpec, link: RankEnd) -> int:
    """Return 0 without `Done`, as a stray `os._exit(0)` in somebody's data loader would."""
    if spec.rank == 0:
        link.send(_run(spec, 0, TARGET))
    return 0


def exits_with_3(spec: RankSpec, link: RankEnd) -> int:
    """Print something and end with an exit code, but no event."""
    print("last words", flush=True)
    return 3


def says_how_it_lives(spec: RankSpec, link: RankEnd) -> int:
    """Tell what it was given and how it treats signals, then end with 0."""
    ignored = [signal.getsignal(number) == signal.SIG_IGN for number in (signal.SIGINT, signal.SIGTERM)]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    threads = os.environ["OMP_NUM_THREADS"]
    _say(spec, link, f"{spec.device} {threads} ignored={ignored} blocked={len(blocked)} torch={'torch' in sys.modules}")
    print("printed")
    return 0


def echoes(spec: RankSpec, link: RankEnd) -> int:
    """Say the id of every command that comes; end after "stop"."""
    while True:
        for command in link.take(1.0):
            _say(spec, link, command.id)
            if command.name == "stop":
                return 0


def says_much_and_dies(spec: RankSpec, link: RankEnd) -> int:
    """Say 20 things, then be killed in the middle of writing the next one."""
    for number in range(20):
        _say(spec, link, str(number))
    pipe = os.dup(link._queues.events._writer.fileno())  # type: ignore[attr-defined]
    link.close()
    os.write(pipe, (1000).to_bytes(4, "big") + b'{"kind"')
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def leaves_a_grandchild(spec: RankSpec, link: RankEnd) -> int:
    """End with 5 while a forked process holds the queues open until the file "go" is there."""
    _say(spec, link, "last words")
    if os.fork() == 0:
        while not (Path(spec.run_dir) / "go").exists():
            time.sleep(PACE_S)
        os._exit(0)
    return 5


def has_a_helper(spec: RankSpec, link: RankEnd) -> int:
    """Start a process that starts another, say which they are, and do nothing until killed."""
    chain = "import subprocess, sys; print(subprocess.Popen(['sleep', '1000000']).pid, flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", chain], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as helper:
        assert helper.stdout is not None
        _say(spec, link, f"{helper.pid} {int(helper.stdout.readline())}")
        time.sleep(FOREVER)
    return 0


def prints(spec: RankSpec, link: RankEnd) -> int:
    """Print what a terminal would act on, from Python and from below it, then train."""
    print("2026-01-02T03:04:05 WARNING \x1b]0;owned\x07")
    os.write(2, b"native library says hi\n")
    sys.stderr.write("10%\r100%\n")
    return _play(spec, link, TARGET)
