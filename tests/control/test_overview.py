"""Promises of `control.overview`: every run in short, by looks that read only what is new."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from plt_tui.control import overview
from plt_tui.control.folder import RunFolder
from plt_tui.control.overview import Overview, Overviews, Point, add_point, probed, sketch
from plt_tui.control.record import Recorder, read_overview
from plt_tui.errors import StorageError
from plt_tui.protocol.events import End, Event, Phase, Run, Step
from tests.another_user import shared_folder, without_rights
from tests.control.said import rewind


def step(number: int, loss: float = math.nan) -> Step:
    """A step whose loss is that of its number, if it is not told."""
    loss = 5.0 - number / 1000 if math.isnan(loss) else loss
    return Step(time=1e9 + number, step=number, loss=loss, lr=0.1, grad_norm=1.0, tokens=number, tokens_per_s=1.0, step_ms=1.0)


BEGIN: list[Event] = [
    Phase(time=1e9, phase="starting"),
    Run(time=1e9, name="a", dir="/a", world_size=1, params=1, target_step=10_000),
    Phase(time=1e9, phase="running"),
]
END = End(time=2e9, phase="finished", step=20, exit_code=0)


@contextmanager
def recorder(folder: RunFolder, last_seq: int = 0) -> Iterator[Recorder]:
    """Writes the record of a run that nobody holds."""
    with closing(Recorder(folder, last_seq, lambda problem: None)) as opened:
        yield opened


def make(runs: Path, name: str, events: list[Event]) -> RunFolder:
    """A run with this record."""
    folder = RunFolder(runs / name)
    folder.create("")
    write(folder, events)
    return folder


def write(folder: RunFolder, events: list[Event], last_seq: int = 0) -> None:
    """Add to the record of a run."""
    with recorder(folder, last_seq) as record:
        for event in events:
            record.record(event)


def by_name(found: Iterator[Overview]) -> dict[str, Overview]:
    """One look, all of it."""
    return {each.name: each for each in found}


def test_a_look_tells_every_run_and_the_next_only_what_changed(tmp_path: Path) -> None:
    """A run that stands still costs no reading; one that went on, one that is new and one that is gone are noticed."""
    made = [make(tmp_path, name, [*BEGIN, *map(step, range(1, 21)), END]) for name in ("a", "b")]
    for age, folder in enumerate(made):
        os.utime(folder.config, (1e9 - age, 1e9 - age))
    runs = Overviews(tmp_path)
    first = by_name(runs.look())
    assert runs.names == ("a", "b")
    assert [(each.state.phase, each.state.step, len(each.losses)) for each in first.values()] == [("finished", 20, 20)] * 2
    assert by_name(runs.look()) == {}
    write(made[1], [Phase(time=2e9, phase="starting"), step(21, 1.25)], last_seq=100)
    make(tmp_path, "c", BEGIN)
    second = by_name(runs.look())
    assert second.keys() == {"b", "c"}
    assert (second["b"].state.step, second["b"].losses[-1]) == (21, 1.25)
    for path in sorted(made[0].path.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    assert by_name(runs.look()) == {}
    assert set(runs.names) == {"b", "c"}


def test_the_first_look_names_all_runs_before_it_has_read_them(tmp_path: Path) -> None:
    """A list of hundreds is there at once, and fills."""
    for name in "abc":
        make(tmp_path, name, BEGIN)
    runs = Overviews(tmp_path)
    next(runs.look())
    assert set(runs.names) == {"a", "b", "c"}


def test_looks_piece_by_piece_give_the_state_that_one_reading_gives(tmp_path: Path) -> None:
    """Whatever is said, rewinds included, folding what is new leads to where folding all of it leads."""
    folder, runs = make(tmp_path, "a", BEGIN), Overviews(tmp_path)
    chunks: list[list[Event]] = [
        [step(number) for number in range(1, 31)],
        [rewind(10, 30), step(11, 2.0)],
        [step(12), End(time=2e9, phase="stopped", step=12, exit_code=143, reason="asked")],
        [Phase(time=2e9, phase="starting"), *BEGIN[1:2], step(1), step(2)],
    ]
    seq = len(BEGIN)
    for chunk in chunks:
        write(folder, chunk, seq)
        seq += len(chunk)
        (found,) = runs.look()
        whole = read_overview(folder)
        shown = found.state
        assert (shown.phase, shown.step, shown.last_step, shown.end, shown.branches, shown.reason) == (
            whole.phase,
            whole.step,
            whole.last_step,
            whole.end,
            whole.branches,
            whole.reason,
        )


def test_what_a_rewind_left_behind_is_not_in_the_sketch(tmp_path: Path) -> None:
    """The small curve is that of the line that the run is on, also before it has computed a step again."""
    folder = make(tmp_path, "a", [*BEGIN, *map(step, range(1, 31)), rewind(10, 30)])
    runs = Overviews(tmp_path)
    (found,) = runs.look()
    kept = [step(number).loss for number in range(1, 11)]
    assert found.losses[0] == kept[0]
    assert set(found.losses) <= set(kept)
    write(folder, [step(11, 9.0)], last_seq=100)
    (found,) = runs.look()
    assert found.losses[-2:] == (step(10).loss, 9.0)


def test_a_dead_run_is_never_told_as_live_and_one_that_is_held_never_as_dead(tmp_path: Path) -> None:
    """The lock decides, however the last line reads, and a change of it alone is a change."""
    folder, runs = make(tmp_path, "a", [*BEGIN, step(1)]), Overviews(tmp_path)
    (found,) = runs.look()
    assert (found.state.phase, "plt-tui run --resume auto --name a" in found.state.reason) == ("failed", True)
    lock = folder.lock()
    (found,) = runs.look()
    assert found.state.phase == "running"
    os.close(lock)
    (found,) = runs.look()
    assert found.state.phase == "failed"


def test_a_broken_record_is_told_and_hides_no_other(tmp_path: Path) -> None:
    """The run is there with the reason; it is read again once its files are others."""
    broken = make(tmp_path, "broken", BEGIN)
    make(tmp_path, "good", [*BEGIN, step(1), END])
    broken.journal.write_bytes(b"no json\n" + broken.journal.read_bytes())
    runs = Overviews(tmp_path)
    found = by_name(runs.look())
    assert found["broken"].state.phase == "failed"
    assert "its record cannot be read" in found["broken"].state.reason
    assert found["good"].state.phase == "finished"
    broken.journal.unlink()
    write(broken, [*BEGIN, END])
    assert by_name(runs.look())["broken"].state.phase == "finished"


def test_a_run_that_was_made_anew_under_its_name_is_read_from_the_start(tmp_path: Path) -> None:
    """What was known of the files before is forgotten, even when the new ones are longer."""
    folder, runs = make(tmp_path, "a", [*BEGIN, step(1), END]), Overviews(tmp_path)
    list(runs.look())
    folder.journal.rename(tmp_path / "old-journal")
    folder.metrics.rename(tmp_path / "old-metrics")
    write(folder, [*BEGIN, *(step(number, 1.0) for number in range(1, 9))])
    (found,) = runs.look()
    assert (found.state.step, found.losses) == (8, (1.0,) * 8)


def test_half_a_line_is_read_once_it_is_whole(tmp_path: Path) -> None:
    """A look may come while a line is being written."""
    folder, runs = make(tmp_path, "a", [*BEGIN, step(1)]), Overviews(tmp_path)
    write(folder, [step(2)], last_seq=100)
    whole = folder.metrics.read_bytes()
    folder.metrics.write_bytes(whole[:-40])
    (found,) = runs.look()
    assert found.state.step == 1
    with folder.metrics.open("ab") as file:
        file.write(whole[-40:])
    (found,) = runs.look()
    assert found.state.step == 2


def test_a_long_run_is_sketched_from_places_all_over_its_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning, which is not in the end that is read, is in the curve, and little of the file was read."""
    monkeypatch.setattr(overview, "PROBES", 16)
    make(tmp_path, "a", [*BEGIN, *map(step, range(1, 5001))])
    (found,) = Overviews(tmp_path).look()
    assert found.state.last_step is not None
    assert found.state.last_step.loss == step(5000).loss
    assert found.losses[0] == pytest.approx(5.0, abs=0.02)
    assert found.losses[-1] == pytest.approx(0.0, abs=0.02)
    steps = [(5.0 - loss) * 1000 for loss in found.losses]
    assert max(after - before for before, after in itertools.pairwise(steps)) < 5000 / 8


def test_places_of_a_file_are_whole_lines_of_steps(tmp_path: Path) -> None:
    """A probe falls anywhere; what it gives are steps of the file, each once and in order."""
    folder = make(tmp_path, "a", [*BEGIN, *map(step, range(1, 401))])
    size = folder.metrics.stat().st_size
    points = list(probed(folder.metrics, 0, size))
    assert points[0] == (1, step(1).loss)
    assert [number for number, _ in points] == sorted({number for number, _ in points})
    assert all(loss == step(number).loss for number, loss in points)
    assert list(probed(folder.metrics, 0, 0)) == []


def test_a_spike_survives_in_a_sketch_and_so_does_a_nan() -> None:
    """Of every stretch the extremes are kept; what is no number counts as worse than all."""
    points: list[Point] = [(number, 2.0) for number in range(1000)]
    points[500], points[700], points[900] = (500, 9.0), (700, math.nan), (900, 0.5)
    losses = sketch(points)
    assert len(losses) == 2 * overview.STRETCHES
    assert {9.0, 0.5} <= set(losses)
    assert any(math.isnan(loss) for loss in losses)
    assert sketch([]) == ()


def test_a_long_watch_keeps_a_bounded_number_of_points(tmp_path: Path) -> None:
    """However many steps go by under a list that stays open, memory does not grow, and the ends are right."""
    folder, runs = make(tmp_path, "a", BEGIN), Overviews(tmp_path)
    for start in range(1, 2001, 50):
        write(folder, [step(number) for number in range(start, start + 50)], last_seq=start + 10)
        (found,) = runs.look()
    (follower,) = runs._known.values()
    assert len(follower._points) <= 8 * overview.STRETCHES
    assert (found.losses[0], found.losses[-1]) == (step(1).loss, step(2000).loss)


def test_a_step_that_is_made_again_replaces_what_came_after() -> None:
    """A restart computes steps again; the curve never goes back."""
    points: list[Point] = []
    for number, loss in ((1, 3.0), (2, 2.0), (3, 1.0), (2, 2.5), (3, 1.5)):
        add_point(points, number, loss)
    assert points == [(1, 3.0), (2, 2.5), (3, 1.5)]


def test_no_folder_is_no_runs(tmp_path: Path) -> None:
    """Nothing has to be there yet."""
    runs = Overviews(tmp_path / "none")
    assert list(runs.look()) == []
    assert runs.names == ()


def test_a_run_that_is_closed_to_us_hides_no_other() -> None:
    """In a shared folder the runs of others are passed over, at the first look and later."""
    with shared_folder() as folder:
        for name in ("theirs", "ours"):
            make(folder, name, BEGIN)
        (folder / "theirs").chmod(0)
        runs = Overviews(folder)
        with without_rights():
            assert [found.name for found in runs.look()] == ["ours"]
            assert runs.names == ("ours",)


def test_a_folder_that_cannot_be_read_is_no_folder_without_runs(tmp_path: Path) -> None:
    """It is raised, and what was known stays known."""
    make(tmp_path / "runs", "a", BEGIN)
    runs = Overviews(tmp_path / "runs")
    list(runs.look())
    (tmp_path / "runs").rename(tmp_path / "moved")
    (tmp_path / "runs").write_text("")
    with pytest.raises(StorageError, match="runs cannot be read"):
        list(runs.look())
    assert runs.names == ("a",)
