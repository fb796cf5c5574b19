"""One client's way through the feed: order, bounds, pace."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control.feed import LOG_CHARS, Feed
from plt_tui.protocol.events import (
    CaughtUp,
    Checkpoint,
    CommandStatus,
    End,
    Eval,
    Event,
    Gauges,
    Logs,
    Phase,
    Plan,
    Spike,
    Step,
    Steps,
)
from plt_tui.protocol.framing import encode
from plt_tui.protocol.text import MAX_LINE_CHARS
from plt_tui.server import stream as stream_module
from plt_tui.server.stream import BATCH_ROWS, FRAME_S, Follower, Reader
from plt_tui.views.client import MAX_EVENT_BYTES
from plt_tui.views.model import RunModel
from tests.control.said import rewind
from tests.server.hub_fakes import FakeHub


def told(events: list[Event]) -> list[str]:
    """Events in short: "run", "1-3" for a block of steps 1 to 3, "2: 4-5" for one of branch 2, "eval 3"."""
    words = []
    for event in events:
        if isinstance(event, Steps):
            steps = event.column("step")
            words.append((f"{event.branch}: " if event.branch else "") + f"{steps[0]:.0f}-{steps[-1]:.0f}")
        else:
            step = getattr(event, "step", None)
            words.append(event.kind if step is None else f"{event.kind} {step}")
    return words


def eval_at(step: int) -> Eval:
    """An evaluation at `step`."""
    return Eval(step=step, loss=2.0, perplexity=7.0, bits_per_byte=3.0, accuracy=0.4)


def status(name: str, state: str, step: int) -> CommandStatus:
    """A command at a point of its life."""
    args = {"name": "grad_clip", "value": 1.0} if name == "set" else {}
    return CommandStatus(id="c", name=name, args=args, actor="me", status=state, step=step)


def test_a_long_log_comes_in_pieces() -> None:
    """Every line once and in order, those that were lost counted once, and no event larger than a client takes."""
    hub = FakeHub()
    lines = [
        [0.0, "rank 0", "INFO", f"{number} ".ljust(MAX_LINE_CHARS, "\U0001f389")]
        for number in range(LOG_CHARS // MAX_LINE_CHARS)
    ]
    hub.feed.publish(Logs(lines=lines, dropped=7))
    said = Reader(hub.feed).read()
    assert all(isinstance(event, Logs) and len(encode(event)) < MAX_EVENT_BYTES // 2 for event in said)
    assert [line for event in said for line in event.lines] == lines
    assert sum(event.dropped for event in said) == 7


def test_steps_go_out_before_what_happened_after_them() -> None:
    """Each event is given behind the steps it follows, although the feed keeps steps and events apart."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 6)
    spike = Spike(step=5, what="loss", value=9.0, z=7.0, act="skip")
    plan = Plan(step=6, target_step=60, tokens_per_step=8, steps_per_epoch=2.0)
    for event in (eval_at(2), status("set", "applied", 4), Checkpoint(step=4, path="c"), spike, plan):
        hub.feed.publish(event)
    assert told(Reader(hub.feed).read()) == [
        "run",
        "1-2",
        "eval 2",
        "3-3",
        "command 4",
        "4-4",
        "checkpoint 4",
        "5-5",
        "spike 5",
        "plan 6",
        "6-6",
    ]


@pytest.mark.parametrize("end_step", [0, 3])
def test_end_goes_out_behind_the_last_step(end_step: int) -> None:
    """No step follows the end of the run, whatever step the end claims."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 3)
    hub.feed.publish(End(phase="failed", step=end_step, exit_code=4))
    assert told(Reader(hub.feed).read()) == ["run", "1-3", f"end {end_step}"]


def test_steps_of_a_later_session_stay_behind_its_beginning() -> None:
    """After a resume from step 2, an event of the first session at step 4 does not pull in the second session's steps."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 4)
    hub.feed.publish(eval_at(4))
    hub.feed.publish(End(phase="stopped", step=4, exit_code=130))
    hub.begin(start_step=2)
    hub.train(3, 5)
    expected = ["run", "1-2", "eval 4", "end 4", "run", "3-5"]
    assert told(Reader(hub.feed).read()) == expected


def test_a_command_whose_step_is_unknown_does_not_wait_for_steps() -> None:
    """A requested command (step -1) is given at its place among the events, before the open steps."""
    hub = FakeHub()
    hub.train(1, 2)
    hub.feed.publish(status("pause", "requested", -1))
    assert told(Reader(hub.feed).read()) == ["command -1", "1-2"]


def test_only_the_rows_behind_a_cut_come_again() -> None:
    """A reader that has seen steps which a restart took back gets those that are computed instead of them, and no other."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 5)
    reader = Reader(hub.feed)
    reader.read()
    hub.begin(start_step=3)
    hub.train(4, 4)
    assert told(reader.read()) == ["run", "4-4"]
    assert reader.read() == []


def test_a_branch_goes_out_before_the_rewind_that_left_it() -> None:
    """Who attaches late gets the run as it went: the steps that were kept, those that were left, the rewind, what followed."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 5)
    hub.feed.publish(eval_at(5))
    hub.feed.publish(rewind(3, id_="a"))
    hub.train(4, 6)
    hub.feed.publish(rewind(2, id_="b"))
    hub.train(3, 4)
    assert told(Reader(hub.feed).read()) == [
        "run",
        "1-2",
        "eval 5",
        "1: 4-5",
        "command 3",
        "2: 3-6",
        "command 2",
        "3-4",
    ]


def test_a_live_reader_gets_the_branch_once_and_no_row_of_the_line_twice() -> None:
    """The whole branch, also the steps that it had not seen, and then what follows: a rewind costs no million rows."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 4)
    reader = Reader(hub.feed)
    reader.read()
    hub.train(5, 5)
    hub.feed.publish(rewind(3))
    hub.train(4, 4)
    assert told(reader.read()) == ["1: 4-5", "command 3", "4-4"]
    hub.feed.publish(rewind(4, id_="skip only", skip=2))
    hub.train(5, 5)
    assert told(reader.read()) == ["command 4", "5-5"]
    assert reader.read() == []


ACTIONS = st.lists(
    st.one_of(
        st.just("step"),
        st.just("look"),
        st.tuples(st.sampled_from(["resume", "rewind"]), st.integers(0, 8)),
    ),
    max_size=40,
)


@given(actions=ACTIONS, room=st.integers(1, 5))
def test_views_end_with_the_lines_of_the_hub(actions: list[str | tuple[str, int]], room: int) -> None:
    """Whenever they look and however small their batches: the line and each branch, the state of both, never a row too many."""
    hub = FakeHub()
    readers: list[tuple[Reader, list[Event]]] = [(Reader(hub.feed), []), (Reader(hub.feed), [])]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream_module, "BATCH_ROWS", room)
        for place, action in enumerate(actions):
            step = hub.feed.state.step
            if action == "step":
                hub.train(step + 1, step + 1)
            elif action == "look":
                readers[0][1].extend(readers[0][0].read())
            elif action[0] == "resume":
                hub.begin(start_step=min(step, int(action[1])))
            else:
                back = min(step, int(action[1]))
                hub.feed.publish(rewind(back, step, id_=str(place)))
        for reader, seen in readers:
            while news := reader.read():
                assert sum(event.count for event in news if isinstance(event, Steps)) <= room
                seen.extend(news)
    for _, seen in readers:
        model = RunModel()
        for event in seen:
            model.fold(event)
        lines = {0: model.steps, **model.branches}
        assert lines.keys() - {0} == hub.feed.history.branches.keys()
        assert all(table.columns == hub.feed.history.line(branch) for branch, table in lines.items())
        assert (model.state.step, model.state.branches) == (hub.feed.state.step, hub.feed.state.branches)
        assert [event for event in seen if not isinstance(event, Steps)] == hub.feed.events


def test_a_batch_is_bounded_and_nothing_is_lost() -> None:
    """A long history comes in batches of at most BATCH_ROWS steps, every row once, the events at their places."""
    rows = 2 * BATCH_ROWS + 7
    feed = Feed()
    hub = FakeHub()
    hub.feed = feed
    hub.fill(rows)
    feed.publish(eval_at(BATCH_ROWS + 5))
    feed.publish(End(phase="finished", step=rows, exit_code=0))
    reader, batches = Reader(feed), list[list[Event]]()
    while not batches or reader.is_behind:
        batches.append(reader.read())
    assert [told(batch) for batch in batches] == [
        [f"1-{BATCH_ROWS}"],
        [f"{BATCH_ROWS + 1}-{BATCH_ROWS + 5}", f"eval {BATCH_ROWS + 5}", f"{BATCH_ROWS + 6}-{2 * BATCH_ROWS}"],
        [f"{2 * BATCH_ROWS + 1}-{rows}", f"end {rows}"],
    ]


async def test_history_then_caught_up_then_live(hub: FakeHub) -> None:
    """The first frames end with CaughtUp, once; what is published later comes behind it."""
    hub.begin()
    hub.train(1, 2)
    follower = Follower(hub.feed)
    frames = follower.frames()
    assert told(await frames.__anext__()) == ["run", "1-2", "caught_up"]
    hub.train(3, 3)
    assert told(await frames.__anext__()) == ["3-3"]
    follower.close()


async def test_an_empty_feed_is_caught_up_at_once(hub: FakeHub) -> None:
    """A view that attaches before anything was said still learns that it is live."""
    follower = Follower(hub.feed)
    assert await follower.frames().__anext__() == [CaughtUp()]
    follower.close()


async def test_measurements_are_gathered_into_frames(hub: FakeHub) -> None:
    """A burst of steps, gauges and logs over a fifth of a second makes about FRAME_S-spaced frames, not one per event."""
    follower = Follower(hub.feed)
    frames = follower.frames()
    await frames.__anext__()
    loop = asyncio.get_running_loop()

    async def burst() -> None:
        for step in range(1, 101):
            hub.train(step, step)
            hub.feed.publish(Gauges(cores=[], memory_used_bytes=0, memory_total_bytes=0, gpus=[]))
            hub.feed.publish(Logs(lines=[[0.0, "hub", "INFO", "x"]]))
            await asyncio.sleep(0.002)

    began, count, seen = loop.time(), 0, 0
    writing = asyncio.create_task(burst())
    while seen < 100:
        batch = await frames.__anext__()
        count += 1
        seen += sum(event.count for event in batch if isinstance(event, Steps))
    await writing
    assert count <= (loop.time() - began) / FRAME_S + 2
    follower.close()


async def test_a_command_status_does_not_wait_for_the_frame(hub: FakeHub) -> None:
    """A status published just after a frame of steps is given without the frame's pause."""
    follower = Follower(hub.feed)
    frames = follower.frames()
    await frames.__anext__()
    hub.train(1, 1)
    await frames.__anext__()
    waits = []
    for turn in range(10):
        started = asyncio.get_running_loop().time()
        hub.feed.publish(status("pause", "applied", 1 + turn))
        assert "command" in told(await frames.__anext__())[0]
        waits.append(asyncio.get_running_loop().time() - started)
    assert min(waits) < FRAME_S / 5
    follower.close()


async def test_finish_ends_the_frames_after_the_last_word(hub: FakeHub) -> None:
    """What was said before `finish`, also while a frame was being sent, is still given; then the frames end."""
    follower = Follower(hub.feed)
    frames = follower.frames()
    await frames.__anext__()
    hub.feed.publish(Phase(phase="stopping"))
    assert told(await frames.__anext__()) == ["phase 0"]
    hub.feed.publish(End(phase="stopped", step=0, exit_code=130))
    follower.finish()
    assert [told(batch) async for batch in frames] == [["end 0"]]
    follower.close()


def test_step_events_and_blocks_agree() -> None:
    """A block holds the published steps bit for bit."""
    hub = FakeHub()
    hub.train(1, 3, loss=0.1 + 0.2)
    block = Reader(hub.feed).read()[0]
    assert isinstance(block, Steps)
    assert list(block.column("loss")) == [0.1 + 0.2] * 3
    assert isinstance(hub.feed.state.last_step, Step)
