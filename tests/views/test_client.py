"""The client of the hub: against the real door, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from plt_tui.control.feed import Feed
from plt_tui.errors import HubUnreachable, UsageError
from plt_tui.protocol.commands import Command, new_command, status_of
from plt_tui.protocol.events import Alert, CaughtUp, CommandState, Event, Phase, Run, Step, Steps
from plt_tui.protocol.framing import encode
from plt_tui.server.unix import serve_unix
from plt_tui.views.client import HubClient, run_command
from plt_tui.views.source import Source

DEADLINE_S = 10.0
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class FakeHub:
    """Answers every command with `answers`, in order."""

    def __init__(self, answers: tuple[CommandState, ...]) -> None:
        self.feed = Feed()
        self.answers = answers
        self.commands: list[Command] = []

    async def submit(self, command: Command) -> None:
        self.commands.append(command)
        for status in self.answers:
            self.feed.publish(status_of(command, status, step=7))


@asynccontextmanager
async def hub_at(path: Path, *answers: CommandState) -> AsyncIterator[FakeHub]:
    """A hub behind its door."""
    hub = FakeHub(answers)
    door = await serve_unix(hub, path)
    try:
        yield hub
    finally:
        await door.close()


@asynccontextmanager
async def server_that(path: Path, talk: Talk) -> AsyncIterator[None]:
    """A server that does `talk` with each client and then hangs up."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readline()
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def client_of(path: Path, *, readonly: bool = False) -> AsyncIterator[HubClient]:
    """A client of the hub at `path`."""
    client = await HubClient.connect(path, actor="test ana@box", readonly=readonly)
    try:
        yield client
    finally:
        await client.close()


async def heard(source: Source) -> list[str]:
    """Kinds of all events until the source ends."""
    return [event.kind async for event in source.events()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the socket is."""
    return tmp_path / "hub.sock"


async def test_events_come_back_as_they_were_published(path: Path) -> None:
    """History, caught_up and live events, equal to the published ones, steps bit for bit; they end with the hub."""
    run = Run(name="demo", dir="d", world_size=1, params=1, target_step=2)
    step = Step(time=1.5, step=1, loss=0.1 + 0.2, lr=1e-3, grad_norm=1.0, tokens=3, tokens_per_s=1.0, step_ms=1.0)
    phase = Phase(phase="paused", reason="日本 \x1b[31m")
    async with hub_at(path) as hub:
        hub.feed.publish(run)
        hub.feed.publish(step)
        client = await HubClient.connect(path, actor="test")
        events = client.events()
        told_run, block, caught_up = [await events.__anext__() for _ in range(3)]
        hub.feed.publish(phase)
    assert [event async for event in events] == [phase]
    assert (told_run, caught_up) == (run, CaughtUp())
    assert isinstance(block, Steps)
    assert block.column("loss")[0] == step.loss
    await client.close()


async def test_steps_computed_again_come_again(path: Path) -> None:
    """After a restart from an earlier step a client gets the history from its first row, so a table cut there is right."""
    async with hub_at(path) as hub, client_of(path) as client:
        events = client.events()
        for number in (1, 2, 3):
            hub.feed.publish(step_of(number, loss=1.0))
        seen: dict[float, float] = {}
        await collect(events, seen, until=3)
        hub.feed.publish(Run(name="demo", dir="d", world_size=1, params=1, target_step=3, start_step=1))
        hub.feed.publish(step_of(2, loss=9.0))
        await collect(events, seen, until=2)
    assert seen == {1.0: 1.0, 2.0: 9.0}


async def collect(events: AsyncIterator[Event], table: dict[float, float], until: int) -> None:
    """Fold blocks into step -> loss, as a view does, up to the block that ends with step `until`."""
    async for event in events:
        if isinstance(event, Steps):
            steps, losses = event.column("step"), event.column("loss")
            for stale in [known for known in table if known >= steps[0]]:
                del table[stale]
            table.update(zip(steps, losses, strict=True))
            if steps[-1] == until:
                return


def step_of(number: int, loss: float) -> Step:
    """Step `number`."""
    return Step(step=number, loss=loss, lr=1e-3, grad_norm=1.0, tokens=3, tokens_per_s=1.0, step_ms=1.0)


async def test_a_command_returns_with_the_step_at_which_it_took_effect(path: Path) -> None:
    """`run_command` waits through requested and agreed, past other commands, for the final word on its own."""
    async with hub_at(path, "requested", "agreed", "applied") as hub, client_of(path) as client:
        hub.feed.publish(status_of(new_command("resume"), "applied", step=1))
        for verb in ("pause", "eval"):
            command = new_command(verb)
            status = await run_command(client, command, DEADLINE_S)
            assert (status.id, status.name, status.status, status.step) == (command.id, verb, "applied", 7)
        assert {command.actor for command in hub.commands} == {"test ana@box"}


async def test_a_readonly_client_is_refused_by_the_hub(path: Path) -> None:
    """`readonly` is said in the hello and enforced at the other end."""
    async with hub_at(path, "applied") as hub, client_of(path, readonly=True) as client:
        assert client.readonly
        status = await run_command(client, new_command("pause"), DEADLINE_S)
        assert (status.status, status.reason) == ("refused", "this view is read-only")
        assert hub.commands == []


async def test_an_unanswered_command_times_out_with_advice(path: Path) -> None:
    """The error says how long was waited and that the command may still take effect; the client stays usable."""
    async with hub_at(path, "requested") as hub, client_of(path) as client:
        with pytest.raises(HubUnreachable, match=r"no answer to pause within 0\.05 s; it may still take effect"):
            await run_command(client, new_command("pause"), 0.05)
        hub.answers = ("applied",)
        assert (await run_command(client, new_command("eval"), DEADLINE_S)).status == "applied"


async def test_a_hub_that_ends_before_it_answers(path: Path) -> None:
    """The command's error says that the hub is gone."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()

    async with server_that(path, hang_up), client_of(path) as client:
        with pytest.raises(HubUnreachable, match="the hub ended before it answered to pause"):
            await run_command(client, new_command("pause"), DEADLINE_S)


async def test_a_broken_protocol_is_told(path: Path) -> None:
    """When the hub breaks off, its reason is the error of the command."""

    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(encode(Alert(topic="protocol", text="too \x1b[1m long")) + b"\n")
        await writer.drain()

    async with server_that(path, complain), client_of(path) as client:
        with pytest.raises(HubUnreachable, match=r"broke off: too \\x1b\[1m long"):
            await run_command(client, new_command("pause"), DEADLINE_S)


async def test_a_hub_that_breaks_off_is_quoted_to_every_view(path: Path) -> None:
    """Whoever follows the events hears why, and takes it for no alert of the run: such as that there is no room."""

    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(CaughtUp()) + b"\n" + encode(Alert(topic="protocol", text="64 clients are connected")) + b"\n")
        await writer.drain()

    async with server_that(path, refuse), client_of(path) as client:
        events = client.events()
        assert await events.__anext__() == CaughtUp()
        with pytest.raises(HubUnreachable, match="broke off: 64 clients are connected"):
            await events.__anext__()


async def test_a_hub_with_a_full_queue_at_its_door_is_unreachable(path: Path) -> None:
    """One that is stopped while many want in: connecting gives up with a sentence, and takes nothing for a connection."""
    with ExitStack() as stack:
        hub = stack.enter_context(socket.socket(socket.AF_UNIX))
        hub.bind(str(path))
        hub.listen(0)
        with suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))
        with pytest.raises(HubUnreachable, match=r"no hub answers on .*hub\.sock"):
            await HubClient.connect(path, actor="test", deadline_s=0.1)


@pytest.mark.parametrize(
    ("said", "kinds"),
    [(b"", []), (encode(CaughtUp()) + b"\n" + encode(CaughtUp())[:20], ["caught_up"])],
    ids=["nothing", "half a line"],
)
async def test_a_hub_that_vanishes_ends_the_events(path: Path, said: bytes, kinds: list[str]) -> None:
    """A dead hub is the end of the stream and no error, in the middle of a line too."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with server_that(path, say), client_of(path) as client:
        assert await heard(client) == kinds


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\n", b'{"kind":"from the future"}\n', b"\xff\n"])
async def test_another_protocol_is_named(path: Path, line: bytes) -> None:
    """What this version cannot read is HubUnreachable with the way out."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(line)

    async with server_that(path, say), client_of(path) as client:
        with pytest.raises(HubUnreachable, match="attach with its plt-tui version"):
            await heard(client)


async def test_connect_waits_for_a_hub_that_is_starting(path: Path) -> None:
    """Within the deadline a socket that refuses is tried again, and one that does not exist yet."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        early = [
            asyncio.create_task(HubClient.connect(at, actor="test", deadline_s=DEADLINE_S)) for at in (path, path.parent / "b")
        ]
        done, _ = await asyncio.wait(early, timeout=0.1)
        assert not done
    async with hub_at(path), hub_at(path.parent / "b"):
        for client in await asyncio.gather(*early):
            assert (await client.events().__anext__()).kind == "caught_up"
            await client.close()


@pytest.mark.parametrize("is_stale", [False, True], ids=["no socket", "dead socket"])
async def test_no_hub_is_an_error_with_a_next_action(path: Path, is_stale: bool) -> None:
    """Without a hub the path and what to do are named, when the deadline is over."""
    if is_stale:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
    with pytest.raises(HubUnreachable, match=r"no hub answers on .*hub\.sock.*plt-tui ls.*--resume auto"):
        await HubClient.connect(path, actor="test", deadline_s=0.1)


@pytest.mark.parametrize(
    ("text", "reason"),
    [("x" * 70_000, "too long"), (float("nan"), "cannot be written down"), ("\ud800", "cannot be written down")],
    ids=str,
)
async def test_what_the_hub_would_not_take_is_not_sent(path: Path, text: object, reason: str) -> None:
    """A note beyond 64 KiB, NaN and lone surrogates are refused here, and the connection stays good."""
    async with hub_at(path, "applied"), client_of(path) as client:
        with pytest.raises(UsageError, match=reason):
            await client.send(new_command("note", {"text": text}))
        assert (await run_command(client, new_command("pause"), DEADLINE_S)).status == "applied"


async def test_sending_to_a_dead_hub_is_hub_unreachable(path: Path) -> None:
    """Not a broken pipe."""

    async def hang_up(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        return

    async with server_that(path, hang_up), client_of(path) as client:
        await heard(client)
        with pytest.raises(HubUnreachable, match="the hub has gone"):
            await client.send(new_command("pause"))


async def test_closing_twice_is_harmless(path: Path) -> None:
    """As every Source promises."""
    async with hub_at(path), client_of(path) as client:
        await client.close()
        await client.close()
