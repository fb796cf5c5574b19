"""Promises of `plt_tui.connect`: against the real door of a hub, and against hubs that go, hang and lie."""

from __future__ import annotations

import asyncio
import gc
import time
from array import array
from collections.abc import AsyncIterator

import numpy as np
import pytest

import plt_tui
from plt_tui import Connection, ConnectionLost, HubUnreachable, Refused, connect, events
from plt_tui.client import connection as connection_module
from plt_tui.client.picture import Picture
from plt_tui.control.folder import RunFolder
from plt_tui.errors import UsageError
from plt_tui.protocol.events import (
    STEP_COLUMNS,
    Alert,
    CaughtUp,
    End,
    Eval,
    Event,
    Gauges,
    Phase,
    Run,
    Step,
    Steps,
)
from plt_tui.protocol.framing import encode
from tests.client.hubs import NAME, PatientHub, door_of, held, served_apart, server_that, write_record
from tests.control.said import rewind
from tests.server.hub_fakes import DEADLINE_S, FakeHub, until
from tests.views.fakes import FakeSource


async def next_of(reader: AsyncIterator[Event]) -> Event:
    """The next event, which must come."""
    return await asyncio.wait_for(anext(reader), DEADLINE_S)


async def all_of(reader: AsyncIterator[Event]) -> list[str]:
    """The kinds of all events to the end, which must come."""

    async def read() -> list[str]:
        return [event.kind async for event in reader]

    return await asyncio.wait_for(read(), DEADLINE_S)


def evaluation(step: int) -> Eval:
    """An evaluation after a step."""
    return Eval(step=step, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.4)


# What is there when it is open


async def test_all_history_is_there_at_once(hub: PatientHub) -> None:
    """Arrays with the bits of the hub, one value per step, and the state that the hub has."""
    hub.begin()
    hub.train(1, 50)
    hub.feed.publish(evaluation(50))
    async with connect(NAME) as run:
        assert (run.name, run.is_live, run.readonly) == (NAME, True, False)
        there = hub.feed.state
        assert (run.state.step, run.state.run, run.state.last_eval) == (50, there.run, there.last_eval)
        for name, values in run.history.as_dict().items():
            assert values.astype(np.float64).tobytes() == hub.feed.history.columns[name].tobytes()
        assert (run.history.step[-1], run.evals.step.tolist()) == (50, [50])
        assert repr(run) == "<Connection quickstart: starting, step 50 of 600, loss 2.5>"


async def test_it_can_be_awaited_and_closed_by_hand(hub: PatientHub) -> None:
    """As in a notebook, whose cells cannot share an `async with`; what was heard stays, closing twice is harmless."""
    hub.train(1, 3)
    run = await connect(NAME)
    assert len(run.history) == 3
    await run.close()
    await run.close()
    assert (run.is_live, len(run.history), run.state.step) == (False, 3, 3)
    assert repr(run).endswith("(over)>")


async def test_a_run_is_found_by_its_folder_and_by_the_beginning_of_its_name(hub: PatientHub, folder: RunFolder) -> None:
    """As on the command line; `directory` names where the runs are."""
    for run, directory in ((folder.path, "elsewhere"), ("quick", "runs"), (NAME, folder.path.parent)):
        async with connect(run, directory=directory) as found:
            assert found.name == NAME


async def test_what_is_not_open_says_so(hub: PatientHub) -> None:
    """A forgotten `await` is seen at once, and costs nothing."""
    assert "not open yet" in repr(connect(NAME))
    with pytest.raises(AttributeError):
        _ = connect(NAME).history  # type: ignore[attr-defined]


async def test_a_run_that_is_not_there(folder: RunFolder) -> None:
    """Names the runs that are."""
    with pytest.raises(UsageError, match="no run 'nope' under runs; runs there: quickstart"):
        await connect("nope")


# What happens meanwhile


async def test_what_happens_is_there_when_its_event_comes(hub: PatientHub) -> None:
    """Steps, an evaluation, a rewind: the arrays and the state know when the event is given, and older arrays stay."""
    hub.begin()
    async with connect(NAME) as run:
        reader = run.events(Steps, Eval, events.CommandStatus)
        hub.train(1, 4)
        assert isinstance(await next_of(reader), Steps)
        before = run.history
        hub.feed.publish(evaluation(4))
        assert await next_of(reader) == hub.feed.state.last_eval
        assert run.evals.perplexity.tolist() == [7.4]
        hub.feed.publish(rewind(2, 4))
        left, rewound = await next_of(reader), await next_of(reader)
        assert isinstance(left, Steps)
        assert (left.branch, rewound.kind) == (1, "command")
        assert (run.history.step.tolist(), run.branches[1].step.tolist(), len(run.evals)) == ([1, 2], [3, 4], 0)
        assert before.step.tolist() == [1, 2, 3, 4]


async def test_several_readers_get_everything_each(hub: PatientHub) -> None:
    """From the call on, of the kinds that each asked for; one that never reads, or leaves, disturbs no other."""
    async with connect(NAME) as run:
        everything, alerts, never = run.events(Alert, Phase), run.events(Alert), run.events()
        hub.feed.publish(Alert(topic="a", text="1"))
        hub.feed.publish(Phase(phase="running"))
        assert [(await next_of(everything)).kind, (await next_of(everything)).kind] == ["alert", "phase"]
        late = run.events(Alert)
        hub.feed.publish(Alert(topic="a", text="2"))
        async for event in run.events(Alert):  # from now on: what was published has not been heard yet
            assert event.text == "2"
            break
        assert [(await next_of(alerts)).text for _ in range(2)] == ["1", "2"]
        assert [(await next_of(reader)).text for reader in (late, everything)] == ["2", "2"]
        assert len(run._readers) == 4
        del never, late, alerts
        gc.collect()
        assert len(run._readers) == 1


async def test_readers_end_with_the_run(folder: RunFolder, no_task_left: None) -> None:
    """Behind the last word; then no command is taken, with the way on, and what is known stays."""
    hub = PatientHub()
    async with door_of(folder, hub) as door, connect(NAME) as run:
        reader, late = run.events(), asyncio.create_task(all_of(run.events(Phase, End)))
        hub.feed.publish(Phase(phase="stopping"))
        hub.feed.publish(End(phase="finished", step=0, exit_code=0))
        await door.close()
        assert (await all_of(reader), await late) == (["phase", "end"], ["phase", "end"])
        assert (run.is_live, await all_of(run.events())) == (False, [])
        with pytest.raises(Refused, match=r"pause refused: the run has ended \(finished at step 0\); it goes on with: plt-tui"):
            await run.pause()


async def test_a_hub_that_goes_without_a_word_is_no_end(folder: RunFolder, no_task_left: None) -> None:
    """Readers and waiting commands are told by an error, later ones too; nobody waits for ever."""

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(Phase(phase="running")) + b"\n" + encode(CaughtUp()) + b"\n")
        await reader.readline()

    async with server_that(folder, vanish), connect(NAME) as run:
        reader = run.events()
        with pytest.raises(ConnectionLost, match="the connection ended before pause was answered; `plt-tui show quickstart`"):
            await run.pause()
        for broken in (reader, run.events()):
            with pytest.raises(ConnectionLost, match="the hub of quickstart went without a word"):
                await next_of(broken)
        with pytest.raises(HubUnreachable, match="the hub of quickstart went without a word"):
            await run.pause()
        assert (run.is_live, run.state.phase) == (False, "running")


async def test_a_hub_that_breaks_off_is_quoted(folder: RunFolder, no_task_left: None) -> None:
    """Its own words, made harmless."""

    async def complain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(encode(CaughtUp()) + b"\n")
        await reader.readline()
        writer.write(encode(Alert(topic="protocol", text="too \x1b[1m long")) + b"\n")

    async with server_that(folder, complain), connect(NAME) as run:
        reader = run.events()
        with pytest.raises(ConnectionLost):
            await run.pause()
        with pytest.raises(ConnectionLost, match=r"broke off: too \\x1b\[1m long"):
            await next_of(reader)


async def test_closing_ends_readers_quietly(hub: PatientHub) -> None:
    """Who closes the connection knows why nothing comes; a command that waits is told."""
    hub.waits = True
    run = await connect(NAME)
    reading, asking = asyncio.create_task(all_of(run.events())), asyncio.create_task(run.pause())
    await hub.asked()
    await run.close()
    assert await reading == []
    with pytest.raises(ConnectionLost, match="the connection ended before pause was answered"):
        await asking
    with pytest.raises(ConnectionLost, match="this connection is closed"):
        await run.pause()
    assert await all_of(run.events()) == []


class Unhurried(FakeSource):
    """Takes its time to close, and says when it was broken off in that."""

    num_closed = 0

    async def close(self) -> None:
        await asyncio.sleep(0.02)
        self.num_closed += 1


@pytest.mark.parametrize("hangs_up", [True, False])
async def test_closing_is_not_broken_off(no_task_left: None, hangs_up: bool) -> None:
    """By closing again, or while the hub's end is being dealt with: a socket that was broken off in it cannot be waited for."""
    source = Unhurried([Phase(phase="running")])
    run = Connection(NAME, Picture(), source, actor="me")
    await connection_module._told(run, source)
    if hangs_up:
        source.hang_up()
        await until(lambda: not run.is_live)
    await asyncio.gather(run.close(), run.close())
    assert source.num_closed == 3


# Commands


async def test_a_command_returns_when_it_is_in_force(hub: PatientHub) -> None:
    """With the step; the state knows of it by then, and the hub knows who asked."""
    hub.begin()
    hub.train(1, 3)
    async with connect(NAME, actor="watcher") as run:
        applied = await run.command("set", name="grad_clip", value=0.5)
        assert (applied.name, applied.status, applied.step) == ("set", "applied", 3)
        assert run.state.commands[-1] == applied
        assert [edit.value for edit in run.state.edits] == [0.5]
    async with connect(NAME) as run:
        await run.note("by default it is said which person's program asked")
        assert run.actor.startswith("python ")
    assert [command.actor for command in hub.commands] == ["watcher", run.actor]


async def test_every_verb_has_a_method(hub: PatientHub) -> None:
    """With its arguments by name, and none that was left out."""
    async with connect(NAME) as run:
        hub.begin()
        await run.pause()
        await run.resume()
        await run.set("lr", 0.5, mode="scale")
        await run.set("grad_clip", 1.0)
        await run.checkpoint("best")
        await run.checkpoint()
        await run.evaluate()
        await run.sample("def ")
        await run.rewind(0, skip=3)
        await run.rewind(0)
        await run.hibernate()
        await run.note("so far")
        await run.stop()
        await run.stop(now=True)
        with pytest.raises(Refused):
            await run.undo("e1")
    assert [(command.name, command.args) for command in hub.commands] == [
        ("pause", {}),
        ("resume", {}),
        ("set", {"name": "lr", "value": 0.5, "mode": "scale"}),
        ("set", {"name": "grad_clip", "value": 1.0}),
        ("checkpoint", {"name": "best"}),
        ("checkpoint", {}),
        ("eval", {}),
        ("sample", {"prompt": "def "}),
        ("rewind", {"step": 0, "skip": 3}),
        ("rewind", {"step": 0}),
        ("hibernate", {}),
        ("note", {"text": "so far"}),
        ("stop", {}),
        ("stop", {"now": True}),
    ]


async def test_a_refusal_carries_the_reason(hub: PatientHub) -> None:
    """As an error of its own, harmless to print, and the connection goes on."""
    async with connect(NAME) as run:
        with pytest.raises(Refused) as refused:
            await run.undo()
        assert (refused.value.command, refused.value.reason) == ("undo", "nothing to \\x1b[31mundo")
        assert str(refused.value) == "undo refused: nothing to \\x1b[31mundo"
        with pytest.raises(UsageError, match="unknown command 'dance'"):
            await run.command("dance")
        with pytest.raises(UsageError, match="too long to send"):
            await run.note("x" * 70_000)
        assert (await run.pause()).status == "applied"


async def test_a_readonly_connection_is_refused_by_the_hub(hub: PatientHub) -> None:
    """It only looks; the hub sees to that."""
    async with connect(NAME, readonly=True) as run:
        assert run.readonly
        with pytest.raises(Refused, match="pause refused: this view is read-only"):
            await run.pause()
    assert hub.commands == []


async def test_numbers_of_numpy_are_numbers(hub: PatientHub) -> None:
    """What comes out of an array can be sent as it is."""
    hub.begin()
    hub.train(1, 3)
    async with connect(NAME) as run:
        await run.rewind(run.history.step[1])
        await run.set("lr", run.history.lr.min() / 2)
        await run.set("betas", np.array([0.5, 0.75], np.float32))
        await run.set("batch_size", [np.int64(4), 2], mode="keep")
    assert [command.args for command in hub.commands] == [
        {"step": 2},
        {"name": "lr", "value": 1.5e-3},
        {"name": "betas", "value": [0.5, 0.75]},
        {"name": "batch_size", "value": [4, 2], "mode": "keep"},
    ]


async def test_commands_at_once_each_get_their_own_answer(hub: PatientHub) -> None:
    """Whatever order the answers come in, and while readers read."""
    hub.waits = True
    async with connect(NAME) as run:
        asked = [asyncio.create_task(run.note(str(number))) for number in range(5)]
        await hub.asked(5)
        for place in (3, 0, 4, 1):
            hub.answer(place, step=place)
        hub.answer(2, "refused", reason="no")
        answers = await asyncio.gather(*asked, return_exceptions=True)
    numbers = {command.args["text"]: place for place, command in enumerate(hub.commands)}
    for number, answer in enumerate(answers):
        if numbers[str(number)] == 2:
            assert isinstance(answer, Refused)
        else:
            assert isinstance(answer, events.CommandStatus)
            assert (answer.args, answer.step) == ({"text": str(number)}, numbers[str(number)])


async def test_a_cancelled_command_leaves_the_connection_usable(hub: PatientHub) -> None:
    """Its answer, when it comes, is nobody's; the next command gets its own."""
    hub.waits = True
    async with connect(NAME) as run:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(run.pause(), 0.05)
        await hub.asked()
        reader = run.events(events.CommandStatus)
        second = asyncio.create_task(run.command("eval"))
        await hub.asked(2)
        hub.answer(0)
        hub.answer(1)
        assert (await second).name == "eval"
        assert [(await next_of(reader)).name for _ in range(2)] == ["pause", "eval"]
        assert run._answers == {}


async def test_a_task_can_be_cancelled_anywhere(hub: PatientHub) -> None:
    """While it opens, waits for an event, waits for an answer, or closes: nothing is left behind, the hub is well."""
    hub.waits = True
    hub.train(1, 20)

    async def use() -> None:
        async with connect(NAME) as run:
            async for _ in run.events():
                await run.pause()

    for rounds in range(40):
        task = asyncio.create_task(use())
        for number in range(rounds):
            await asyncio.sleep(0)
            if number % 5 == 4:
                hub.feed.publish(Phase(phase="running"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await until(lambda: asyncio.all_tasks() == {asyncio.current_task()})
    async with connect(NAME) as run:
        assert len(run.history) == 20


# Runs that have ended


async def test_a_finished_run_has_history_and_takes_no_commands(folder: RunFolder, no_task_left: None) -> None:
    """The same arrays as `read_run`; no events."""
    record = FakeHub()
    record.begin()
    record.train(1, 30)
    told = [*record.feed.events, *(_step(number) for number in range(1, 31)), evaluation(30)]
    write_record(folder, *told, End(time=50.0, phase="finished", step=30, exit_code=0))
    read = plt_tui.read_run(NAME)
    async with connect(NAME) as run:
        assert (run.is_live, run.readonly, run.state) == (False, True, read.state)
        assert {name: values.tobytes() for name, values in run.history.as_dict().items()} == {
            name: values.tobytes() for name, values in read.history.as_dict().items()
        }
        assert (run.evals.step.tolist(), await all_of(run.events())) == ([30], [])
        with pytest.raises(Refused, match="stop refused: the run has ended"):
            await run.stop()
    assert repr(read) == "<RunRecord quickstart: finished, step 30 of 600, loss 2>"


async def test_a_hub_that_dies_while_it_is_asked_leaves_its_record(folder: RunFolder, no_task_left: None) -> None:
    """A socket that nobody listens on, and by the next look nobody holds the run."""
    write_record(folder, Run(time=1.0, name=NAME, dir="d", world_size=1, params=1, target_step=9))
    with held(folder) as path:
        path.unlink(missing_ok=True)
        opening = asyncio.create_task(_opened())
        await asyncio.sleep(0.05)
    run = await opening
    assert (run.is_live, run.state.phase) == (False, "failed")
    assert "its hub is gone without a word" in run.state.reason


async def _opened() -> Connection:
    return await connect(NAME)


def _step(number: int) -> Step:
    return Step(time=1.0, step=number, loss=2.0, lr=1e-3, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


# Hubs that do not answer


async def test_a_hub_that_says_nothing(folder: RunFolder, no_task_left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is stopped takes connections all the same: opening gives up with a sentence."""
    monkeypatch.setattr(connection_module, "SILENCE_S", 0.05)

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with server_that(folder, say_nothing):
        with pytest.raises(HubUnreachable, match=r"the hub of quickstart has said nothing for 0\.05 s: it is stopped"):
            await connect(NAME)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "went without a word"),
        (encode(End(phase="finished", step=1, exit_code=0)) + b"\n", "went without a word"),
        (encode(Alert(topic="protocol", text="64 clients are connected")) + b"\n", "broke off: 64 clients are connected"),
        (b"HTTP/1.1 200 OK\n", "attach with its plt-tui version"),
    ],
    ids=["nothing", "half of it", "full", "another protocol"],
)
async def test_a_hub_that_does_not_tell_all(folder: RunFolder, no_task_left: None, said: bytes, reason: str) -> None:
    """Half a history is none."""

    async def say(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with server_that(folder, say):
        with pytest.raises(HubUnreachable, match=reason):
            await connect(NAME)


async def test_a_mistake_of_ours_is_not_hidden(hub: PatientHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers are told that the connection broke, and closing it raises what broke it."""
    run = await connect(NAME)
    reader = run.events()
    monkeypatch.setattr(run._picture, "fold", lambda event: 1 / 0)
    hub.feed.publish(Phase(phase="paused"))
    with pytest.raises(ConnectionLost, match=r"this connection broke: ZeroDivisionError"):
        await next_of(reader)
    with pytest.raises(ZeroDivisionError):
        await run.close()


# A whole program


def test_a_script_that_does_not_close_leaves_nothing_open(folder: RunFolder) -> None:
    """The end of `asyncio.run` closes what the script forgot, without a warning."""
    hub = PatientHub()
    hub.train(1, 5)

    async def script() -> int:
        run = await connect(NAME)
        return len(run.history)

    with served_apart(folder, hub):
        assert asyncio.run(script()) == 5
        gc.collect()


ROWS = 1_000_000
BLOCK = 10_000
MAX_CPU_S = 3.0
"""CPU time of this process, the sending included; the limit only has to tell a look at every step from none."""


async def test_a_million_steps_are_there_at_once(folder: RunFolder, no_task_left: None) -> None:
    """What a hub sends becomes arrays without a look at each step."""
    lines = []
    for first in range(1, ROWS + 1, BLOCK):
        columns = {name: array("d", np.arange(first, first + BLOCK, dtype=np.float64)) for name in STEP_COLUMNS}
        lines.append(encode(Steps.from_columns(columns, 0, BLOCK)) + b"\n")

    async def tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for line in (*lines, encode(CaughtUp()) + b"\n"):
            writer.write(line)
            await writer.drain()
        await reader.read()

    async with server_that(folder, tell):
        start_s = time.process_time()
        async with connect(NAME) as run:
            used_s = time.process_time() - start_s
            assert (len(run.history), run.history.step[-1], run.history.loss.sum()) == (ROWS, ROWS, ROWS * (ROWS + 1) / 2)
            assert run.state.step == ROWS
    assert used_s < MAX_CPU_S


async def test_gauges_reach_a_reader(hub: PatientHub) -> None:
    """What is of the moment only comes too, and is in the state."""
    gauges = Gauges(cores=[50.0], memory_used_bytes=1, memory_total_bytes=2, gpus=[])
    async with connect(NAME) as run:
        reader = run.events(Gauges)
        hub.feed.publish(gauges)
        assert await next_of(reader) == gauges
        assert run.state.gauges == gauges
