"""Promises of `control.feed`: whenever a reader looks, it misses nothing and is given nothing twice."""

from __future__ import annotations

from array import array
from functools import reduce

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.control import feed as feed_module
from plt_tui.control.feed import Cursor, Feed, History
from plt_tui.control.state import RunState, apply
from plt_tui.errors import UsageError
from plt_tui.protocol.events import (
    Alert,
    CommandStatus,
    End,
    Event,
    Gauges,
    Logs,
    OpenLine,
    Phase,
    Progress,
    RankStatus,
    Recent,
    Run,
    Step,
    Steps,
    Viewers,
)
from tests.control.said import NumberedFeed, rewind


def step(number: int) -> Step:
    """A step of which only the number matters."""
    return Step(step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def run(start_step: int) -> Run:
    """A session that starts from `start_step`."""
    return Run(name="a", dir="/a", world_size=1, params=1, target_step=100, start_step=start_step)


def logs(*texts: str) -> Logs:
    """Log lines of one source."""
    return Logs(lines=[[0.0, "hub", "INFO", text] for text in texts])


def gauges(percent: float) -> Gauges:
    """The machine, of which only one core matters."""
    return Gauges(cores=[percent], memory_used_bytes=0, memory_total_bytes=0, gpus=[])


class Reader:
    """A view: it keeps its own history the way every view does."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.cursor = Cursor()
        self.steps: list[int] = []
        self.branches: dict[int, list[int]] = {}
        self.events: list[Event] = []
        self.lines: list[str] = []
        self.dropped = 0

    def look(self) -> None:
        """Take what is new, as `Steps` blocks ask for it: a block replaces what came from its first step on."""
        news, self.cursor = self.feed.read(self.cursor)
        for event in news:
            if isinstance(event, Steps):
                numbers = [int(number) for number in event.column("step")]
                assert numbers == sorted(set(numbers))
                if event.branch:
                    self.branches[event.branch] = self.branches.get(event.branch, []) + numbers
                    continue
                self.steps = [number for number in self.steps if number < numbers[0]] + numbers
            elif isinstance(event, Logs):
                self.lines += [line[3] for line in event.lines]
                self.dropped += event.dropped
            elif not isinstance(event, Gauges | RankStatus):
                self.events.append(event)
                if isinstance(event, Run | CommandStatus):
                    last = event.start_step if isinstance(event, Run) else event.step
                    self.steps = [number for number in self.steps if number <= last]


ACTIONS = st.lists(
    st.one_of(
        st.just("step"),
        st.just("alert"),
        st.just("log"),
        st.just("look"),
        st.tuples(st.just("resume"), st.integers(0, 12)),
        st.tuples(st.just("rewind"), st.integers(0, 12)),
    ),
    max_size=60,
)


@given(actions=ACTIONS)
def test_a_reader_sees_every_event_and_step_once_and_in_order(actions: list[object]) -> None:
    """Whenever it looks, and whatever was cut or left in between, a reader ends with what the feed has."""
    feed, last, said = Feed(), 0, 0
    left: dict[int, list[int]] = {}
    reader, late = Reader(feed), Reader(feed)
    for action in actions:
        if action == "step":
            last += 1
            feed.publish(step(last))
        elif action == "alert":
            said += 1
            feed.publish(Alert(topic="t", text=str(said)))
        elif action == "log":
            said += 1
            feed.publish(logs(str(said)))
        elif action == "look":
            reader.look()
        elif isinstance(action, tuple):
            before, last = last, min(last, action[1])
            feed.publish(run(last) if action[0] == "resume" else rewind(last))
            if action[0] == "rewind" and last < before:
                left[len(left) + 1] = list(range(last + 1, before + 1))
    for someone in (reader, late):
        someone.look()
        assert someone.steps == [int(number) for number in feed.history.columns["step"]] == list(range(1, last + 1))
        assert someone.branches == left
        assert someone.events == feed.events
        assert someone.lines == [line[3] for line in feed.log_tail(feed_module.LOG_LINES)]
        assert someone.dropped == 0
        assert feed.read(someone.cursor)[0] == []


def test_without_a_cut_no_step_is_given_twice() -> None:
    """A reader that keeps up gets only the new rows."""
    feed, cursor = Feed(), Cursor()
    given: list[int] = []
    for number in range(1, 50):
        feed.publish(step(number))
        if number % 7 == 0:
            news, cursor = feed.read(cursor)
            given += [int(value) for event in news if isinstance(event, Steps) for value in event.column("step")]
    assert given == list(range(1, 50))


def test_a_long_history_comes_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No block has more than BLOCK_ROWS rows."""
    monkeypatch.setattr(feed_module, "BLOCK_ROWS", 10)
    feed = Feed()
    for number in range(1, 26):
        feed.publish(step(number))
    blocks = [event for event in feed.read(Cursor())[0] if isinstance(event, Steps)]
    assert [block.count for block in blocks] == [10, 10, 5]
    assert [block.column("step")[0] for block in blocks] == [1, 11, 21]


@pytest.mark.parametrize(
    ("appended", "kept", "generation"),
    [
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3, 3], [1, 2, 3], 1),
        ([1, 2, 3, 2, 3], [1, 2, 3], 1),
        ([5, 6, 1], [1], 1),
        ([1, 2, 9], [1, 2, 9], 0),
        ([1, 2, 1, 1], [1], 2),
    ],
)
def test_a_step_again_cuts_off_what_followed_it(appended: list[int], kept: list[int], generation: int) -> None:
    """The rows of an abandoned branch go, and readers are told by the generation."""
    history = History()
    for number in appended:
        history.append(step(number))
    assert history.columns["step"] == array("d", kept)
    assert {len(values) for values in history.columns.values()} == {len(kept)} == {len(history)}
    assert history.generation == generation


def test_a_cut_that_removes_nothing_disturbs_no_reader() -> None:
    """A resume from the last step leaves the generation, so nobody reads a million rows again."""
    feed = Feed()
    feed.publish(step(1))
    _, cursor = feed.read(Cursor())
    feed.publish(run(1))
    assert not [event for event in feed.read(cursor)[0] if isinstance(event, Steps)]


def steps_of(feed: Feed, branch: int) -> list[int]:
    """The step numbers of a branch, or for 0 of the line; every column is as long."""
    columns = feed.history.line(branch)
    assert {len(values) for values in columns.values()} == {len(columns["step"])}
    return [int(number) for number in columns["step"]]


def test_what_a_rewind_leaves_is_a_branch_and_what_a_fault_takes_back_is_not() -> None:
    """After a fault the same steps are computed again; after a rewind others are, so the old ones stay to be looked at."""
    feed = Feed()
    for number in (1, 2, 3, 4, 5):
        feed.publish(step(number))
    feed.publish(run(4))
    feed.publish(rewind(2, id_="a"))
    for number in (3, 4, 5):
        feed.publish(step(number))
    feed.publish(rewind(1, id_="b"))
    assert [steps_of(feed, branch) for branch in (0, 1, 2)] == [[1], [3, 4], [2, 3, 4, 5]]
    assert [(left.number, left.first, left.last) for left in feed.state.branches] == [(1, 3, 4), (2, 2, 5)]


def test_a_rewind_that_leaves_no_step_makes_no_branch() -> None:
    """Neither in the state nor in the history, and no reader reads its rows again."""
    feed = Feed()
    feed.publish(step(1))
    _, cursor = feed.read(Cursor())
    feed.publish(rewind(1))
    assert (feed.state.branches, feed.history.branches) == ((), {})
    assert not [event for event in feed.read(cursor)[0] if isinstance(event, Steps)]


@given(
    starts=st.lists(st.tuples(st.sampled_from(["run", "step", "rewind"]), st.integers(0, 9), st.integers(-1, 9)), max_size=30)
)
def test_branches_have_the_numbers_of_the_state(starts: list[tuple[str, int, int]]) -> None:
    """Also where the record's metrics lack steps that the state counts: such a branch has fewer rows, or none."""
    feed = Feed()
    for place, (what, number, before) in enumerate(starts):
        if what == "run":
            feed.publish(run(number))
        elif what == "step":
            feed.publish(step(number))
        else:
            feed.publish(rewind(number, before if before >= 0 else None, id_=str(place)))
    assert [left.number for left in feed.state.branches] == list(feed.history.branches)
    for left in feed.state.branches:
        assert all(left.first <= number for number in steps_of(feed, left.number))


def test_a_branch_without_rows_costs_a_reader_nothing() -> None:
    """The record's metrics are gone: the branch is counted, and no block is sent for it."""
    feed = Feed()
    feed.publish(run(40))
    feed.publish(rewind(35))
    assert steps_of(feed, 1) == []
    assert feed.read(Cursor())[0] == feed.events


def test_a_long_branch_comes_in_blocks_before_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block at most BLOCK_ROWS rows, branch by branch, then the rows of the line."""
    monkeypatch.setattr(feed_module, "BLOCK_ROWS", 2)
    feed = Feed()
    for number in (1, 2, 3, 4):
        feed.publish(step(number))
    feed.publish(rewind(1))
    feed.publish(step(2))
    blocks = [event for event in feed.read(Cursor())[0] if isinstance(event, Steps)]
    assert [(block.branch, list(block.column("step"))) for block in blocks] == [(1, [2, 3]), (1, [4]), (0, [1, 2])]


def test_rows_that_do_not_grow_replace_older_ones() -> None:
    """A long record read by columns is cut like steps one by one, and makes no branch."""
    feed = Feed()
    for numbers in ([1, 2, 3], [3, 4], [2]):
        rows = [step(number) for number in numbers]
        feed.publish_rows({name: [getattr(row, name) for row in rows] for name in feed.history.columns}, rows[-1])
    assert (steps_of(feed, 0), feed.history.branches) == ([1, 2], {})


@pytest.mark.parametrize("over", [run(3), Phase(phase="hibernated")], ids=["run", "hibernated"])
def test_a_late_reader_is_not_told_what_is_over(over: Event) -> None:
    """The preparation before the first step, and the states in memory of ranks that are gone."""
    feed = Feed()
    for event in (Progress(task="tokenising", done=1, total=2), run(2), Recent(steps=[3], bytes=1, seconds=0.1)):
        feed.publish(event)
    assert [event.kind for event in feed.read(Cursor())[0]] == ["run", "recent"]
    feed.publish(over)
    late = reduce(apply, feed.read(Cursor())[0], RunState())
    assert (late.progress, late.recent) == (feed.state.progress, feed.state.recent) == (None, None)


def test_of_a_line_that_has_no_end_the_newest_state_is_told() -> None:
    """One for each source, however often it was redrawn; it is no line of the log yet."""
    feed = Feed()
    for source, text in (("rank 0", "1%"), ("rank 1", "1%"), ("rank 0", "2%")):
        feed.publish(OpenLine(source=source, text=text))
    events, cursor = feed.read(Cursor())
    assert sorted((event.source, event.text) for event in events if isinstance(event, OpenLine)) == [
        ("rank 0", "2%"),
        ("rank 1", "1%"),
    ]
    feed.publish(OpenLine(source="rank 1", text=""))
    assert feed.read(cursor)[0] == [OpenLine(source="rank 1", text="")]
    assert feed.log_tail(10) == []


def test_log_lines_beyond_the_ring_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that slept through a flood gets the newest lines and the number of those it missed."""
    monkeypatch.setattr(feed_module, "LOG_LINES", 5)
    feed = Feed()
    feed.publish(logs("0", "1"))
    reader = Reader(feed)
    reader.look()
    feed.publish(logs(*(str(number) for number in range(2, 20))))
    reader.look()
    assert (reader.lines, reader.dropped) == (["0", "1", "15", "16", "17", "18", "19"], 13)
    reader.look()
    assert reader.dropped == 13


def test_long_log_lines_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring is bounded in characters too: 20 000 of the longest lines would be half a gigabyte; what went is counted."""
    monkeypatch.setattr(feed_module, "LOG_CHARS", 1000)
    feed = Feed()
    for number in range(100):
        feed.publish(logs(f"{number:0400}", "short"))
    reader = Reader(feed)
    reader.look()
    assert [int(line) for line in reader.lines if line != "short"] == [98, 99]
    assert len(reader.lines) + reader.dropped == 200
    feed.publish(logs("x" * 2000))
    reader.look()
    assert (feed.log_tail(5), len(reader.lines) + reader.dropped) == ([], 201)


def test_lines_left_out_before_the_feed_are_told_once_to_everybody() -> None:
    """What the tail of a flooding rank has left out is part of what a reader was not shown."""
    feed = Feed()
    early, late = Reader(feed), Reader(feed)
    feed.publish(Logs(lines=logs("a").lines, dropped=7))
    early.look()
    feed.publish(logs("b"))
    early.look()
    late.look()
    assert (early.lines, early.dropped) == (late.lines, late.dropped) == (["a", "b"], 7)


def test_of_gauges_and_ranks_a_reader_gets_the_newest_only() -> None:
    """A slow reader is not sent a minute of old gauges, and nothing twice."""
    feed = Feed()
    for percent in (1.0, 2.0):
        feed.publish(gauges(percent))
        for number in (0, 1):
            feed.publish(RankStatus(rank=number, pid=1, doing=f"{percent}"))
    news, cursor = feed.read(Cursor())
    ranks = [event for event in news if isinstance(event, RankStatus)]
    assert [event.cores for event in news if isinstance(event, Gauges)] == [[2.0]]
    assert sorted((event.rank, event.doing) for event in ranks) == [(0, "2.0"), (1, "2.0")]
    feed.publish(gauges(3.0))
    assert feed.read(cursor)[0] == [gauges(3.0)]


def test_a_reader_moves_nobody_else() -> None:
    """Cursors are values: reading from an old one again gives the same."""
    feed = Feed()
    feed.publish(step(1))
    feed.publish(Phase(phase="running"))
    first, cursor = feed.read(Cursor())
    assert feed.read(Cursor()) == (first, cursor)


def test_listeners_are_woken_until_they_leave() -> None:
    """After every publish, once, and no more after leaving, even when that happens while being woken."""
    feed, woken = Feed(), []

    def once() -> None:
        woken.append("once")
        leave()

    leave = feed.listen(once)
    stay = feed.listen(lambda: woken.append("stays"))
    feed.publish(step(1))
    feed.publish(step(2))
    stay()
    feed.publish(step(3))
    assert woken == ["once", "stays", "stays"]


def test_the_newest_record_number_is_remembered() -> None:
    """The next session numbers its events after it, in whatever order they are published."""
    feed = Feed()
    for seq in (1, 7, 3):
        feed.publish(Phase(phase="running", seq=seq))
    assert feed.last_seq == 7


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_the_tail_of_the_log(count: int) -> None:
    """The newest lines, oldest first."""
    feed = Feed()
    feed.publish(logs("a", "b", "c"))
    assert [line[3] for line in feed.log_tail(count)] == ["a", "b", "c"][3 - min(3, count) :]


def test_a_rank_that_is_gone_is_told_to_nobody() -> None:
    """What ranks said last before they were ended must not come behind the news that they are gone."""
    feed = Feed()
    feed.publish(RankStatus(rank=0, pid=7, doing="ended"))
    feed.publish(Phase(phase="hibernated"))
    events, _ = feed.read(Cursor())
    assert [event.kind for event in events] == ["phase"]
    assert reduce(apply, events, RunState()).ranks == feed.state.ranks == {}


def test_a_late_reader_knows_that_the_ranks_have_ended() -> None:
    """What they said last, before the end of the run, must not come behind it as news."""
    feed = Feed()
    feed.publish(RankStatus(rank=0, pid=7, doing="training"))
    feed.publish(End(phase="finished", step=1, exit_code=0))
    late = reduce(apply, feed.read(Cursor())[0], RunState())
    assert late.ranks == feed.state.ranks
    assert late.ranks[0].doing == "ended"


def test_of_the_viewers_the_newest_list_is_told() -> None:
    """It is of the moment: no event of the run, and a late reader gets the last one only."""
    feed = Feed()
    for names in (["ana"], ["ana", "bob"]):
        feed.publish(Viewers(viewers=[{"actor": name, "door": "socket", "readonly": False, "since": 1.0} for name in names]))
    assert [viewer["actor"] for viewer in feed.state.viewers] == ["ana", "bob"]
    assert feed.events == []
    assert [event.viewers for event in feed.read(Cursor())[0] if isinstance(event, Viewers)] == [list(feed.state.viewers)]


def words(feed: Feed, after: int) -> list[str]:
    """What a reader is told that goes on behind a number, in short: "Alert 3", "1-3 @7" for steps up to number 7, "log a"."""
    said = []
    for event in feed.read(feed.after(after))[0]:
        if isinstance(event, Steps):
            numbers = event.column("step")
            branch = f"{event.branch}: " if event.branch else ""
            said.append(f"{branch}{numbers[0]:.0f}-{numbers[-1]:.0f} @{event.seq}")
        elif isinstance(event, Logs):
            said += [f"log {line[3]}" for line in event.lines] + ([f"dropped {event.dropped}"] if event.dropped else [])
        else:
            said.append(f"{type(event).__name__} {event.seq}")
    return said


def test_a_reader_goes_on_behind_a_number() -> None:
    """Of events, steps and log lines what came behind it; what is not recorded and was said since then; gauges in any case."""
    feed = NumberedFeed()
    feed.publish(logs("a"))
    for event in (Alert(topic="t", text="1"), step(1), step(2)):  # numbers 1, 2, 3
        feed.publish(event)
    feed.publish(logs("b"))
    feed.publish_unrecorded(Alert(topic="record", text="disk full"))
    for event in (step(3), Alert(topic="t", text="2"), gauges(1.0)):  # numbers 4 and 5
        feed.publish(event)
    feed.publish(logs("c"))
    everything = ["Alert 1", "Alert 0", "Alert 5", "1-3 @4", "log a", "log b", "log c", "Gauges 0"]
    assert words(feed, 0) == everything
    assert words(feed, 1) == ["Alert 0", "Alert 5", "1-3 @4", "log b", "log c", "Gauges 0"]
    assert words(feed, 3) == ["Alert 0", "Alert 5", "3-3 @4", "log b", "log c", "Gauges 0"]
    assert words(feed, 4) == ["Alert 0", "Alert 5", "log c", "Gauges 0"]
    assert words(feed, 5) == ["log c", "Gauges 0"]
    with pytest.raises(UsageError, match=r"after 6: the record of this run ends with number 5"):
        feed.after(6)


def test_a_branch_comes_again_only_where_its_rewind_is_news() -> None:
    """Whoever knows the rewind knows the branch; whoever does not gets all of it, also the steps that it saw on the line."""
    feed = NumberedFeed()
    for event in (step(1), step(2), step(3), rewind(1, 3), step(2), rewind(1, 2, id_="s"), step(2)):
        feed.publish(event)
    assert words(feed, 0) == ["CommandStatus 4", "CommandStatus 6", "1: 2-3 @0", "2: 2-2 @0", "1-2 @7"]
    assert words(feed, 2) == ["CommandStatus 4", "CommandStatus 6", "1: 2-3 @0", "2: 2-2 @0", "2-2 @7"]
    assert words(feed, 5) == ["CommandStatus 6", "2: 2-2 @0", "2-2 @7"]
    assert words(feed, 6) == ["2-2 @7"]


def test_log_lines_of_an_old_moment_come_as_far_as_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the ring has lost since then are counted, those that were lost before are not; the ring stays small."""
    monkeypatch.setattr(feed_module, "LOG_LINES", 5)
    feed = NumberedFeed()
    feed.publish(Logs(lines=[], dropped=3))
    for number in range(1, 41):
        feed.publish(Alert(topic="t", text=""))
        feed.publish(logs(str(number)))
    assert words(feed, 38)[2:] == ["log 38", "log 39", "log 40"]
    assert words(feed, 35)[5:] == ["log 36", "log 37", "log 38", "log 39", "log 40", "dropped 1"]
    assert words(feed, 0)[40:] == ["log 36", "log 37", "log 38", "log 39", "log 40", "dropped 38"]
    assert words(feed, 1)[39:44] == ["log 36", "log 37", "log 38", "log 39", "log 40"]
    assert len(feed._logs._seqs) <= 2 * 5


def test_a_reader_of_a_record_without_numbers_is_given_everything() -> None:
    """Steps that were never recorded come before every number: there is none to go on behind."""
    feed = Feed()
    feed.publish(step(1))
    assert words(feed, 0) == ["1-1 @0"]
    with pytest.raises(UsageError):
        feed.after(1)
