"""A run folder that somebody holds, with a hub of the tests or a server that misbehaves behind its socket."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

from plt_tui.control.folder import RunFolder, RunInfo
from plt_tui.control.record import Recorder
from plt_tui.protocol.commands import Command, status_of
from plt_tui.protocol.events import CommandState, Eval, Event
from plt_tui.server.unix import UnixDoor, serve_unix
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until

NAME = "quickstart"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class PatientHub(FakeHub):
    """Applies every command at once; or, while it `waits`, when it is told to."""

    waits = False

    async def submit(self, command: Command) -> None:
        if self.waits:
            self.commands.append(command)
        else:
            await super().submit(command)

    async def asked(self, count: int = 1) -> None:
        """Return once `count` commands have come."""
        await until(lambda: len(self.commands) >= count)

    def answer(self, place: int, status: CommandState = "applied", *, step: int = 7, reason: str = "") -> None:
        """Say what became of the command at `place`."""
        self.feed.publish(status_of(self.commands[place], status, step, reason))


class WordyHub(FakeHub):
    """Says what an edit changed and from which step on, and has numbers at hand when it is asked for an evaluation."""

    async def submit(self, command: Command) -> None:
        self.commands.append(command)
        step, changed = self.feed.state.step, dict[str, float]()
        if command.name == "eval":
            self.feed.publish(Eval(step=step, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.4))
        elif command.name == "set":
            step, changed = step + 1, {"before": 3e-3, "after": command.args["value"]}
        self.feed.publish(replace(status_of(command, "applied", step), **changed))


@contextmanager
def held(folder: RunFolder) -> Iterator[Path]:
    """A live run, whose hub is to open the socket at this path."""
    lock, path = folder.lock(), folder.socket_path()
    folder.write_info(RunInfo(name=NAME, host="box", pid=os.getpid(), boot_id="b", socket=str(path), phase="running"))
    try:
        yield path
    finally:
        os.close(lock)


@asynccontextmanager
async def door_of(folder: RunFolder, hub: FakeHub) -> AsyncIterator[UnixDoor]:
    """The open door of `hub`, which holds the run."""
    with held(folder) as path:
        door = await serve_unix(hub, path)
        try:
            yield door
        finally:
            await door.close()


@asynccontextmanager
async def server_that(folder: RunFolder, talk: Talk) -> AsyncIterator[None]:
    """A server that holds the run, does `talk` with each client once it has said hello, and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            await talk(reader, writer)
        finally:
            writer.close()

    with held(folder) as path:
        server = await asyncio.start_unix_server(serve, path)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()
            path.unlink(missing_ok=True)


def write_record(folder: RunFolder, *events: Event) -> None:
    """The files of a run that has said `events`, and that nobody holds any more."""
    recorder = Recorder(folder, 0, on_error=lambda problem: None)
    for event in events:
        recorder.record(event)
    recorder.close()


@contextmanager
def served_apart(folder: RunFolder, hub: FakeHub) -> Iterator[None]:
    """The open door of `hub` in a thread with a loop of its own: for programs that bring their own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        with held(folder) as path:
            door = asyncio.run_coroutine_threadsafe(serve_unix(hub, path), loop).result(DEADLINE_S)
            try:
                yield
            finally:
                asyncio.run_coroutine_threadsafe(door.close(), loop).result(DEADLINE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
