"""Promises of `control.record`: what was recorded is read back in order, over crashes, sessions and full disks."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plt_tui.control import record as record_module
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.line_file import LineFile
from plt_tui.control.record import Recorder, read_feed, read_journal, read_overview, read_since
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
    with recorder(folder) as opened:
        monkeypatch.setattr(record_module.os, "fsync", synced.append)
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
        self.asked: list[int] = []
        """Bytes of each write."""

    def write(self, data: bytes) -> int:
        """Like the system call: a part, or ENOSPC when there is no room at all."""
        self.asked.append(len(data))
        part = data[: self.room]
        if data and not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(part)
        return int(self._file.write(part))

    def truncate(self, size: int) -> int:
        """Gives back the room of what is cut off."""
        self.room += self._file.seek(0, os.SEEK_END) - size
        return int(self._file.truncate(size))

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


def seqs(path: Path) -> list[int]:
    """The numbers in a file, every line of which must be whole."""
    return [json.loads(line)["seq"] for line in path.read_text().splitlines()]


def test_a_full_disk_leaves_no_gap(folder: RunFolder) -> None:
    """What happens while nothing can be written waits, numbered, and is written in order before what comes after it."""
    with recorder(folder) as opened:
        opened.record(RUN)
        disks = fill(opened, "journal", "metrics", "samples")
        for number in range(1, 100):
            assert opened.record(step(number)).seq == 2 * number
            assert opened.record(note(str(number))).seq == 2 * number + 1
        assert seqs(folder.journal) == [1]
        assert seqs(folder.metrics) == []
        for disk in disks:
            disk.room = 1 << 20
        opened.record(RankStatus(rank=0, pid=1, doing="training"))  # another attempt, though it is not recorded itself
        assert seqs(folder.journal) == list(range(1, 200, 2))
        assert seqs(folder.metrics) == list(range(2, 200, 2))
    assert list(read_feed(folder).history.columns["step"]) == list(range(1, 100))


def test_a_full_disk_is_told_now_and_then_until_all_is_written(folder: RunFolder) -> None:
    """One alert stands all the time, says how much is missing and what to do, and goes with the last line."""
    errors: list[str] = []
    with recorder(folder, errors) as opened:
        disks = fill(opened, "journal", "metrics")
        for number in range(1, 1001):
            opened.record(step(number))
        remedy = f"No space left on device; free some space on {folder.path}"
        at_risk = "a kill of the hub loses what was told since step 0, checkpoints and edits too"
        assert errors[0] == f"1 line of the record in memory only: {remedy}; {at_risk}"
        assert errors[-1] == f"512 lines of the record in memory only: {remedy}; {at_risk}"
        assert len(errors) == 10  # at every doubling
        for disk in disks:
            disk.room = 400_000
        opened.record(step(1001))
        assert errors[10:] == [""]


def test_trying_again_is_cheap(folder: RunFolder) -> None:
    """With thousands of lines waiting and a disk that is still full, an event costs one write of one line."""
    with recorder(folder) as opened:
        (disk,) = fill(opened, "metrics", room=0)
        for number in range(1, 5001):
            opened.record(step(number))
        assert len(disk.asked) == 5000
        assert max(disk.asked) < 300
        disk.asked.clear()
        disk.room = 1 << 30
        opened.record(step(5001))
        assert len(disk.asked) < 20  # and when there is room, it is used in large pieces


def test_no_step_is_on_disk_without_the_edit_before_it(folder: RunFolder) -> None:
    """While the journal cannot be written, steps wait too: a hub that is killed then must not leave steps that no replay gives.

    The other way round the journal goes on: a person can still steer.
    """
    errors: list[str] = []
    with recorder(folder, errors) as opened:
        (journal,) = fill(opened, "journal")
        opened.record(note("edit"))
        opened.record(step(1))
        assert (seqs(folder.journal), seqs(folder.metrics)) == ([], [])
        journal.room = 1 << 20
        opened.record(step(2))
        assert (seqs(folder.journal), seqs(folder.metrics)) == ([1], [2, 3])
        (metrics,) = fill(opened, "metrics")
        opened.record(step(3))
        assert opened.record_now(note("wish")).seq == 5
        assert (seqs(folder.journal), seqs(folder.metrics)) == ([1, 5], [2, 3])
        assert errors[-1].startswith("1 line of the record in memory only")  # the journal does not hide the metrics
        metrics.room = 1 << 20
    assert seqs(folder.metrics) == [2, 3, 4]
    assert errors[-1] == ""


@pytest.mark.parametrize("failing", ["write", "fsync"])
def test_a_wish_that_cannot_be_written_now_never_is(folder: RunFolder, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """It is refused, its number goes to the next event, and no later line brings it back; also where only the sync fails."""
    errors: list[str] = []
    with recorder(folder, errors) as opened:
        opened.record(RUN)
        with monkeypatch.context() as broken:

            def fail(_: int) -> None:
                raise OSError(errno.EIO, "Input/output error")

            if failing == "fsync":
                broken.setattr(record_module.os, "fsync", fail)
            else:
                fill(opened, "journal")
            for _ in range(3):
                with pytest.raises(OSError, match=r"No space|Input/output"):
                    opened.record_now(note("wish"))
            assert len(errors) == 1
            assert errors[0].startswith("nothing can be recorded: ")
            assert opened.record(note("fact")).seq == 2  # it has happened, and waits
            with pytest.raises(OSError, match=r"No space|Input/output"):
                opened.record_now(note("wish"))
        opened._journal._file = getattr(opened._journal._file, "_file", opened._journal._file)
        assert opened.record_now(note("next")).seq == 3
        assert errors[-1] == ""
    names = [event.id for event in read_journal(folder) if isinstance(event, CommandStatus)]
    assert names == ["fact", "next"]
    assert seqs(folder.journal) == [1, 2, 3]


def test_a_piece_that_cannot_be_cut_off_is_cut_off_before_the_next_line(folder: RunFolder) -> None:
    """A disk that refuses even that: the next line never glues itself to the piece."""
    with recorder(folder) as opened:
        (disk,) = fill(opened, "metrics", room=50)

        def refuse(_: int) -> int:
            raise OSError(errno.EIO, "Input/output error")

        disk.truncate = refuse  # type: ignore[method-assign]
        opened.record(step(1))
        assert folder.metrics.stat().st_size == 50
        assert len(read_feed(folder).history) == 0  # a piece is no line
        del disk.truncate
        disk.room = 1 << 20
        opened.record(step(2))
        assert seqs(folder.metrics) == [1, 2]


def test_of_too_many_steps_the_oldest_are_lost_and_counted(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The memory is bounded; the journal is never given up; what was lost is said for good."""
    steps = [replace(step(number), loss=1.0) for number in range(1001, 1302)]  # all lines are as long as each other
    line = encode(replace(steps[0], seq=10_000)) + b"\n"
    monkeypatch.setattr(record_module, "MAX_WAITING_BYTES", 101 * len(line) - 1)
    errors: list[str] = []
    with recorder(folder, errors, last_seq=10_000) as opened:
        disks = fill(opened, "journal", "metrics")
        for event in steps[:300]:
            opened.record(event)
            opened.record(note(str(event.step)))
        assert errors[-1].startswith("156 lines lost, 356 lines of the record in memory only: No space left on device; ")
        for disk in disks:
            disk.room = 1 << 20
        opened.record(steps[300])
        assert errors[-1] == "201 lines of steps and samples lost while nothing could be written"
        assert len(opened._metrics.waiting) == 0
        disks[1].room = 0
        for event in steps[:100]:
            opened.record(event)
        assert len(opened._metrics.waiting) == 100  # what was written has made room
        disks[1].room = 1 << 20
    assert len(read_journal(folder)) == 300
    assert list(read_feed(folder).history.columns["step"]) == list(range(1001, 1101))


def test_samples_that_wait_for_a_disk_do_not_fill_the_memory(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bound is in bytes: a model may write a megabyte at a time."""
    monkeypatch.setattr(record_module, "MAX_WAITING_BYTES", 1 << 20)
    with recorder(folder) as opened:
        (disk,) = fill(opened, "samples")
        for number in range(40):
            opened.record(Sample(step=number, prompt="", text="x" * 100_000))
        waiting = opened._samples.waiting
        assert (len(waiting), opened._samples.num_lost) == (10, 30)
        assert sum(map(len, waiting)) <= 1 << 20
        disk.room = 2 << 20
    read = [json.loads(line)["step"] for line in folder.samples.read_text().splitlines()]
    assert read == list(range(30, 40))


def test_a_record_that_cannot_be_completed_is_said_at_the_end(folder: RunFolder, caplog: pytest.LogCaptureFixture) -> None:
    """In the log of the hub: there is nobody left to show an alert to."""
    opened = Recorder(folder, 0, lambda problem: None)
    fill(opened, "journal")
    opened.record(End(phase="finished", step=9, exit_code=0))
    opened.close()
    remedy = f"No space left on device; free some space on {folder.path}"
    assert caplog.messages == [f"lost with this process: 1 line of the record in memory only: {remedy}"]
    assert folder.journal.read_bytes() == b""


def test_the_end_finds_room_on_a_full_disk(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some is kept for it and the last steps from the start, and given up when the end comes, or the recorder closes."""
    errors: list[str] = []
    reserve, free = folder.path / ".reserve", RunFolder.free_reserve
    folder.keep_reserve()
    with recorder(folder, errors) as opened:
        disks = fill(opened, "journal", "metrics", "samples", room=0)

        def freed(of: RunFolder) -> None:
            disks[0].room += reserve.stat().st_size if reserve.exists() else 0
            disks[1].room = disks[0].room
            free(of)

        monkeypatch.setattr(RunFolder, "free_reserve", freed)
        for number in range(1, 51):
            opened.record(step(number))
        assert folder.metrics.read_text() == ""
        assert reserve.stat().st_size == 64 << 10
        opened.record(End(phase="failed", step=50, exit_code=5))
        assert not reserve.exists()
        assert [type(event) for event in read_journal(folder)] == [End]
        assert errors[-1] == ""
    assert list(read_feed(folder).history.columns["step"]) == list(range(1, 51))
    folder.keep_reserve()
    with recorder(folder):  # a session that ends without an end
        assert reserve.exists()
    assert not reserve.exists()


def test_a_record_that_cannot_be_opened_is_a_storage_error(folder: RunFolder) -> None:
    """A sentence with the file's trouble and what to do, and no file left open."""
    folder.samples.mkdir()
    with pytest.raises(StorageError, match=r"record of the run cannot be opened: Is a directory; make .* writable again"):
        Recorder(folder, 0, lambda problem: None)


def test_a_sync_that_failed_is_told_to_the_end(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint's metrics may not be on disk, and the person knows; that a later sync of the file works proves nothing."""
    errors: list[str] = []
    with closing(Recorder(folder, 0, errors.append, step=lambda: 7)) as opened:
        with monkeypatch.context() as broken:

            def fail(_: int) -> None:
                raise OSError(errno.EIO, "Input/output error")

            broken.setattr(record_module.os, "fsync", fail)
            opened.sync()
        cause = f"Input/output error; make {folder.path} writable again"
        lost = [f"a power cut may take lines of {name}.jsonl up to step 7: {cause}" for name in ("metrics", "samples")]
        assert errors == [lost[0], "; ".join(lost)]
        opened.record(step(1))
        opened.sync()
        (disk,) = fill(opened, "metrics")
        opened.record(step(2))
        disk.room = 1 << 20
        opened.record(step(3))
        assert errors[-1] == opened.problem == "; ".join(lost)  # what else was wrong comes and goes


def test_a_file_of_metrics_torn_anywhere_is_read_up_to_there(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every prefix of it: no exception, no wrong step, and the next session goes on behind exactly what was read."""
    monkeypatch.setattr(record_module.os, "fsync", lambda _: None)  # 600 sessions
    lines = [encode(replace(step(number), seq=number)) + b"\n" for number in range(1, 4)]
    whole = b"".join(lines)
    for size in range(len(whole) + 1):
        folder.metrics.write_bytes(whole[:size])
        num_whole = whole[:size].count(b"\n")
        read = read_feed(folder)
        assert list(read.history.columns["step"]) == list(range(1, num_whole + 1))
        assert read_overview(folder).step == num_whole
        with recorder(folder, last_seq=read.last_seq) as opened:
            opened.record(step(num_whole + 1))
        assert seqs(folder.metrics) == list(range(1, num_whole + 2))
        assert list(read_feed(folder).history.columns["step"]) == list(range(1, num_whole + 2))


PLAY = """
import sys
from pathlib import Path
from plt_tui.control.folder import RunFolder
from plt_tui.control.record import Recorder
from tests.control.test_record import note, step
errors = []
recorder = Recorder(RunFolder(Path(sys.argv[1])), 0, errors.append)
refused = 0
for number in range(1, 301):
    if number == 50:
        take()
    if number == 250:
        give()
    recorder.record(step(number))
    recorder.record(note(str(number)))
    try:
        recorder.record_now(note(f"wish {number}"))
    except OSError:
        refused += 1
recorder.close()
print(refused, errors)
"""

LIMITED = """
import resource
def take():
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, resource.RLIM_INFINITY))
def give():
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""

FILLED = """
import os
def take():
    with open(os.path.join(sys.argv[1], "ballast"), "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
def give():
    os.unlink(os.path.join(sys.argv[1], "ballast"))
"""


def check_that_nothing_is_lost(folder: RunFolder, out: str, cause: str) -> None:
    """All steps and facts are there in order; of the wishes those, and only those, that were not refused."""
    refused, errors = out.split(" ", 1)
    assert cause in errors
    assert errors.rstrip().endswith(", '']")
    assert 150 < int(refused) <= 200
    feed = read_feed(folder)
    assert list(feed.history.columns["step"]) == list(range(1, 301))
    ids = [event.id for event in feed.events if isinstance(event, CommandStatus)]
    assert [text for text in ids if "wish" not in text] == [str(number) for number in range(1, 301)]
    assert len(ids) == 600 - int(refused)
    assert sorted(seqs(folder.journal) + seqs(folder.metrics)) == list(range(1, 901 - int(refused)))
    assert seqs(folder.journal) == sorted(seqs(folder.journal))


def test_a_record_that_met_a_limit_on_its_files_has_no_gap(folder: RunFolder) -> None:
    """By the real system calls: files that cannot grow for a while lose nothing, and no piece of a line stays in them."""
    command = [sys.executable, "-c", LIMITED + PLAY, str(folder.path)]
    out = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
    check_that_nothing_is_lost(folder, out, "File too large; raise the limit on the size of files (ulimit -f)")


def test_a_record_that_met_a_full_disk_has_no_gap(folder: RunFolder) -> None:
    """The same on a real disk of 1 MB, where this user may mount one."""
    script = 'mount -t tmpfs -o size=1m none "$1" && mkdir "$1/logs" && "$2" -c "$3" "$1" && cat "$1"/*.jsonl >&2'
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a disk of their own; a limit on the size of files is tried in any case")
    command = [*unshare, "sh", "-c", script, "sh", str(folder.path), sys.executable, FILLED + PLAY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    steps, facts = [], []
    for line in done.stderr.splitlines(keepends=True):  # the disk is gone with its process
        (steps if '"kind":"step"' in line else facts).append(line)
    folder.metrics.write_text("".join(steps))
    folder.journal.write_text("".join(facts))
    check_that_nothing_is_lost(folder, done.stdout, "No space left on device; free some space on")


def test_what_was_recorded_since_is_read_in_order(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all three files; of many steps the last ones."""
    sample = Sample(step=2, prompt="a", text="b")
    with closing(Recorder(folder, 0, pytest.fail)) as recorder:
        events = [recorder.record(event) for event in [RUN, step(1), note("x"), step(2), sample, note("y"), step(3), EVAL]]
    assert read_since(folder, 0) == events
    assert read_since(folder, 2) == events[2:]
    assert read_since(folder, 8) == []
    last_lines = folder.metrics.read_bytes().splitlines(keepends=True)[-2:]
    monkeypatch.setattr(record_module, "TAIL_BYTES", sum(map(len, last_lines)) + 10)
    assert read_since(folder, 2) == [event for event in events[2:] if event is not events[3]]


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
    overview = read_overview(folder)
    assert (overview.phase, overview.reason.partition(";")[0]) == ("failed", "it has never begun")


def test_a_line_file_appends_what_it_is_given(tmp_path: Path) -> None:
    """Line after line, also after the file was opened again."""
    for line in (b"a\n", b"b\n"):
        with closing(LineFile(tmp_path / "x.jsonl")) as file:
            file.put(line)
            file.flush()
    assert (tmp_path / "x.jsonl").read_bytes() == b"a\nb\n"
