"""Promises of a copy: an exporter gets everything once and in order, and the place never lies ahead of a flush."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from plt_tui.control.folder import RunFolder
from plt_tui.errors import UsageError
from plt_tui.exporters import copy as module
from plt_tui.exporters import tail
from plt_tui.exporters.base import Factory, RunFacts, goes_back, needs
from plt_tui.exporters.copy import Copy
from plt_tui.exporters.place import read_place, run_id
from plt_tui.protocol.events import Alert, End, Phase
from tests.exporters.records import (
    Memory,
    Remembered,
    new_folder,
    record,
    rewound,
    run_through,
    sample,
    scored,
    session,
    small_run,
    steps,
)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run folder without a record."""
    return new_folder(tmp_path / "a")


def copy_of(folder: RunFolder, factory: Factory, beat: Callable[[], None] = lambda: None) -> Copy:
    """A copy whose place and files lie in the run folder."""
    (folder.path / "exports").mkdir(exist_ok=True)
    path = folder.path / "exports" / "x.json"
    return Copy(factory, folder, path, directory=folder.path / "exports" / "x", project="p", beat=beat)


def all_of(folder: RunFolder, factory: Factory, *, finish: bool = True) -> Copy:
    """A copy of all that is recorded."""
    with contextlib.closing(copy_of(folder, factory)) as copy:
        run_through(copy)
        if finish:
            copy.finish()
        return copy


def kinds(calls: list[tuple[object, ...]]) -> list[object]:
    """What was called, rows as "row", events by their kind."""
    return [call[1] if call[0] == "event" else call[0] for call in calls]


def test_an_exporter_gets_everything_in_order(folder: RunFolder) -> None:
    """Opened first, closed last with the end, flushed before; what came before the session began comes too."""
    record(folder, small_run())
    memory = Memory()
    copy = all_of(folder, memory)
    (made,) = memory.made
    expected = ["open", "phase", "run", *["row"] * 5, "eval", "sample", *["row"] * 5, "eval", "close"]
    assert [kind for kind in kinds(made.calls) if kind != "flush"] == expected
    assert made.calls[0] == ("open", 0, True)
    assert made.calls[-1] == ("close", "finished")
    assert (made.target.name, made.target.project, made.target.kept) == ("a", "p", {})
    assert (copy.num_steps, copy.num_events) == (10, 5)


def test_nothing_new_opens_nothing(folder: RunFolder) -> None:
    """A copy of what was copied already."""
    record(folder, small_run())
    memory = Memory()
    all_of(folder, memory)
    assert all_of(folder, memory).num_steps == 0
    assert len(memory.made) == 1


def test_a_run_that_has_not_begun_to_train_opens_nothing(folder: RunFolder) -> None:
    """There is nothing to be told of it."""
    record(folder, [Phase(phase="starting"), End(phase="failed", step=0, exit_code=7)])
    memory = Memory()
    all_of(folder, memory)
    assert memory.made == []


def test_a_resumed_run_goes_on_behind_what_was_copied(folder: RunFolder) -> None:
    """The end that something follows is an event; the exporter is told that the run is known, and where it is."""
    record(folder, small_run())
    memory = Memory()
    all_of(folder, memory)
    record(folder, [Phase(phase="starting"), session(10), *steps(11, 12)])
    all_of(folder, memory)
    _, again = memory.made
    assert [kind for kind in kinds(again.calls) if kind != "flush"] == ["open", "phase", "run", "row", "row", "close"]
    assert again.calls[0] == ("open", 10, False)
    assert again.calls[-1] == ("close", None)
    assert memory.steps == list(range(1, 13))


def test_an_end_in_the_middle_is_an_event(folder: RunFolder) -> None:
    """All sessions are copied at once."""
    record(folder, [*small_run(), session(10), *steps(11, 12)])
    memory = Memory()
    all_of(folder, memory)
    (made,) = memory.made
    assert ("event", "end", 10) in made.calls
    assert made.calls[-1] == ("close", None)


def test_the_step_follows_rewinds_and_restarts(folder: RunFolder) -> None:
    """What a later start is told is the step of the line that the run is on."""
    record(folder, [session(), *steps(1, 8), rewound(8, 4)])
    memory = Memory()
    all_of(folder, memory)
    record(folder, [*steps(5, 9), session(6), *steps(7, 7)])
    all_of(folder, memory)
    record(folder, [sample(7)])
    all_of(folder, memory)
    assert [made.calls[0] for made in memory.made] == [("open", 0, True), ("open", 4, False), ("open", 7, False)]
    assert memory.steps == [*range(1, 9), *range(5, 10), 7]


class _Dies(Exception):
    """The process is gone."""


def test_what_no_flush_has_made_safe_comes_again(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exporter that dies at any call misses nothing at its next start, and gets nothing twice that it had flushed."""
    monkeypatch.setattr(tail, "BATCH_EVENTS", 3)
    record(folder, small_run())
    whole = Memory()
    all_of(folder, whole)
    num_calls = len(whole.made[0].calls)
    for fatal in range(num_calls):
        again = new_folder(folder.path.parent / f"run-{fatal}")
        events = record(again, small_run())
        memory, calls = Memory(), 0

        def beat() -> None:
            nonlocal calls
            calls += 1
            if calls > fatal:  # noqa: B023
                raise _Dies

        with contextlib.closing(copy_of(again, memory, beat)) as copy, contextlib.suppress(_Dies):
            run_through(copy)
        safe = [] if not memory.made else _flushed(memory.made[0])
        place = read_place(again.path / "exports" / "x.json", run_id(again))
        all_of(again, memory)
        assert [*safe, *memory.made[-1].steps] == list(range(1, 11))
        assert place.step == (safe[-1] if safe else 0)
        assert len(events) == 16


def _flushed(made: Remembered) -> list[object]:
    """The steps that came before the last flush."""
    flushes = [index for index, call in enumerate(made.calls) if call == ("flush",)]
    return [call[1] for call in made.calls[: flushes[-1]] if call[0] == "row"] if flushes else []


def test_flushes_are_rare(folder: RunFolder) -> None:
    """One at most in FLUSH_S, and none without news: each writes to the disk."""
    memory = Memory()
    record(folder, [session(), *steps(1, 3)])
    with contextlib.closing(copy_of(folder, memory)) as copy:
        copy.go_on(100.0, to_the_end=False)
        record(folder, steps(4, 5))
        copy.go_on(100.0 + module.FLUSH_S / 2, to_the_end=False)
        assert memory.made[0].calls.count(("flush",)) == 1
        copy.go_on(100.0 + module.FLUSH_S, to_the_end=False)
        copy.go_on(100.0 + 3 * module.FLUSH_S, to_the_end=False)
        assert memory.made[0].calls.count(("flush",)) == 2


def test_calls_are_short(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps come at most MAX_ROWS at once, with a sign of life between them."""
    monkeypatch.setattr(module, "MAX_ROWS", 4)
    record(folder, [session(), *steps(1, 10)])
    sizes: list[int] = []
    beats: list[int] = []

    class Sized(Remembered):
        def metrics(self, rows):
            sizes.append(len(rows))

    with contextlib.closing(copy_of(folder, Sized, lambda: beats.append(len(sizes)))) as copy:
        copy.go_on(0.0, to_the_end=True)
    assert sizes == [4, 4, 2]
    assert beats == [0, 0, 0, 1, 2]


def test_what_is_kept_comes_back_at_the_next_start(folder: RunFolder) -> None:
    """From `open` on, and with each flush; nothing that was kept behind the last flush."""
    record(folder, [session(), *steps(1, 3)])
    seen: list[dict[str, str]] = []

    class Keeps(Remembered):
        def open(self, run: RunFacts) -> None:
            seen.append(dict(self.target.kept))
            self.target.keep("id", "7")

        def metrics(self, rows):
            self.target.keep("rows", str(rows[-1].step))
            if rows[-1].step == 3 and len(seen) == 1:
                raise _Dies

    with contextlib.closing(copy_of(folder, Keeps)) as copy, pytest.raises(_Dies):
        copy.go_on(0.0, to_the_end=True)
    all_of(folder, Keeps)
    record(folder, steps(4, 4))
    all_of(folder, Keeps)
    assert seen == [{}, {"id": "7"}, {"id": "7", "rows": "3"}]


def test_other_events_come_as_they_are(folder: RunFolder) -> None:
    """Alerts and evaluations in their place among the steps."""
    record(folder, [session(), *steps(1, 1), scored(1), Alert(topic="disk", text="full"), *steps(2, 2)])
    memory = Memory()
    all_of(folder, memory)
    assert [kind for kind in kinds(memory.made[0].calls) if kind != "flush"][2:-1] == ["row", "eval", "alert", "row"]


def test_which_events_go_back() -> None:
    """Sessions and applied rewinds."""
    assert (goes_back(session(4)), goes_back(rewound(9, 3)), goes_back(scored(3))) == (4, 3, None)


def test_a_tool_that_is_not_there_is_a_usage_error() -> None:
    """With the way to install it; what a tool itself lacks is an error of its own."""
    assert needs("json", "x", "x").dumps([]) == "[]"
    with pytest.raises(UsageError, match=r"the exporter x needs a package that is not installed; pip install 'plt-tui\[y\]'"):
        needs("nothing_like_this.at_all", "x", "y")
