"""A reader that breaks off anywhere and goes on behind the last number that it heard misses nothing and hears nothing twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder, read_feed
from plt_tui.control.state import Pace
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CommandStatus,
    Eval,
    Event,
    Gauges,
    Logs,
    Phase,
    RankStatus,
    Recent,
    Run,
    Step,
    Steps,
)
from plt_tui.server import stream as stream_module
from plt_tui.server.stream import Reader
from plt_tui.views.model import RunModel
from tests.control.said import rewind

Action = tuple[str, int]
HAPPENINGS = ("steps", "eval", "set", "alert", "saved", "log", "unrecorded", "gauges", "rank", "recent", "resume", "rewind")
LOOKS = ("look", "break", "restart")
ACTIONS = st.lists(st.tuples(st.sampled_from(["steps", "break", *HAPPENINGS, *LOOKS]), st.integers(0, 8)), max_size=40)


class Stage:
    """A hub that says what it is told to and writes it down."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        self.lines: list[str] = []
        self.num_restarts = 0
        self._num_said = 0
        self._open()
        self._begin(0)

    def _open(self) -> None:
        self.feed = read_feed(self.folder)
        self.recorder = Recorder(self.folder, self.feed.last_seq, pytest.fail)

    def close(self) -> None:
        self.recorder.close()

    def restart(self) -> None:
        """The hub dies, and another one goes on with its record; what was only in memory is gone, and said anew."""
        self.close()
        self._open()
        self.num_restarts += 1
        self.lines.clear()
        self._say(Phase(phase="starting"))
        self._begin(self.feed.state.step)
        self.do("gauges", 1)

    def _begin(self, step: int) -> None:
        self._say(Run(time=1.0, name="a", dir="/a", world_size=1, params=1, target_step=99, start_step=step))

    def _say(self, event: Event) -> None:
        self.feed.publish(self.recorder.record(event))

    def do(self, what: str, number: int) -> None:
        """Let something happen; `number` varies it."""
        self._num_said += 1
        at, text = self.feed.state.step, f"{self._num_said}"
        match what:
            case "steps":
                for step in range(at + 1, at + 2 + number // 2):
                    self._say(_step(step, loss=float(self._num_said)))
            case "eval":
                self._say(Eval(step=at, loss=float(number), perplexity=1.0, bits_per_byte=1.0, accuracy=0.5))
            case "set":
                args = {"name": "grad_clip", "value": 1.0 + number}
                self._say(CommandStatus(id=text, name="set", args=args, actor="me", status="applied", step=at + 1))
            case "alert":
                self._say(Alert(topic=f"{number % 2}", text=text if number else ""))
            case "saved":
                self._say(Checkpoint(step=max(0, at - number), path=text))
            case "log":
                self.lines += [f"{text}.{line}" for line in range(number)]
                self.feed.publish(Logs(lines=[[0.0, "hub", "INFO", f"{text}.{line}"] for line in range(number)]))
            case "unrecorded":
                self.feed.publish(Alert(topic="record", text=text if number % 3 else ""))
            case "gauges":
                self._say(Gauges(cores=[float(self._num_said)], memory_used_bytes=0, memory_total_bytes=0, gpus=[]))
            case "rank":
                self._say(RankStatus(rank=number % 2, pid=1, doing=text))
            case "recent":
                self._say(Recent(steps=[at], bytes=1, seconds=0.0))
            case "resume":
                self._say(Phase(phase="restarting"))
                self._begin(min(at, number))
            case "rewind":
                self._say(rewind(min(at, number), at, id_=text))


def _step(number: int, loss: float) -> Step:
    return Step(step=number, time=loss, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


class Client:
    """A view of the stage, with whatever luck."""

    def __init__(self, feed: Feed) -> None:
        self.model = RunModel()
        self.seqs: list[int] = []
        self.lines: list[str] = []
        self.connect(feed)

    def connect(self, feed: Feed) -> None:
        """Come, or come again: behind the last number that was heard."""
        self.reader = Reader(feed, self.model.last_seq)

    def hear(self, most: int) -> None:
        """Take the next batch, and of it at most so many events: then the connection is lost."""
        for event in self.reader.read()[:most]:
            self.model.fold(event)
            if event.seq:
                self.seqs.append(event.seq)
            if isinstance(event, Logs):
                self.lines += [line[3] for line in event.lines]

    def hear_all(self) -> None:
        """Everything that there is."""
        while True:
            self.hear(10**9)
            if not self.reader.is_behind:
                return

    def knows(self, *, restarted: bool) -> dict[str, Any]:
        """What it has folded. Neither the pace of steps, of which a block tells little, nor steps that a fault has taken back
        before they were heard of; after a restart of the hub no alert that the old one could not write down.
        """
        state = replace(self.model.state, pace=Pace(), known_step=0)
        if restarted:
            state = replace(state, alerts={topic: alert for topic, alert in state.alerts.items() if topic != "record"})
        tables = {0: self.model.steps, **self.model.branches}
        lines = {branch: {name: list(values) for name, values in table.columns.items()} for branch, table in tables.items()}
        return {"state": state, "lines": lines, "evals": self.model.evals}


@contextmanager
def staged(folder: Path, room: int) -> Iterator[Stage]:
    """A stage whose batches have so little room that there are ends of batches everywhere."""
    run = RunFolder(folder / "a")
    run.create("")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("plt_tui.control.record.os.fsync", lambda _: None)  # thousands of them would take minutes
        patch.setattr(stream_module, "BATCH_ROWS", room)
        patch.setattr(stream_module, "BATCH_EVENTS", room + 1)
        patch.setattr(stream_module, "MAX_LOG_LINES", room)
        stage = Stage(run)
        try:
            yield stage
        finally:
            stage.close()
            shutil.rmtree(run.path)


BRANCH_IN_TWO: list[Action] = [("steps", 8), ("break", 2), ("rewind", 1), ("break", 2), ("steps", 8), ("break", 3)]
"""A connection that is lost in the middle of a branch."""
TAKEN_BACK: list[Action] = [("steps", 8), ("look", 0), ("break", 9), ("resume", 2), ("log", 3), ("break", 1), ("steps", 2)]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@example(actions=[("rank", 0), ("recent", 0), ("look", 0), ("resume", 1)], room=5)
@example(actions=BRANCH_IN_TWO, room=2)
@example(actions=TAKEN_BACK, room=3)
@example(actions=[*TAKEN_BACK, ("restart", 0), ("break", 1), ("rewind", 0), ("break", 1)], room=1)
@given(actions=ACTIONS, room=st.integers(1, 5))
def test_who_comes_again_knows_what_who_stayed_knows(
    tmp_path_factory: pytest.TempPathFactory, actions: list[Action], room: int
) -> None:
    """Steps, events, branches, cuts, rewinds, restarts of the hub in any order; connections that are lost anywhere."""
    with staged(tmp_path_factory.mktemp("run"), room) as stage:
        steady, shaky = Client(stage.feed), Client(stage.feed)
        for what, number in actions:
            match what:
                case "look":
                    steady.hear(10**9)
                case "break":
                    shaky.hear(number)
                    shaky.connect(stage.feed)
                case "restart":
                    steady.hear_all()
                    stage.restart()
                    for client in (steady, shaky):
                        client.connect(stage.feed)
                        client.lines.clear()
                case _:
                    stage.do(what, number)
        stage.do("steps", 0)
        fresh = Client(stage.feed)
        for client in (steady, shaky, fresh):
            client.hear_all()
        assert steady.knows(restarted=stage.num_restarts > 0) == shaky.knows(restarted=stage.num_restarts > 0)
        assert fresh.knows(restarted=stage.num_restarts > 0) == shaky.knows(restarted=stage.num_restarts > 0)
        for client in (steady, shaky, fresh):
            assert client.seqs == sorted(set(client.seqs)), "something came twice, or out of order"
            assert client.model.last_seq == stage.feed.last_seq
            assert list(dict.fromkeys(client.lines)) == stage.lines
        assert steady.lines == fresh.lines == stage.lines


def test_nothing_but_news_is_sent_to_who_comes_again() -> None:
    """After a short break of a long run that is a handful of steps, not its history."""
    feed = Feed()
    for number in range(1, 1001):
        feed.publish(replace(_step(number, loss=1.0), seq=number))
    said = Reader(feed, after=997).read()
    assert [(event.count, event.seq) for event in said if isinstance(event, Steps)] == [(3, 1000)]
