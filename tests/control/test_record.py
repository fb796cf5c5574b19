"""Promises of `control.record`: what was recorded is read back in order, over crashes, sessions and full disks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plt_tui.control import record as record_module
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import LineFile, Recorder, read_feed, read_journal, read_overview
from plt_tui.errors import StorageError
from plt_tui.protocol.events import (
    CaughtUp,
    Checkpoint,
    CommandStatus,
    End,
    Eval,
    Event,
    Failed,
    Gauges,
    Logs,
    Phase,
    Progress,
    RankStatus,
    Run,
    Sample,
    Step,
    Steps,
)
from plt_tui.protocol.framing import encode
from tests.control.said import rewind


def step(number: int) -> Step:
    """A step with a time and a loss of its own."""
    loss = 1.0 / (number or 1)
    return Step(step=number, time=1e9 + number, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def note(text: str) -> CommandStatus:
    """A remark: goes to the journal."""
    return CommandStatus(id=text, name="note", args={"text": text}, actor="tui", status="applied")


EVAL = Eval(step=1, loss=2.0, perplexity=7.4, bits_per_byte=2.9, accuracy=0.3)
RUN = Run(name="a", dir="/a", world_size=1, params=1, target_step=9)
FLEETING: list[Event] = [
    Progress(task="tokenising", done=1, total=2),
    RankStatus(rank=0, pid=1, doing="training"),
    Gauges(cores=[1.0], memory_used_bytes=1, memory_total_bytes=1, gpus=[]),
    Logs(lines=[]),
    Steps(count=0, columns={}),
    CaughtUp(),
]


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run's folder."""
    made = RunFolder(tmp_path / "a")
    made.create("")
    return made


@contextmanager
def recorder(folder: RunFolder, errors: list[str] | None = None, last_seq: int = 0) -> Iterator[Recorder]:
    """A recorder that is closed at the end; `errors` gets what it reports."""
    said = errors if errors is not None else []
    with closing(Recorder(folder, last_seq, said.append)) as opened:
        yield opened


def test_events_lie_where_they_belong(folder: RunFolder) -> None:
    """Steps and evaluations, samples, and everything that changes the run have a file each."""
    with recorder(folder) as opened:
        for event in (RUN, step(1), EVAL, Sample(step=1, prompt="a", text="b"), note("x"), Phase(phase="running")):
            opened.record(event)
    kinds = {
        path.name: [json.loads(line)["kind"] for line in path.read_text().splitlines()]
        for path in (folder.journal, folder.metrics, folder.samples)
    }
    assert kinds == {
        "journal.jsonl": ["run", "command", "phase"],
        "metrics.jsonl": ["step", "eval"],
        "samples.jsonl": ["sample"],
    }
    assert {path.stat().st_mode & 0o777 for path in (folder.journal, folder.metrics, folder.samples)} == {0o600}


@pytest.mark.parametrize("event", FLEETING)
def test_what_is_only_of_the_moment_is_not_recorded(folder: RunFolder, event: Event) -> None:
    """Gauges, ranks' words and log lines get no number and no line."""
    with recorder(folder) as opened:
        assert opened.record(event) is event
    assert folder.journal.read_bytes() + folder.metrics.read_bytes() + folder.samples.read_bytes() == b""


def test_the_journal_is_on_disk_when_record_returns(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of it is synced; metrics are synced when asked."""
    synced: list[int] = []
    monkeypatch.setattr(record_module.os, "fsync", synced.append)
    with recorder(folder) as opened:
        opened.record(note("x"))
        assert len(synced) == 1
        opened.record(step(1))
        assert len(synced) == 1
        opened.sync()
        assert len(synced) == 3


def test_numbers_go_on_over_sessions(folder: RunFolder) -> None:
    """The second session's first event has the next number, whichever file the last one is in."""
    for session in range(3):
        with recorder(folder, last_seq=read_feed(folder).last_seq) as opened:
            assert opened.record(note(str(session))).seq == 2 * session + 1
            assert opened.record(step(session + 1)).seq == 2 * session + 2
    assert [event.seq for event in read_journal(folder)] == [1, 3, 5]


RECORDED = st.lists(
    st.one_of(
        st.integers(1, 20).map(step),
        st.sampled_from([EVAL, RUN, Run(name="a", dir="/a", world_size=1, params=1, target_step=9, start_step=3)]),
        st.sampled_from([Sample(step=1, prompt="a", text="b"), Checkpoint(step=3, path="c"), note("x"), note("y")]),
        st.sampled_from([Phase(phase="paused"), Phase(phase="restarting"), End(phase="stopped", step=3, exit_code=143)]),
        st.just(Failed(rank=0, message="boom", exit_code=4)),
        st.integers(0, 15).map(rewind),
    ),
    max_size=40,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(said=RECORDED, cut=st.integers(0, 40))
def test_the_record_folds_to_the_state_that_the_hub_had(
    tmp_path_factory: pytest.TempPathFactory, said: list[Event], cut: int
) -> None:
    """Journal, metrics and samples merged give the live feed's state, events, history and branches, also over two sessions."""
    folder = RunFolder(tmp_path_factory.mktemp("run") / "a")
    folder.create("")
    live = Feed()
    for session in (said[:cut], said[cut:]):
        with recorder(folder, last_seq=read_feed(folder).last_seq) as opened:
            for event in session:
                live.publish(opened.record(event))
    read = read_feed(folder)
    assert read.state == live.state
    assert read.events == live.events
    assert read.history.columns == live.history.columns
    assert read.history.branches == live.history.branches
    assert read.last_seq == live.last_seq == len(said)


def test_no_step_of_a_live_run_is_read_without_the_edit_that_it_was_computed_under(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit and a step come while the journal is read: both or none are there, or a replay would find other bits."""
    read, values = record_module._read, {"name": "lr", "value": 0.5}
    edit = CommandStatus(id="s", name="set", args=values, actor="me", status="applied", step=2)
    with recorder(folder) as opened:
        for event in (RUN, step(1)):
            opened.record(event)

        def read_and_go_on(path: Path) -> Iterator[Event]:
            yield from read(path)
            if path == folder.journal:
                for event in (edit, step(2)):
                    opened.record(event)

        with monkeypatch.context() as patch:
            patch.setattr(record_module, "_read", read_and_go_on)
            feed = read_feed(folder)
        assert (list(feed.history.columns["step"]), feed.state.edits) == ([1], ())
        later = read_feed(folder)
    assert (list(later.history.columns["step"]), len(later.state.edits)) == ([1, 2], 1)


@pytest.mark.parametrize(
    "piece", [b"{", b'{"kind":"phase","phase":"runn', b"\x00" * 100, b"x" * 300_000], ids=["brace", "half", "zeros", "long"]
)
@pytest.mark.parametrize("lines", [0, 1, 3])
def test_a_line_torn_by_a_crash_is_cut_off(folder: RunFolder, lines: int, piece: bytes) -> None:
    """The next session appends whole lines to whole lines."""
    whole = b"".join(encode(note(str(number))) + b"\n" for number in range(lines))
    folder.journal.write_bytes(whole + piece)
    with recorder(folder) as opened:
        opened.record(note("next"))
    assert folder.journal.read_bytes().startswith(whole)
    names = [event.id for event in read_journal(folder) if isinstance(event, CommandStatus)]
    assert names == [str(number) for number in range(lines)] + ["next"]


def test_a_whole_file_is_left_as_it_is(folder: RunFolder) -> None:
    """Opening cuts nothing that ends with a newline."""
    folder.journal.write_bytes(encode(note("a")) + b"\n")
    with recorder(folder):
        pass
    assert folder.journal.read_bytes() == encode(note("a")) + b"\n"


def test_a_record_broken_in_the_middle_is_a_storage_error(folder: RunFolder) -> None:
    """The message has the path; nothing is silently left out."""
    folder.journal.write_bytes(encode(note("a")) + b"\n{broken\n" + encode(note("b")) + b"\n")
    with pytest.raises(StorageError, match=r"journal\.jsonl cannot be read"):
        read_journal(folder)
    with pytest.raises(StorageError, match=r"journal\.jsonl cannot be read"):
        read_feed(folder)


class FullDisk:
    """Stands for a file on a disk with `room` bytes left; what does not fit is written in part, then refused."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self.room = file, room

    def write(self, data: bytes) -> int:
        """Like the system call: a part, or ENOSPC when there is no room at all."""
        part = data[: self.room]
        if data and not part:
            raise OSError(28, "No space left on device")
        self.room -= len(part)
        return int(self._file.write(part))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def fill(opened: Recorder, *names: str, room: int = 10) -> list[FullDisk]:
    """Put the files called `names` on a full disk."""
    disks = []
    for name in names:
        file = getattr(opened, f"_{name}")
        file._file = FullDisk(file._file, room)
        disks.append(file._file)
    return disks


def test_a_full_disk_is_told_once_and_cleared_once(folder: RunFolder) -> None:
    """The run goes on, the person sees one alert, and it goes when lines are written again."""
    errors: list[str] = []
    with recorder(folder, errors) as opened:
        (disk,) = fill(opened, "journal")
        for number in range(3):
            assert opened.record(note(str(number))).seq == 0  # the caller learns that it is not on disk
        assert errors == ["No space left on device: the record is incomplete; free some space"]
        disk.room = 1 << 20
        opened.record(note("3"))
        opened.record(note("4"))
        assert errors[1:] == [""]
    assert [event.seq for event in read_journal(folder)] == [4, 5]


def test_a_file_that_can_be_written_does_not_hide_one_that_cannot(folder: RunFolder) -> None:
    """The alert stands until all files work, it does not flicker with every step."""
    errors: list[str] = []
    with recorder(folder, errors) as opened:
        journal, samples = fill(opened, "journal", "samples")
        for number in range(1, 4):
            opened.record(note(str(number)))
            opened.record(Sample(step=1, prompt="a", text="b"))
            opened.record(step(number))
        assert len(errors) == 1
        journal.room = 1 << 20
        opened.record(note("4"))
        assert len(errors) == 1
        samples.room = 1 << 20
        opened.record(Sample(step=1, prompt="a", text="b"))
        assert errors[1:] == [""]


def test_a_sync_that_fails_is_told(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint's metrics may not be on disk, and the person knows."""
    errors: list[str] = []
    with recorder(folder, errors) as opened:
        with monkeypatch.context() as broken:

            def fail(_: int) -> None:
                raise OSError(5, "Input/output error")

            broken.setattr(record_module.os, "fsync", fail)
            opened.sync()
        assert errors == ["Input/output error: metrics.jsonl is not on disk"]


LIMITED = """
import resource, sys
from pathlib import Path
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from plt_tui.protocol.events import CommandStatus
errors = []
recorder = Recorder(RunFolder(Path(sys.argv[1])), 0, errors.append)
for number in range(20):
    if number == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    if number == 15:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    recorder.record(CommandStatus(id=str(number), name="note", args={}, actor="tui", status="applied"))
recorder.close()
print(errors)
"""


def test_a_record_that_met_a_full_disk_can_be_read(folder: RunFolder) -> None:
    """By the real system calls: no piece of a line stays in the middle, where it would make the run unreadable for ever."""
    command = [sys.executable, "-c", LIMITED, str(folder.path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    assert "File too large: the record is incomplete" in out
    assert out.rstrip().endswith(", '']")
    seqs = [event.seq for event in read_journal(folder)]
    assert seqs[:5] == [1, 2, 3, 4, 5]
    assert seqs[-5:] == [16, 17, 18, 19, 20]
    assert len(seqs) < 20


def test_the_overview_has_the_journal_and_the_last_steps(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of runs does not read gigabytes of metrics."""
    monkeypatch.setattr(record_module, "TAIL_BYTES", 600)
    with recorder(folder) as opened:
        opened.record(RUN)
        for number in range(1, 101):
            opened.record(step(number))
        opened.record(End(phase="finished", step=100, exit_code=0))
    state = read_overview(folder)
    assert (state.run is not None, state.phase, state.step, state.last_step) == (
        True,
        "finished",
        100,
        read_feed(folder).state.last_step,
    )


@pytest.mark.parametrize("steps_after", [0, 100])
def test_the_overview_of_a_rewound_run_is_that_of_all_its_steps(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch, steps_after: int
) -> None:
    """It knows what each rewind left, although it read none of the steps before: the rewinds themselves say so."""
    monkeypatch.setattr(record_module, "TAIL_BYTES", 600)
    with recorder(folder) as opened:
        opened.record(RUN)
        at = 0
        for left, back in enumerate((90, 20, 20), start=1):
            for number in range(at + 1, 101):
                opened.record(step(number))
            opened.record(rewind(back, 100, id_=f"r{left}"))
            at = back
        for number in range(at + 1, at + 1 + steps_after):
            opened.record(step(number))
    overview, whole = read_overview(folder), read_feed(folder).state
    assert [(left.number, left.first, left.last) for left in whole.branches] == [(1, 91, 100), (2, 21, 100), (3, 21, 100)]
    assert overview.branches == whole.branches
    assert (overview.step, overview.last_step) == (whole.step, whole.last_step)
    assert overview.step == 20 + steps_after


def test_the_overview_says_that_a_run_has_crashed(folder: RunFolder) -> None:
    """Nobody holds it and it never said how it ended; while somebody holds it, it runs."""
    with recorder(folder) as opened:
        opened.record(RUN)
        opened.record(Phase(phase="running"))
        opened.record(step(7))
    state = read_overview(folder)
    assert (state.phase, state.step) == ("failed", 7)
    assert state.reason == "its hub is gone without a word; resume: plt-tui run --resume auto --name a"
    descriptor = folder.lock()
    assert read_overview(folder).phase == "running"
    os.close(descriptor)


@pytest.mark.parametrize("name", ["journal", "metrics"])
def test_an_overview_of_a_broken_record_is_a_storage_error(folder: RunFolder, name: str) -> None:
    """Whichever file is broken, the command line has a sentence and not a traceback."""
    path: Path = getattr(folder, name)
    path.write_bytes(b"{broken\n" + encode(step(1)) + b"\n")
    with pytest.raises(StorageError, match=f"{name}.jsonl cannot be read"):
        read_overview(folder)


def test_a_run_without_a_record_is_empty(folder: RunFolder) -> None:
    """A folder that was made and never trained in reads as nothing."""
    assert read_journal(folder) == []
    assert read_feed(folder).last_seq == 0


def test_a_line_file_appends_what_it_is_given(tmp_path: Path) -> None:
    """Each event is one line, also after the file was opened again."""
    for text in ("a", "b"):
        with closing(LineFile(tmp_path / "x.jsonl")) as file:
            file.write(note(text), sync=True)
    assert (tmp_path / "x.jsonl").read_bytes() == encode(note("a")) + b"\n" + encode(note("b")) + b"\n"
