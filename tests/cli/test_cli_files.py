"""Promises of `cli.files`: what a view asks of a run's files, on records as hubs leave them."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from functools import reduce
from pathlib import Path

import pytest

from plt_tui.cli import files as files_module
from plt_tui.cli.attach import source_of
from plt_tui.cli.files import recorded_logs, run_files
from plt_tui.config.load import to_toml
from plt_tui.control.folder import RunFolder, RunInfo
from plt_tui.control.record import Recorder
from plt_tui.control.state import RunState, apply
from plt_tui.errors import DataError, UsageError
from plt_tui.protocol.events import CaughtUp, End, Event, Logs, Phase, Run, Step, Steps
from plt_tui.views.files import GaveUp
from tests.cli.conftest import TEXT, TINY, config_of

CONFIG_SETS = ('data.train=["small.txt", "capital.txt"]', *TINY, "train.steps=12")
END = End(phase="finished", step=4, exit_code=0)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder and cache with two corpora, one of which would clear the screen."""
    monkeypatch.setenv("PLT_TUI_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.txt").write_text(f"\x1b[2J{TEXT.lower()}", encoding="utf-8")
    (tmp_path / "capital.txt").write_text(TEXT.upper(), encoding="utf-8")
    return tmp_path


def step(number: int) -> Step:
    """A step."""
    return Step(time=1e9, step=number, loss=1.0, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


def recorded(folder: Path, *events: Event) -> tuple[RunFolder, list[Event]]:
    """A run with a record, and the events with their numbers."""
    config = config_of(*CONFIG_SETS)
    run = RunFolder(folder / "runs" / "a")
    run.create(to_toml(config))
    session = Run(
        time=1e9, name="a", dir="/a", world_size=2, params=1, target_step=12, config=config.model_dump(mode="json"), edits=[]
    )
    with closing(Recorder(run, 0, pytest.fail)) as recorder:
        return run, [recorder.record(event) for event in (session, *events)]


def test_a_live_run_has_no_last_words(own_folder: Path) -> None:
    """Somebody holds it."""
    run, _ = recorded(own_folder, step(1))
    lock = run.lock()
    assert run_files(run).last_words(RunState(), 0, True) is None
    os.close(lock)
    assert run_files(run).last_words(RunState(), 0, True) is not None


def test_the_last_words_are_what_was_not_heard_and_the_crash(own_folder: Path) -> None:
    """With the hub's own log, which nobody else tells."""
    run, events = recorded(own_folder, step(1), Phase(phase="running"), step(2))
    (run.logs / "hub.log").write_text("Traceback\nOSError: gone\n")
    heard = reduce(apply, events[:2], RunState())
    words = run_files(run).last_words(heard, events[1].seq, True)
    assert words is not None
    *missed, logs, crash = words
    assert missed == events[2:]
    assert isinstance(logs, Logs)
    assert [line[1:] for line in logs.lines] == [["hub", "INFO", "Traceback"], ["hub", "INFO", "OSError: gone"]]
    assert isinstance(crash, Phase)
    assert crash.phase == "failed"
    assert crash.reason.startswith("its hub is gone without a word; resume: plt-tui run --resume auto --name a")


def test_an_end_that_was_recorded_is_no_crash(own_folder: Path) -> None:
    """The hub could not say it any more."""
    run, events = recorded(own_folder, step(1), END)
    heard = reduce(apply, events[:2], RunState())
    assert run_files(run).last_words(heard, events[1].seq, True) == [events[2]]


def test_who_has_not_heard_all_history_gets_every_step(own_folder: Path) -> None:
    """A block of steps comes as a whole, also where some of it was heard; what came before its last number comes once."""
    run, events = recorded(own_folder, step(1), step(2), Phase(phase="running"), replace(END, step=2))
    words = run_files(run).last_words(apply(RunState(), events[0]), events[0].seq, False)
    assert words is not None
    assert [type(event) for event in words] == [Phase, End, Steps]
    state = reduce(apply, words, apply(RunState(), events[0]))
    assert (state.step, state.phase) == (2, "finished")


async def test_the_logs_of_a_run_that_has_ended_come_with_its_record(own_folder: Path) -> None:
    """All files, by time, before the mark that ends the history."""
    run, _ = recorded(own_folder, step(1), END)
    (run.logs / "rank-0.log").write_text("2026-01-02T03:04:05 INFO one\n2026-01-02T03:04:08 INFO three\n")
    (run.logs / "rank-1.log").write_text("2026-01-02T03:04:07 WARNING two\n")
    source = await source_of(run, "test", readonly=True)
    *_, logs, mark = [event async for event in source.events()]
    assert isinstance(mark, CaughtUp)
    assert isinstance(logs, Logs)
    assert [line[1:] for line in logs.lines] == [
        ["rank 0", "INFO", "one"],
        ["rank 1", "WARNING", "two"],
        ["rank 0", "INFO", "three"],
    ]
    assert logs == recorded_logs(run)


async def test_a_hub_that_dies_before_it_is_reached_leaves_its_record(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It held the run when we looked, and nobody listens on its socket."""
    run, _ = recorded(own_folder, step(1))
    info = RunInfo(name="a", host="here", pid=1, boot_id="", socket=str(own_folder / "gone.sock"), phase="running")
    run.write_info(info)
    held = iter([True])
    monkeypatch.setattr(RunFolder, "is_live", lambda _: next(held, False))
    source = await source_of(run, "test", readonly=False)
    state = reduce(apply, [event async for event in source.events()], RunState())
    assert (state.phase, state.step) == ("failed", 1)


def test_the_texts_of_a_step_are_harmless_and_counted(own_folder: Path) -> None:
    """As `show --batch` has them, with the corpus where there are several."""
    run, _ = recorded(own_folder, *(step(number) for number in range(1, 5)), END)
    heard: list[str] = []
    found = [run_files(run).texts(number, 0, heard.append) for number in range(1, 5)]
    rows = [row for texts in found for row in texts.sequences]
    assert [len(texts.sequences) for texts in found] == [8] * 4
    assert {row.rank for row in rows} == {0, 1}
    assert {row.num_tokens for row in rows} == {17}
    assert {row.corpus for row in rows} == {"small.txt", "capital.txt"}
    assert any(row.text.isupper() for row in rows)
    assert not any("\x1b" in row.text for row in rows)
    assert any(words.startswith("tokenising") for words in heard)


@pytest.mark.parametrize(
    ("number", "branch", "said"), [(9, 0, "step 9: this run has steps 1 to 4"), (1, 3, "branch 3: a has no")]
)
def test_what_there_is_not_is_refused(own_folder: Path, number: int, branch: int, said: str) -> None:
    """In words that do for a dialog as for a command line."""
    run, _ = recorded(own_folder, *(step(one) for one in range(1, 5)), END)
    with pytest.raises(UsageError, match=said):
        run_files(run).texts(number, branch, lambda _: None)


def test_texts_of_a_corpus_that_has_changed_are_not_shown(own_folder: Path) -> None:
    """Others than the run's would be a lie."""
    run, events = recorded(own_folder, *(step(one) for one in range(1, 5)))
    first = events[0]
    assert isinstance(first, Run)
    with closing(Recorder(run, events[-1].seq, pytest.fail)) as recorder:
        recorder.record(replace(first, start_step=4, environment={"data": "other"}))
        recorder.record(step(5))
        recorder.record(replace(END, step=5))
    with pytest.raises(DataError, match="changed since a trained on it"):
        run_files(run).texts(5, 0, lambda _: None)


def test_reading_ends_when_nobody_waits(own_folder: Path) -> None:
    """Not after the whole corpus is prepared."""

    def tell(words: str) -> None:
        raise GaveUp

    run, _ = recorded(own_folder, step(1), END)
    with pytest.raises(GaveUp):
        run_files(run).texts(1, 0, tell)


async def test_lines_that_a_view_is_not_given_are_counted(own_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a search that finds nothing would say that there is nothing."""
    run, _ = recorded(own_folder, step(1), END)
    (run.logs / "rank-0.log").write_text("".join(f"2026-01-02T03:04:05 INFO {number}\n" for number in range(30)))
    (run.logs / "rank-1.log").write_text("2026-01-02T03:04:06 INFO one\n")
    assert recorded_logs(run).dropped == 0
    monkeypatch.setattr(files_module, "LOG_LINES", 10)
    logs = recorded_logs(run)
    assert (len(logs.lines), logs.dropped) == (11, 20)
