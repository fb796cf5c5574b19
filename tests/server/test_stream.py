"""One reader's way through the feed: order, bounds, bytes. How it goes on where it broke off is in `test_stream_resume`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control.feed import LOG_CHARS
from plt_tui.errors import UsageError
from plt_tui.protocol.events import (
    Alert,
    Checkpoint,
    CommandStatus,
    End,
    Eval,
    Event,
    Gauges,
    Logs,
    Phase,
    RankStatus,
    Step,
    Steps,
)
from plt_tui.protocol.framing import decode, encode
from plt_tui.protocol.text import MAX_LINE_CHARS
from plt_tui.server import stream as stream_module
from plt_tui.server.stream import BATCH_EVENTS, BATCH_ROWS, PIECE_BYTES, Batch, Reader, as_line
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


def logs(*texts: str) -> Logs:
    """Log lines."""
    return Logs(lines=[[0.0, "hub", "INFO", text] for text in texts])


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


def test_everything_goes_out_in_the_order_of_the_record() -> None:
    """Though the feed keeps steps and events apart; a checkpoint that was written for two steps comes behind them."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 2)
    hub.feed.publish(eval_at(2))
    hub.train(3, 3)
    hub.feed.publish(status("set", "applied", 4))
    hub.train(4, 5)
    hub.feed.publish(Checkpoint(step=3, path="c"))
    hub.train(6, 6)
    said = Reader(hub.feed).read()
    assert told(said) == ["run", "1-2", "eval 2", "3-3", "command 4", "4-5", "checkpoint 3", "6-6"]
    assert [event.seq for event in said] == [1, 3, 4, 5, 6, 8, 9, 10]


def test_what_is_not_recorded_keeps_its_place_among_the_events() -> None:
    """The alert that nothing can be written: behind the event before it, and it waits for no step."""
    hub = FakeHub()
    hub.train(1, 1)
    hub.feed.publish(status("pause", "requested", -1))
    hub.train(2, 2)
    hub.feed.publish_unrecorded(Alert(topic="record", text="disk full"))
    hub.feed.publish(eval_at(2))
    assert told(Reader(hub.feed).read()) == ["1-1", "command -1", "alert", "2-2", "eval 2"]


def test_end_goes_out_behind_the_last_step() -> None:
    """No step follows the end of the run, whatever step the end claims."""
    hub = FakeHub()
    hub.begin()
    hub.train(1, 3)
    hub.feed.publish(End(phase="failed", step=0, exit_code=4))
    assert told(Reader(hub.feed).read()) == ["run", "1-3", "end 0"]


def test_log_lines_go_out_first_and_what_is_of_the_moment_last() -> None:
    """Who hears of an event has had the lines before it; and no later event takes back what is said of now."""
    hub = FakeHub()
    hub.feed.publish(RankStatus(rank=0, pid=1, doing="training"))
    hub.feed.publish(Gauges(cores=[], memory_used_bytes=0, memory_total_bytes=0, gpus=[]))
    hub.begin()
    hub.train(1, 1)
    hub.feed.publish(logs("a"))
    hub.feed.publish(eval_at(1))
    assert told(Reader(hub.feed).read()) == ["logs", "run", "1-1", "eval 1", "rank 0", "gauges"]


def test_what_is_of_the_moment_waits_for_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """A late reader in the middle of history would forget the ranks at the next restart that it is told of."""
    monkeypatch.setattr(stream_module, "BATCH_EVENTS", 1)
    hub = FakeHub()
    for event in (Phase(phase="restarting"), Phase(phase="running"), RankStatus(rank=0, pid=1, doing="training")):
        hub.feed.publish(event)
    reader = Reader(hub.feed)
    assert [told(reader.read()) for _ in range(3)] == [["phase 0"], ["phase 0", "rank 0"], []]


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
    said = Reader(hub.feed).read()
    assert told(said) == ["run", "1-2", "eval 5", "1: 4-5", "command 3", "2: 3-6", "command 2", "3-4"]
    assert [event.seq for event in said] == [1, 3, 7, 0, 8, 0, 12, 14]


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
            assert not reader.is_behind
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
    hub = FakeHub()
    hub.fill(BATCH_ROWS + 5)
    hub.feed.publish(eval_at(BATCH_ROWS + 5))
    hub.train(BATCH_ROWS + 6, rows)
    hub.feed.publish(End(phase="finished", step=rows, exit_code=0))
    reader, batches = Reader(hub.feed), list[list[Event]]()
    while reader.is_behind:
        batches.append(reader.read())
    assert [told(batch) for batch in batches] == [
        [f"1-{BATCH_ROWS}"],
        [f"{BATCH_ROWS + 1}-{BATCH_ROWS + 5}", f"eval {BATCH_ROWS + 5}", f"{BATCH_ROWS + 6}-{2 * BATCH_ROWS}"],
        [f"{2 * BATCH_ROWS + 1}-{rows}", f"end {rows}"],
    ]


def test_a_batch_has_a_bounded_number_of_events() -> None:
    """A run of a year has many; each comes once."""
    hub = FakeHub()
    for number in range(2 * BATCH_EVENTS + 1):
        hub.feed.publish(Alert(topic="t", text=str(number)))
    reader, batches = Reader(hub.feed), list[list[Event]]()
    while reader.is_behind:
        batches.append(reader.read())
    assert [len(batch) for batch in batches] == [BATCH_EVENTS, BATCH_EVENTS, 1]
    assert [event for batch in batches for event in batch] == hub.feed.events


def test_nobody_goes_on_behind_what_is_not_there_yet() -> None:
    """It would miss what gets that number."""
    hub = FakeHub()
    hub.begin()
    assert told(Reader(hub.feed, after=1).read()) == []
    with pytest.raises(UsageError, match="ends with number 1"):
        Reader(hub.feed, after=2)


def test_step_events_and_blocks_agree() -> None:
    """A block holds the published steps bit for bit."""
    hub = FakeHub()
    hub.train(1, 3, loss=0.1 + 0.2)
    block = Reader(hub.feed).read()[0]
    assert isinstance(block, Steps)
    assert list(block.column("loss")) == [0.1 + 0.2] * 3
    assert isinstance(hub.feed.state.last_step, Step)


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_batch_becomes_pieces_of_whole_events(is_shared: bool) -> None:
    """Small ones together, a large one alone or as the last of its piece; asked twice, the same bytes."""
    events: list[Event] = [logs("x" * size) for size in (10, 10, PIECE_BYTES, 10, 40_000, 40_000, 10)]
    batch = Batch(events, is_shared=is_shared)
    pieces = list(batch.pieces(as_line))
    assert [len(piece.splitlines()) for piece in pieces] == [3, 3, 1]
    assert [decode(line) for piece in pieces for line in piece.splitlines()] == events
    assert all(piece.endswith(b"\n") for piece in pieces)
    assert list(batch.pieces(as_line)) == pieces


def test_a_shared_batch_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many send it, and over whatever kind of wire."""
    encoded = list[Event]()

    def encode_and_count(event: Event) -> bytes:
        encoded.append(event)
        return encode(event)

    monkeypatch.setattr(stream_module, "encode", encode_and_count)
    batch = Batch([eval_at(1), eval_at(2)], is_shared=True)
    for _ in range(100):
        assert b"".join(batch.pieces(as_line)).count(b"\n") == 2
    assert b"".join(batch.pieces(bytes)).count(b"\n") == 0
    assert encoded == batch.events
