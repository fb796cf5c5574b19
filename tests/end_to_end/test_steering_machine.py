"""Random steering of a real run on two ranks by two clients, checked against a plain model of the run, and replayed at the end.

Each example starts a run, so there are few in one go; their order of commands is new every time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.protocol.commands import Command, new_command
from plt_tui.protocol.events import CaughtUp, CommandStatus
from plt_tui.views.client import HubClient
from tests.end_to_end.runs import DEADLINE_S, PLT_TUI, command, environment, options, show, wait_until

ResultT = TypeVar("ResultT")
PLANNED = {"grad_clip": 1.0, "weight_decay": 0.1, "temperature": 0.8, "batch_size": 4, "accumulate": 2}
"""What the configuration says of the knobs that the model keeps track of."""
FINAL = ("applied", "refused")


@dataclass
class Change:
    """What the model remembers of an edit."""

    id: str
    step: int
    values: dict[str, Any]
    undone_at: int | None = None
    """The first step without it."""


@dataclass
class PlainRun:
    """A run as somebody with pencil and paper would keep it."""

    step: int = 0
    """No step before this one is current any more."""
    is_paused: bool = False
    is_asleep: bool = False
    changes: list[Change] = field(default_factory=list)
    num_branches: int = 0

    def value(self, knob: str, step: int) -> Any:
        """What the knob is set to at a step; after a fault that may be a step before some of the changes."""
        values = [change.values[knob] for change in self.changes if knob in change.values and _is_live(change, step)]
        return values[-1] if values else PLANNED[knob]

    def rewind(self, step: int) -> None:
        """Forget what came after `step`; an undo of an older change is forgotten with it."""
        self.changes = [change for change in self.changes if change.step <= step]
        for change in self.changes:
            if change.undone_at is not None and change.undone_at > step:
                change.undone_at = None


def _is_live(change: Change, step: int) -> bool:
    return change.step <= step and (change.undone_at is None or change.undone_at > step)


class Client:
    """A connection to the hub in a loop of its own thread, with everything that it has heard."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Path, actor: str) -> None:
        self.feed = Feed()
        self._loop = loop
        self._client = self.run(HubClient.connect(socket, actor=actor, deadline_s=10.0))
        self._following = asyncio.run_coroutine_threadsafe(self._follow(), loop)

    def run(self, work: Coroutine[Any, Any, ResultT]) -> ResultT:
        """The result of `work` in the clients' loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(DEADLINE_S)

    async def _follow(self) -> None:
        async for event in self._client.events():
            if not isinstance(event, CaughtUp):
                self.feed.publish(event)

    def ask(self, wanted: Command) -> CommandStatus:
        """Send a command, and wait for its last word."""
        self.run(self._client.send(wanted))
        return self.fate(wanted)

    def fate(self, wanted: Command) -> CommandStatus:
        """The last word about a command, as this client hears it."""
        wait_until(lambda: self._last(wanted) is not None)
        status = self._last(wanted)
        assert status is not None
        return status

    def _last(self, wanted: Command) -> CommandStatus | None:
        known = self.feed.state.commands
        return next((status for status in known if status.id == wanted.id and status.status in FINAL), None)

    def close(self) -> None:
        """Leave."""
        self.run(self._client.close())
        self._following.result(DEADLINE_S)


class Steering(RuleBasedStateMachine):
    """A run of two ranks, two clients, and the model."""

    @initialize()
    def start(self) -> None:
        """A run that trains until it is told to stop."""
        self._place = tempfile.TemporaryDirectory()
        self.folder = Path(self._place.name)
        sets = ("train.accumulate=2", "train.steps=100000", "checkpoint.recent_every=4", "checkpoint.every=9", "eval.every=0")
        more = ("model.dropout=0.1", "sample.every=0", "guard.spike=lower", "guard.z=4", "guard.window=16", "guard.limit=1000")
        done = subprocess.run(
            [*PLT_TUI, "run", "--detach", "--name", "m", *options(*sets, *more)],
            cwd=self.folder,
            env=environment(),
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        info = RunFolder(self.folder / "runs" / "m").read_info()
        assert info is not None
        self.hub_pid = info.pid
        self.clients = [Client(self.loop, Path(info.socket), actor) for actor in ("ana", "ben")]
        self.model = PlainRun()
        self.was_killed = False
        wait_until(lambda: self.state.step > 3)

    @property
    def state(self) -> Any:
        """The run as the first client sees it."""
        return self.clients[0].feed.state

    def ask(self, who: int, verb: str, /, **args: Any) -> CommandStatus:
        """Send a command by one client; of what is in force the other must hear the same."""
        wanted = new_command(verb, args, actor="nobody")
        status = self.clients[who].ask(wanted)
        if status.status == "applied":  # what the hub refuses at its door only the one who asked hears of
            other = self.clients[1 - who].fate(wanted)
            assert (other.status, other.step, other.reason) == (status.status, status.step, status.reason)
        assert status.actor.startswith(("ana", "ben")[who])
        return status

    @precondition(lambda self: not self.model.is_asleep)
    @rule(
        who=st.integers(0, 1),
        change=st.sampled_from(
            [
                ("grad_clip", 0.25),
                ("grad_clip", 2.0),
                ("weight_decay", 0.0),
                ("temperature", 0.0),
                ("batch_size", 2),
                ("accumulate", 1),
            ]
        ),
    )
    def set_knob(self, who: int, change: tuple[str, Any]) -> None:
        """In force at a step, with the value before that the model expects."""
        knob, value = change
        status = self.ask(who, "set", name=knob, value=value)
        assert (status.status, status.before, status.after) == ("applied", self.model.value(knob, status.step), value)
        self.model.changes.append(Change(status.id, status.step, {knob: value}))

    @precondition(lambda self: not self.model.is_asleep)
    @rule(who=st.integers(0, 1), size=st.integers(1, 4))
    def keep_batch(self, who: int, size: int) -> None:
        """Another micro-batch of the same global batch, or a refusal that names the allowed ones."""
        status = self.ask(who, "set", name="batch_size", value=size, mode="keep")
        if status.status == "refused":
            assert "allowed: 1" in status.reason
            return
        sequences = self.model.value("batch_size", status.step) * self.model.value("accumulate", status.step)
        assert status.args["value"] == [size, sequences // size]
        assert sequences % size == 0
        values = {"batch_size": size, "accumulate": sequences // size}
        self.model.changes.append(Change(status.id, status.step, values))

    @precondition(lambda self: not self.model.is_asleep)
    @rule(who=st.integers(0, 1))
    def undo(self, who: int) -> None:
        """The last change that is not undone goes, and only that one."""
        alive = [change for change in self.model.changes if change.undone_at is None]
        status = self.ask(who, "undo")
        guards = {edit.id for edit in self.state.edits if edit.actor == "guard"}
        if status.status == "applied" and status.args["edit"] in guards:  # of these the model does not know
            return
        if not alive:
            assert (status.status, status.reason) == ("refused", "there is no edit to undo")
            return
        assert (status.status, status.args["edit"]) == ("applied", alive[-1].id)
        alive[-1].undone_at = status.step

    @precondition(lambda self: not self.model.is_asleep)
    @rule(who=st.integers(0, 1), back=st.integers(0, 12), skip=st.integers(0, 3))
    def rewind(self, who: int, back: int, skip: int) -> None:
        """At an earlier step again, which may be one that is kept before the one that was asked for."""
        wanted = max(0, self.state.step - back)
        status = self.ask(who, "rewind", step=wanted, skip=skip)
        if status.status == "refused":
            assert "is there already" in status.reason or "is kept but the start" in status.reason
            return
        assert status.after == status.step <= wanted <= status.before
        self.model.num_branches += status.step < status.before
        self.model.rewind(status.step)
        assert len(self.state.branches) == self.model.num_branches

    @precondition(lambda self: not self.model.is_asleep)
    @rule(who=st.integers(0, 1))
    def pause(self, who: int) -> None:
        """No step is made in a pause."""
        status = self.ask(who, "pause")
        assert status.status == "applied"
        self.model.is_paused = True

    @precondition(lambda self: self.model.is_paused or self.model.is_asleep)
    @rule(who=st.integers(0, 1))
    def resume(self, who: int) -> None:
        """Steps are made again."""
        assert self.ask(who, "resume").status == "applied"
        self.model.is_paused = self.model.is_asleep = False
        at = self.state.step
        wait_until(lambda: self.state.step > at)

    @precondition(lambda self: not self.model.is_asleep)
    @rule(who=st.integers(0, 1), verb=st.sampled_from(["eval", "sample", "checkpoint", "note"]))
    def look(self, who: int, verb: str) -> None:
        """What changes nothing works at any time."""
        args = {"text": "a remark"} if verb == "note" else {}
        assert self.ask(who, verb, **args).status == "applied"

    @precondition(lambda self: not self.model.is_asleep)
    @rule(who=st.integers(0, 1))
    def hibernate(self, who: int) -> None:
        """Nothing but a resume, a note or a stop is taken then."""
        assert self.ask(who, "hibernate").status == "applied"
        wait_until(lambda: self.state.phase == "hibernated")
        assert self.state.ranks == {}
        self.model.is_asleep = True

    @precondition(lambda self: not self.model.is_asleep and not self.was_killed)
    @rule(rank=st.integers(0, 1))
    def kill(self, rank: int) -> None:
        """A rank is killed; the run comes back by itself, with all its edits."""
        self.was_killed = True
        restarts, edits = self.state.restarts, self.state.edits
        wait_until(lambda: rank in self.state.ranks)
        os.kill(self.state.ranks[rank].pid, signal.SIGKILL)
        phase = "paused" if self.model.is_paused else "running"
        wait_until(lambda: self.state.restarts > restarts and self.state.phase == phase)
        assert [edit.id for edit in self.state.edits if edit.actor != "guard"] == [
            edit.id for edit in edits if edit.actor != "guard"
        ]

    def teardown(self) -> None:
        """Stop the run, and prove from its record alone what it has computed."""
        if not hasattr(self, "clients"):
            return
        try:
            assert self.ask(0, "stop").status == "applied"
            self._leave()
            printed = command(self.folder, "replay", "m")
            assert "every loss has the same bits, and so have the weights" in printed
            assert show(self.folder, "m")["state"] == "stopped"
        finally:
            self._leave()
            self._place.cleanup()

    def _leave(self) -> None:
        clients, self.clients = self.clients, []
        for client in clients:
            client.close()
        if self.loop.is_running():
            wait_until(lambda: not RunFolder(self.folder / "runs" / "m").is_live())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()
            self.loop.close()


@pytest.mark.timeout(400)
def test_any_steering_of_a_real_run_does_what_it_says_and_replays() -> None:
    """Commands of every kind, from two clients, in any order: the model is right, and the replay has the same bits."""
    run_state_machine_as_test(
        Steering,
        settings=settings(
            max_examples=3,
            stateful_step_count=14,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
            print_blob=True,
        ),
    )
