"""Promises of `control.replay`: every step computed again is compared with its record, and the first difference named."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from plt_tui.config.edits import Edit
from plt_tui.config.schema import ControlSection, ParallelSection, RunConfig, TrainSection
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.placement import Placement
from plt_tui.control.replay import (
    Begin,
    Difference,
    Verdict,
    beginning,
    differing,
    placement_of,
    reasons,
    recorded_columns,
    replay,
)
from plt_tui.control.stretches import Line, Stretch
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.events import CommandStatus, Event, Run
from tests.control.fake_reruns import checkpoint, step_of

DEADLINE_S = 30.0
LINE_ENDS = 9


def run_of(start: int = 0, *, ranks: int = 2, device: str = "cpu", tokens: int = 0, **environment: Any) -> Run:
    """A session as it says itself."""
    return Run(
        name="a",
        dir="a",
        world_size=ranks,
        params=7,
        target_step=100,
        start_step=start,
        device=device,
        train_tokens=tokens,
        environment={"threads": 1, "torch": "2.0", **environment},
    )


def stretch(first: int, last: int, run: Run | None = None, config: RunConfig = RunConfig()) -> Stretch:  # noqa: B008  (frozen)
    """Steps of one session."""
    return Stretch(first=first, last=last, config=config, run=run or run_of())


def line(*pieces: Stretch, edits: Sequence[Edit] = (), weights: dict[int, str] | None = None) -> Line:
    """A line of these pieces; a whole one of LINE_ENDS steps when left out."""
    pieces = pieces or (stretch(1, LINE_ENDS),)
    last = pieces[-1].last
    return Line(
        stretches=pieces, edits=tuple(edits), last=last, weights={last: f"sha of {last}"} if weights is None else weights
    )


def record(last: int = LINE_ENDS, edits: Sequence[Edit] = (), **wrong: dict[int, float]) -> dict[str, list[float]]:
    """What the record holds of honest steps, with some values replaced."""
    steps = [
        step_of(number, 1.0 / number, [{"step": edit.step, "value": edit.value} for edit in edits])
        for number in range(1, last + 1)
    ]
    columns: dict[str, list[float]] = {
        name: [getattr(step, name) for step in steps] for name in ("step", "loss", "lr", "grad_norm")
    }
    for name, values in wrong.items():
        for step, value in values.items():
            columns[name][step - 1] = value
    return columns


def play(folder: Path, of: Line, recorded: dict[str, list[float]], entry: str = "computes", begin: Begin = Begin()) -> Verdict:  # noqa: B008
    """The verdict of a replay by ranks that play `entry`."""
    work = replay(of, recorded, begin, RunFolder(folder), entry=f"tests.control.fake_reruns:{entry}")
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def test_equal_bits_are_said_to_be_equal(tmp_path: Path) -> None:
    """Every step that the record holds was compared, and the weights."""
    verdict = play(tmp_path, line(), record())
    assert verdict == Verdict(first=1, last=9, num_recorded=9, weights_sha256="sha of 9")


def test_one_wrong_bit_names_its_step(tmp_path: Path) -> None:
    """With both values; no later step is computed."""
    verdict = play(tmp_path, line(), record(), "errs_at_7")
    assert verdict.difference == Difference(step=7, values={"loss": (1 / 7, 1 / 7 + 2.0**-55)})
    assert (verdict.last, verdict.num_recorded, verdict.weights_sha256) == (7, 7, "")


def test_a_lost_edit_is_seen_where_it_was_in_force(tmp_path: Path) -> None:
    """The rate of its first step differs."""
    edits = (Edit(id="x", step=4, name="lr", value=0.5),)
    assert play(tmp_path / "whole", line(edits=edits), record(edits=edits)).difference is None
    lost = play(tmp_path / "lost", line(), record(edits=edits))
    assert lost.difference == Difference(step=4, values={"lr": (0.5, 0.1)})


def test_other_weights_at_the_end_are_a_difference(tmp_path: Path) -> None:
    """Also when every loss is the same; an unknown hash is no difference, but is not claimed either."""
    verdict = play(tmp_path / "other", line(weights={9: "other"}), record())
    assert verdict.difference == Difference(step=9, values={"weights_sha256": ("other", "sha of 9")})
    unknown = play(tmp_path / "unknown", line(weights={5: "five"}), record())
    assert (unknown.difference, unknown.weights_sha256) == (None, "")


def test_steps_that_the_record_lost_are_counted_out(tmp_path: Path) -> None:
    """A disk that was full for a while costs the comparison of those steps only."""
    columns = record()
    holey = {name: values[:2] + values[5:] for name, values in columns.items()}
    verdict = play(tmp_path, line(), holey)
    assert (verdict.difference, verdict.last, verdict.num_recorded) == (None, 9, 6)


def test_every_stretch_goes_on_from_the_one_before(tmp_path: Path) -> None:
    """Each with its own ranks; the weights are compared where the record knows them."""
    pieces = (stretch(1, 4), stretch(5, 6, run_of(4, ranks=1)), stretch(7, 9, run_of(6)))
    assert play(tmp_path / "a", line(*pieces), record()).num_recorded == 9
    wrong = play(tmp_path / "b", line(*pieces, weights={4: "sha of 4", 6: "other"}), record())
    assert wrong.difference == Difference(step=6, values={"weights_sha256": ("other", "sha of 6")})


def test_a_replay_can_begin_with_a_checkpoint(tmp_path: Path) -> None:
    """What came before it is not computed; neither is a stretch that ends with it."""
    pieces = (stretch(1, 4), stretch(5, 9))
    begin = Begin(step=4, resume="/far/step-00000004")
    verdict = play(tmp_path, line(*pieces), record(loss={2: 99.0}), begin=begin)
    assert verdict == Verdict(first=5, last=9, num_recorded=5, weights_sha256="sha of 9")


def test_progress_is_counted_from_the_beginning(tmp_path: Path) -> None:
    """Steps done, of those to do."""
    told: list[tuple[int, int]] = []
    begin = Begin(step=6, resume="/far/step-00000006")
    entry = "tests.control.fake_reruns:computes"
    work = replay(line(), record(), begin, RunFolder(tmp_path), entry=entry, report=lambda *count: told.append(count))
    asyncio.run(asyncio.wait_for(work, DEADLINE_S))
    assert told == [(1, 3), (2, 3), (3, 3)]


NAN = math.nan
PAIRS: list[tuple[float, float, bool]] = [
    (0.1, 0.1, True),
    (0.1, math.nextafter(0.1, 1), False),
    (NAN, NAN, True),
    (NAN, 1.0, False),
    (0.0, -0.0, False),
]


@pytest.mark.parametrize(("then", "now", "is_same"), PAIRS)
def test_values_are_compared_by_their_bits(then: float, now: float, is_same: bool) -> None:
    """The last bit counts, the sign of a zero too; a number that is none is itself."""
    difference = differing(step_of(1, now), {"loss": then, "lr": 0.1, "grad_norm": 2.0})
    assert (difference is None) == is_same
    if difference is not None:
        assert repr(difference.values) == repr({"loss": (then, now)})


GPU = run_of(device="cuda:0")
REASONS: list[tuple[Run, Run, RunConfig, tuple[str, ...]]] = [
    (run_of(), run_of(), RunConfig(), ()),
    (run_of(), run_of(torch="2.1"), RunConfig(), ("torch was 2.0, is 2.1",)),
    (run_of(), run_of(commit="abc"), RunConfig(), ("commit was None, is abc",)),
    (run_of(threads=2, numpy="1"), run_of(), RunConfig(), ("threads was 2, is 1", "numpy was 1, is None")),
    (run_of(tokens=5), run_of(tokens=6), RunConfig(), ("tokens to train on: 5, now 6",)),
    (GPU, GPU, RunConfig(), ("train.deterministic is false, so a GPU adds in any order",)),
    (GPU, GPU, RunConfig(train=TrainSection(deterministic=True)), ()),
]


@pytest.mark.parametrize(("then", "now", "config", "expected"), REASONS)
def test_what_has_changed_is_named(then: Run, now: Run, config: RunConfig, expected: tuple[str, ...]) -> None:
    """Everything of the environment and the data that is not as it was, and a device that adds in any order."""
    assert reasons(stretch(1, 9, then, config), now) == expected


def test_the_reasons_come_with_the_difference(tmp_path: Path) -> None:
    """Those of the session that computed the step, not of the first."""
    pieces = (stretch(1, 4, run_of(torch="1.0")), stretch(5, 9, run_of(4, torch="1.9")))
    verdict = play(tmp_path, line(*pieces), record(), "errs_at_7")
    assert verdict.because == ("torch was 1.9, is 2.0",)


def test_ranks_are_placed_as_they_were() -> None:
    """As many, with as many threads, on the same kind of device; it is said when that is not there."""
    auto = RunConfig(parallel=ParallelSection(ranks=8, device="auto"))
    assert placement_of(stretch(1, 9, run_of(ranks=3, threads=5), auto), []) == Placement(devices=("cpu",) * 3, threads=5)
    assert placement_of(stretch(1, 9, run_of(device="cuda:0"), auto), [0, 1, 2]).devices == ("cuda:0", "cuda:1")
    one = RunConfig(parallel=ParallelSection(device="cuda:1"))
    assert placement_of(stretch(1, 9, run_of(ranks=1, device="cuda:1"), one), [0, 1]).devices == ("cuda:1",)
    with pytest.raises(UsageError, match="the usable GPUs are: none"):
        placement_of(stretch(1, 9, run_of(device="cuda:0"), auto), [])


def test_a_replay_begins_with_a_checkpoint_of_its_line(tmp_path: Path) -> None:
    """The newest at or before the wish whose weights are those of the line; else from the start."""
    folders = {step: checkpoint(tmp_path, step, f"sha of {step}") for step in (3, 6, 9)}
    own = line(weights={3: "sha of 3", 6: "sha of 6", 9: "sha of 9"})
    assert beginning(own, folders, 0) == Begin()
    assert beginning(own, folders, 2) == Begin()
    assert beginning(own, folders, 6) == Begin(step=6, resume=str(folders[6]))
    assert beginning(own, folders, 8) == Begin(step=6, resume=str(folders[6]))
    assert beginning(line(weights={3: "sha of 3", 6: "other"}), folders, 8) == Begin(step=3, resume=str(folders[3]))


def test_a_replay_that_cannot_begin_is_refused() -> None:
    """Behind the end of the record, or before its beginning."""
    with pytest.raises(UsageError, match="--from 9: the record ends with step 9"):
        beginning(line(), {}, 9)
    with pytest.raises(UsageError, match="begins with step 5; give --from"):
        beginning(line(stretch(5, 9)), {}, 0)


@pytest.mark.parametrize("last", [0, 4])
def test_a_record_without_steps_proves_nothing(tmp_path: Path, last: int) -> None:
    """Nothing compared is no success."""
    with pytest.raises(StorageError, match="no step after 4"):
        play(tmp_path, line(), record(last), begin=Begin(step=4, resume="/far/step-00000004"))


def fed(*events: Event | int) -> Feed:
    """A feed that was told these; a number stands for the next step, whose loss tells how many were told before it."""
    feed, told = Feed(), 0
    for event in events:
        told += isinstance(event, int)
        feed.publish(step_of(event, float(told)) if isinstance(event, int) else event)
    return feed


def rewind(to: int, before: int) -> CommandStatus:
    """An applied rewind."""
    return CommandStatus(
        id=f"r{to}", name="rewind", args={"step": to}, actor="ana", status="applied", step=to, before=before, after=to
    )


def test_the_steps_of_a_branch_are_those_it_was_left_with() -> None:
    """Also the ones before it that the run has computed anew since, and those that it still has in common with the run."""
    feed = fed(run_of(), 1, 2, 3, 4, 5, rewind(3, 5), 4, rewind(2, 4), 3, 4, 5, 6)
    lines = [recorded_columns(feed, branch) for branch in (0, 1, 2)]
    assert [list(columns["step"]) for columns in lines] == [[1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5], [1, 2, 3, 4]]
    assert [list(columns["loss"]) for columns in lines] == [[1, 2, 7, 8, 9, 10], [1, 2, 3, 4, 5], [1, 2, 3, 6]]


def test_a_branch_without_rows_borrows_none_of_the_run() -> None:
    """Steps that the run computed after it was left are not its own."""
    feed = fed(run_of(), 1, 2, replace(rewind(1, 4)), 2, 3, 4)
    feed.history.branches[1] = {name: values[:0] for name, values in feed.history.columns.items()}
    assert list(recorded_columns(feed, 1)["step"]) == [1]


@pytest.mark.parametrize(("begin", "doubts"), [(3, ["threads 1 -> 2"]), (4, [])])
def test_a_doubt_that_the_run_had_too_explains_nothing(tmp_path: Path, begin: int, doubts: list[str]) -> None:
    """A session that went on from this very checkpoint with something changed did so in the record as well."""
    pieces = (stretch(1, 4), stretch(5, 9, config=RunConfig(control=ControlSection(max_restarts=9))))
    begins = Begin(step=begin, resume=f"/far/step-{begin:08d}")
    verdict = play(tmp_path, line(*pieces), record(loss={7: 5.0}), "doubts_after_a_resume", begins)
    assert verdict.difference is not None
    assert [reason for reason in verdict.because if "threads" in reason] == doubts
