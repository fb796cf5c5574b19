"""`plt_tui.connect`: a program's way to a run that trains, or to one that has ended.

One task reads what the hub says, folds it, and hands it to those who wait for it: any number of readers and commands at once.
Belongs to one event loop. Invariant: when a reader gets an event, or a command its answer, `state` and `history` know of it.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, overload

import numpy as np

from plt_tui.client.history import Evals, History
from plt_tui.client.opening import hub_of, remote_of, who
from plt_tui.client.picture import Picture
from plt_tui.client.record import picture_of, told
from plt_tui.client.stream import EventStream, EventT
from plt_tui.control.folder import find_run
from plt_tui.control.state import RunState
from plt_tui.errors import ConnectionLost, HubUnreachable, PltTuiError, Refused, UsageError
from plt_tui.protocol.commands import new_command
from plt_tui.protocol.events import CaughtUp, CommandStatus, Event
from plt_tui.views.address import SCHEME, is_remote
from plt_tui.views.source import Source

DIRECTORY = "runs"
SILENCE_S = 10.0
"""A hub that is to tell what was and says nothing for this long does not answer."""


def connect(
    run: str | os.PathLike[str],
    *,
    directory: str | os.PathLike[str] = DIRECTORY,
    readonly: bool = False,
    actor: str | None = None,
) -> Connecting:
    """Connect to a run: `async with plt_tui.connect("quickstart") as run:`, or `run = await plt_tui.connect("quickstart")`.

    run: a name (a unique beginning is enough) under `directory`, a run's folder, or `ssh://[user@]host[:port]/RUN`.
    readonly: the hub refuses every command.
    actor: who asks, in the journal and on other people's screens; left out: "python USER@HOST".

    Opening it raises: UsageError for a run that is not there; HubUnreachable for a hub that does not answer; StorageError for
    files of a finished run that cannot be read.
    """
    return Connecting(lambda: _opened(run, directory, readonly=readonly, actor=actor or who("python")))


class Connecting:
    """A connection that is yet to be opened: await it, or enter it with `async with`, which closes it too."""

    def __init__(self, opened: Callable[[], Awaitable[Connection]]) -> None:
        self._opened = opened
        self._connection: Connection | None = None

    def __repr__(self) -> str:
        return "<Connecting: not open yet; use `async with ... as run`, or `run = await ...`>"

    def __await__(self) -> Generator[Any, None, Connection]:
        return self._opened().__await__()

    async def __aenter__(self) -> Connection:
        self._connection = await self._opened()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._connection is not None
        await self._connection.close()


class Connection:
    """An open connection to a run, made by `connect`. All of its history is in from the start."""

    def __init__(self, name: str, picture: Picture, source: Source | None, *, actor: str) -> None:
        """source: what the hub says, None for a run that has ended; `picture`: what is known without it."""
        self.name = name
        self.actor = actor
        self.readonly = source is None or source.readonly
        self._picture = picture
        self._source = source
        self._follower: asyncio.Task[None] | None = None
        self._told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done once all history is in, or nothing more can come."""
        self._num_heard = 0
        self._readers: weakref.WeakSet[EventStream[Any]] = weakref.WeakSet()
        """Those that somebody still holds."""
        self._answers: dict[str, asyncio.Future[CommandStatus | None]] = {}
        """By command, for who waits for it; None: there will be none."""
        self._turn = asyncio.Lock()  # one command is written at a time: `drain` takes one waiter (Python 3.10)
        self._is_over = source is None
        self._is_closed = False
        self._lost = ""
        """Why nothing comes any more, where that is not the end of the run."""

    def __repr__(self) -> str:
        return f"<Connection {told(self.name, self.state)}{'' if self.is_live else ' (over)'}>"

    @property
    def is_live(self) -> bool:
        """True while a hub is there that can say more and take commands."""
        return not self._is_over

    @property
    def state(self) -> RunState:
        """What the run is now. A value: what it becomes is another one."""
        return self._picture.state

    @property
    def history(self) -> History:
        """The steps of the line that the run is on, so far. A value, as `state`."""
        return self._picture.history

    @property
    def evals(self) -> Evals:
        """The evaluations of that line, so far. A value, as `state`."""
        return self._picture.evals

    @property
    def branches(self) -> Mapping[int, History]:
        """The steps that rewinds left, by the numbers of `state.branches`."""
        return self._picture.branches

    @overload
    def events(self) -> AsyncIterator[Event]: ...

    @overload
    def events(self, kind: type[EventT], /, *kinds: type[EventT]) -> AsyncIterator[EventT]: ...

    def events(self, *kinds: type[Event]) -> AsyncIterator[Event]:
        """What happens from this call on, of the given kinds or of all, in order; ends with the run, or when this is closed.

        Steps come as `Steps` blocks, a few a second. Of gauges, rank reports and progress a slow reader gets the newest.
        Iterating raises: ConnectionLost for a hub that goes without a word; UsageError for a reader that is hours behind.
        """
        reader = EventStream(kinds or (Event,))
        if self._is_over:
            reader.end(self._loss())
        else:
            self._readers.add(reader)
        return reader

    async def command(self, verb: str, /, **args: Any) -> CommandStatus:
        """Ask the run for something and wait until it is in force: `await run.command("set", name="lr", value=3e-4)`.

        The verbs and their arguments are those of `plt-tui ctl`. Returns the status "applied", whose `step` says where: of an
        edit it is the first step computed with it, else the completed steps. Cancelling stops the waiting, not the command.

        Raises: Refused with the run's reason, also for a run that has ended; UsageError for what is no command;
        ConnectionLost when no answer can come any more.
        """
        command = new_command(verb, {name: _plain(value) for name, value in args.items()}, self.actor)
        self._open_source(verb)
        answer: asyncio.Future[CommandStatus | None] = asyncio.get_running_loop().create_future()
        self._answers[command.id] = answer
        try:
            async with self._turn:
                await self._open_source(verb).send(command)
            status = await answer
        except HubUnreachable as error:
            raise ConnectionLost(str(error)) from None
        finally:
            del self._answers[command.id]
        if status is None:
            ended = "the run ended" if self.state.is_over else "the connection ended"
            raise ConnectionLost(f"{ended} before {verb} was answered; `plt-tui show {self.name}` tells what became of it")
        if status.status == "refused":
            raise Refused(verb, status.reason)
        return status

    async def pause(self) -> CommandStatus:
        """Hold all ranks at the next step boundary."""
        return await self.command("pause")

    async def resume(self) -> CommandStatus:
        """Go on after a pause or a hibernation."""
        return await self.command("resume")

    async def set(self, name: str, value: Any, mode: str | None = None) -> CommandStatus:
        """Change a knob from the next step on. Returns with `before` and `after`, and the first step that has it.

        mode: of lr "set" (the default), "scale" (by the factor `value`) or "replan" (a new end of the schedule); of batch_size
        and accumulate "set" or "keep" (the global batch).
        """
        return await self.command("set", **_given(name=name, value=value, mode=mode))

    async def undo(self, edit: str | None = None) -> CommandStatus:
        """Take an edit back, by its id; left out: the last one."""
        return await self.command("undo", **_given(edit=edit))

    async def checkpoint(self, name: str | None = None) -> CommandStatus:
        """Save now; returns when it is on disk, its path in `reason`. A named checkpoint is kept for good."""
        return await self.command("checkpoint", **_given(name=name))

    async def evaluate(self) -> CommandStatus:
        """Evaluate on held-out text now; the numbers are then the row of the answer's step in `evals`."""
        return await self.command("eval")

    async def sample(self, prompt: str | None = None) -> CommandStatus:
        """Write a sample now, by default from the run's own prompt; the text is then `state.last_sample`."""
        return await self.command("sample", **_given(prompt=prompt))

    async def rewind(self, step: int, skip: int = 0) -> CommandStatus:
        """Go back to the state after `step` steps, or the newest kept one before it (the answer's `step`).

        What came after becomes a branch. skip: global batches to leave out from there.
        """
        return await self.command("rewind", step=step, **({"skip": skip} if skip else {}))

    async def hibernate(self) -> CommandStatus:
        """Save, end the ranks and free their devices; `resume` brings the run back."""
        return await self.command("hibernate")

    async def stop(self, now: bool = False) -> CommandStatus:
        """Save, then end the run; now: end without saving."""
        return await self.command("stop", **({"now": True} if now else {}))

    async def note(self, text: str) -> CommandStatus:
        """Write a remark into the journal."""
        return await self.command("note", text=text)

    async def close(self) -> None:
        """Leave; the run goes on, and what was heard stays readable. Readers end. Harmless when repeated."""
        was_closed, self._is_closed = self._is_closed, True
        if self._follower is not None:
            if not was_closed and not self._is_over:  # else it closes the source, which must not be broken off
                self._follower.cancel()
            await asyncio.wait({self._follower})
        self._end("this connection is closed")
        if self._source is not None:
            await self._source.close()
        if self._follower is not None and not self._follower.cancelled():
            self._follower.result()  # a mistake of ours must not pass unseen

    async def _catch_up(self, source: Source, *, is_live: bool) -> None:
        """Listen to `source` from now on; returns once all history is in, behind which a run that has ended says nothing.

        Raises: HubUnreachable.
        """
        self._follower = asyncio.create_task(self._follow(source), name=f"plt-tui: {self.name}")
        num_heard = -1
        while not self._told.done() and self._num_heard > num_heard:
            num_heard = self._num_heard
            await asyncio.wait({self._told}, timeout=SILENCE_S)
        if not self._told.done():
            why = "it is stopped, or its machine has no time for it; `plt-tui ls` tells what is on disk"
            raise HubUnreachable(f"the hub of {self.name} has said nothing for {SILENCE_S:g} s: {why}")
        if self._lost:
            raise HubUnreachable(self._lost)
        if not is_live:
            self._end("")

    async def _follow(self, source: Source) -> None:
        """Take what the hub says until it says no more."""
        lost = "this connection is closed"
        try:
            async for event in source.events():
                self._take(event)
            gone = f"the hub of {self.name} went without a word; plt_tui.read_run tells what it has left on disk"
            lost = "" if self._told.done() and self.state.is_over else gone
        except PltTuiError as error:
            lost = str(error)
        except Exception as error:
            lost = f"this connection broke: {error!r}"
            raise
        finally:
            self._end(lost)
            await source.close()

    def _take(self, event: Event) -> None:
        """Fold what the hub says, then tell it to those who wait for it."""
        self._num_heard += 1
        event = self._picture.fold(event)
        if isinstance(event, CaughtUp):
            if not self._told.done():
                self._told.set_result(None)
            return
        for reader in tuple(self._readers):
            reader.put(event)
        match event:
            case CommandStatus(status="applied" | "refused"):
                answer = self._answers.get(event.id)
                if answer is not None and not answer.done():
                    answer.set_result(event)

    def _end(self, lost: str) -> None:
        """Nothing more comes: let go of everybody who waits. lost: as `_lost`."""
        if self._is_over:
            return
        self._is_over, self._lost = True, lost
        if not self._told.done():
            self._told.set_result(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        for reader in tuple(self._readers):
            reader.end(self._loss())

    def _loss(self) -> ConnectionLost | None:
        """What readers are told at their end: nothing where the run has ended, or who reads has closed the connection."""
        return ConnectionLost(self._lost) if self._lost and not self._is_closed else None

    def _open_source(self, verb: str) -> Source:
        """Where a command goes. Raises: ConnectionLost, Refused."""
        if self._source is not None and not self._is_over:
            return self._source
        if self._lost:
            raise ConnectionLost(self._lost)
        ended = f"the run has ended ({self.state.phase} at step {self.state.step})"
        raise Refused(verb, f"{ended}; it goes on with: plt-tui run --resume auto --name {self.name}")


async def _opened(run: str | os.PathLike[str], directory: str | os.PathLike[str], *, readonly: bool, actor: str) -> Connection:
    """The open connection, all history told. Raises: as `connect`."""
    target = os.fspath(run)
    if is_remote(target):
        if os.fspath(directory) != DIRECTORY:
            hint = f"name the folder in the address: {SCHEME}HOST//FOLDER/RUN"
            raise UsageError(f"directory goes with a run on this machine; {hint}")
        remote = await remote_of(target, actor, readonly=readonly)
        return await _told(Connection(remote.name, Picture(), remote, actor=actor), remote, is_live=remote.link.is_live)
    folder = find_run(Path(directory), target)
    hub = await hub_of(folder, actor, readonly=readonly)
    if hub is not None:
        return await _told(Connection(folder.name, Picture(), hub, actor=actor), hub)
    picture = await asyncio.to_thread(picture_of, folder)  # a long record takes seconds
    return Connection(folder.name, picture, None, actor=actor)


async def _told(connection: Connection, source: Source, *, is_live: bool = True) -> Connection:
    """`connection` once it was told all history. Raises: HubUnreachable."""
    try:
        await connection._catch_up(source, is_live=is_live)
    except BaseException:
        await connection.close()
        raise
    return connection


def _given(**args: Any) -> dict[str, Any]:
    """The arguments that were given."""
    return {name: value for name, value in args.items() if value is not None}


def _plain(value: Any) -> Any:
    """`value` without numpy's own types: what comes out of an array may be sent as it is."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
