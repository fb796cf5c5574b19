"""Promises of the tail of a record: everything once and in order, wherever reading begins again, whatever befell the disk."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plt_tui.control.folder import RunFolder
from plt_tui.errors import StorageError
from plt_tui.exporters import tail as module
from plt_tui.exporters.tail import Marks, RecordTail
from plt_tui.protocol.events import Event, Phase
from plt_tui.protocol.framing import encode
from tests.exporters.records import appended, new_folder, record, sample, scored, session, small_run, step, steps


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without a record."""
    return new_folder(tmp_path / "a")


def read(
    folder: RunFolder, marks: Marks | None = None, *, at: float = 0.0, to_the_end: bool = False
) -> tuple[list[Event], Marks]:
    """All that a new tail gives at one moment, and how far it came."""
    with contextlib.closing(RecordTail(folder, marks)) as tail:
        found: list[Event] = []
        while batch := tail.read(at, to_the_end=to_the_end):
            found += batch
        return found, tail.marks()


def test_everything_comes_in_the_order_in_which_it_was_recorded(folder: RunFolder) -> None:
    """Of three files one sequence, with its numbers."""
    events = record(folder, small_run())
    assert read(folder)[0] == events
    assert [event.seq for event in events] == list(range(1, len(events) + 1))


def test_nothing_is_there_before_the_first_line(folder: RunFolder) -> None:
    """The files need not exist; they may appear later."""
    with contextlib.closing(RecordTail(folder)) as tail:
        assert (tail.read(0.0), tail.marks()) == ([], {})
        events = record(folder, [session(), *steps(1, 3), sample(3)])
        assert tail.read(0.0) == events


def test_what_grows_is_followed(folder: RunFolder) -> None:
    """Each read gives what is new."""
    with contextlib.closing(RecordTail(folder)) as tail:
        for more in ([session()], steps(1, 3), [scored(3), sample(3)], steps(4, 9)):
            events = record(folder, more)
            assert tail.read(0.0) == events
        assert tail.read(0.0) == []


def test_a_long_record_comes_in_parts(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read gives more than BATCH_EVENTS, and lines are put together however they are cut when they are read."""
    monkeypatch.setattr(module, "BATCH_EVENTS", 7)
    monkeypatch.setattr(module, "READ_BYTES", 100)
    events = record(folder, [session(), *steps(1, 30), scored(30), *steps(31, 40)])
    with contextlib.closing(RecordTail(folder)) as tail:
        parts = list(iter(lambda: tail.read(0.0), []))
    assert [event for part in parts for event in part] == events
    assert max(map(len, parts)) == 7


def test_a_line_without_its_end_is_none_yet(folder: RunFolder) -> None:
    """It comes once it is whole."""
    events = record(folder, [session(), *steps(1, 3)])
    last = encode(events[-1])
    content = folder.metrics.read_bytes()
    folder.metrics.write_bytes(content[:-20])
    with contextlib.closing(RecordTail(folder)) as tail:
        assert tail.read(0.0) == events[:-1]
        folder.metrics.write_bytes(content)
        assert content.endswith(last + b"\n")
        assert tail.read(0.0) == events[-1:]


@settings(max_examples=40)
@given(split=st.integers(0, 60), again=st.integers(0, 60))
def test_reading_begins_again_behind_any_mark(tmp_path_factory: pytest.TempPathFactory, split: int, again: int) -> None:
    """However often, and wherever: the parts together are the whole."""
    folder = new_folder(tmp_path_factory.mktemp("runs") / "a")
    events = record(folder, [*small_run(), session(10), *steps(11, 30), sample(30), scored(30), *steps(31, 40)])
    places = sorted({min(split, len(events)), min(again, len(events))})
    found: list[Event] = []
    marks: Marks = {}
    with pytest.MonkeyPatch.context() as patch:
        for begin, stop in zip([0, *places], [*places, len(events)], strict=True):
            patch.setattr(module, "BATCH_EVENTS", stop - begin)
            with contextlib.closing(RecordTail(folder, marks)) as tail:
                found += tail.read(0.0) if stop > begin else []
                marks = tail.marks()
    assert found == events


def test_a_missing_number_is_waited_for_and_then_passed(folder: RunFolder) -> None:
    """A step that waits for a full disk holds up what follows for GAP_S; when it comes late it still comes, once."""
    events = record(folder, [session(), *steps(1, 2), Phase(phase="paused"), Phase(phase="running")])
    whole = folder.metrics.read_bytes()
    folder.metrics.write_bytes(b"".join(whole.splitlines(keepends=True)[:1]))
    with contextlib.closing(RecordTail(folder)) as tail:
        assert tail.read(10.0) == events[:2]
        assert tail.read(10.0 + module.GAP_S - 0.01) == []
        assert tail.read(10.0 + module.GAP_S) == events[3:]
        folder.metrics.write_bytes(whole)
        assert tail.read(20.0) == events[2:3]
        marks = tail.marks()
    assert read(folder, marks)[0] == []


def test_nothing_is_waited_for_once_nobody_writes(folder: RunFolder) -> None:
    """What was lost is lost."""
    events = record(folder, [session(), *steps(1, 2), Phase(phase="paused")])
    folder.metrics.unlink()
    assert read(folder, to_the_end=True)[0] == [events[0], events[-1]]


def test_a_write_that_was_taken_back_is_read_once(folder: RunFolder) -> None:
    """The hub cuts what a full disk took in part, and writes it again; what had been read already does not come twice."""
    events = record(folder, [session(), *steps(1, 3)])
    late = [encode(step(number)).replace(b'"seq":0', b'"seq":%d' % (number + 1)) + b"\n" for number in (4, 5)]
    with contextlib.closing(RecordTail(folder)) as tail:
        assert tail.read(0.0) == events
        with appended(folder.metrics, late[0] + late[1][:30]):
            assert [event.seq for event in tail.read(0.0)] == [5]
        assert tail.read(0.0) == []
        with appended(folder.metrics, late[0] + late[1]):
            assert [event.seq for event in tail.read(0.0)] == [6]


def test_numbers_that_were_given_again_are_other_events(folder: RunFolder) -> None:
    """The machine lost its power, and with it the end of the metrics: the next session's events bear numbers already seen."""
    record(folder, [session(), *steps(1, 8)])
    marks = read(folder)[1]
    folder.metrics.write_bytes(b"".join(folder.metrics.read_bytes().splitlines(keepends=True)[:4]))
    later = [session(4), *(step(number, 9.0) for number in range(5, 12))]
    again = record(folder, [replace(event, time=event.time + 1000) for event in later])
    assert [event.seq for event in again][:2] == [6, 7]
    assert read(folder, marks)[0] == again


def test_a_broken_line_is_named(folder: RunFolder) -> None:
    """With its file, and what to do."""
    record(folder, [session(), *steps(1, 3)])
    with folder.metrics.open("ab") as file:
        file.write(b"{broken\n")
    with pytest.raises(StorageError, match=r"metrics\.jsonl: broken before byte \d+ .*move the file away"):
        read(folder)
