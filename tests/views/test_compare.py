"""Runs side by side, as values: what differs, from which step on, and the last numbers."""

from __future__ import annotations

import json
import math
import random
import struct
from array import array

import pytest
import stories

from plt_tui.config.schema import RunConfig
from plt_tui.views import compare
from plt_tui.views.compare import (
    Line,
    Meeting,
    Meetings,
    comparison,
    differing,
    flat,
    last_values,
    lines_of,
    meeting,
    sections,
    table,
)
from plt_tui.views.model import RunModel, StepTable


def steps(*rows: tuple[int, float]) -> StepTable:
    """A table of which only steps and losses matter."""
    made = StepTable()
    for name, values in made.columns.items():
        values.extend(array("d", [{"step": step, "loss": loss}.get(name, 0.0) for step, loss in rows]))
    return made


def model_of(first: int, last: int, loss: float = 4.0) -> RunModel:
    """A run without an end."""
    model = RunModel()
    for event in [stories.session(0), *stories.steps(first, last, loss), stories.evaluation(last, 3.0)]:
        model.fold(event)
    return model


NEXT_UP = math.nextafter(2.0, 3.0)
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8000000000001))[0]


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [
        ([(1, 3.0), (2, 2.0)], [(1, 3.0), (2, 2.0)], Meeting(num_alike=2, differs_at=None)),
        ([(1, 3.0), (2, 2.0)], [(1, 3.0), (2, NEXT_UP)], Meeting(num_alike=1, differs_at=2)),
        ([(1, 3.0)], [(1, 2.0)], Meeting(num_alike=0, differs_at=1)),
        ([(1, 3.0), (2, 2.0), (3, 1.0)], [(1, 3.0)], Meeting(num_alike=1, differs_at=None)),
        ([(1, 3.0), (2, 2.0), (3, 1.0)], [(2, 2.0), (3, 0.0)], Meeting(num_alike=1, differs_at=3)),
        ([(1, 3.0), (3, 1.0), (5, 1.0)], [(2, 3.0), (3, 1.0), (4, 9.0), (5, 2.0)], Meeting(num_alike=1, differs_at=5)),
        ([(1, 3.0)], [(2, 3.0)], Meeting(num_alike=0, differs_at=None)),
        ([], [(1, 3.0)], Meeting(num_alike=0, differs_at=None)),
        ([(1, math.nan)], [(1, math.nan)], Meeting(num_alike=1, differs_at=None)),
        ([(1, math.nan)], [(1, OTHER_NAN)], Meeting(num_alike=0, differs_at=1)),
        ([(1, 0.0)], [(1, -0.0)], Meeting(num_alike=0, differs_at=1)),
    ],
)
def test_lines_differ_from_the_first_common_step_whose_bits_do(
    one: list[tuple[int, float]], other: list[tuple[int, float]], met: Meeting
) -> None:
    """Only steps that both have count, and only bits, either way round."""
    assert meeting(steps(*one), steps(*other)) == met
    assert meeting(steps(*other), steps(*one)) == met


def test_the_first_difference_is_found_wherever_chunks_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing many rows at once, or as they come, gives what comparing them one by one gives."""
    monkeypatch.setattr(compare, "CHUNK_ROWS", 4)
    rng = random.Random(7)
    for _ in range(200):
        rows = [{step: float(rng.choice((1, 2))) for step in range(1, 30) if rng.random() < 0.9} for _ in range(2)]
        if rng.random() < 0.7:
            rows[1].update({step: rows[0][step] for step in rows[0].keys() & rows[1].keys() if step < rng.randrange(30)})
        common = sorted(rows[0].keys() & rows[1].keys())
        differs_at = next((step for step in common if rows[0][step] != rows[1][step]), None)
        alike = [step for step in common if differs_at is None or step < differs_at]
        tables = [steps(*sorted(each.items())) for each in rows]
        assert meeting(*tables) == Meeting(num_alike=len(alike), differs_at=differs_at)
        grown, meetings = (StepTable(), StepTable()), Meetings()
        for row in range(30):  # one of them grows faster
            for part, whole, num_rows in zip(grown, tables, (1, 2), strict=True):
                for name, values in part.columns.items():
                    values.extend(whole.columns[name][row * num_rows : (row + 1) * num_rows])
            meetings.of(*grown)
        assert meetings.of(*grown) == Meeting(num_alike=len(alike), differs_at=differs_at)


def test_only_what_differs_is_told_of_configurations() -> None:
    """By dotted key, in the schema's order, without the name that every run has of its own."""
    base = RunConfig()
    other = base.model_copy(
        update={
            "run": base.run.model_copy(update={"name": "b", "seed": 1}),
            "optim": base.optim.model_copy(update={"lr": 0.5, "betas": (0.8, 0.9)}),
        }
    )
    assert differing([flat(base), flat(other), flat(base)]) == {
        "run.seed": (1337, 1, 1337),
        "optim.lr": (base.optim.lr, 0.5, base.optim.lr),
        "optim.betas": (base.optim.betas, (0.8, 0.9), base.optim.betas),
    }
    assert differing([flat(base), flat(None)])["optim.lr"] == (base.optim.lr, None)
    assert differing([flat(base)]) == {}


def test_the_last_values_of_a_line_are_exact() -> None:
    """Not rounded, and of the run that they belong to."""
    (line,) = lines_of([("a", flat(RunConfig()), model_of(1, 20))])
    values = last_values(line)
    assert (values["state"], values["step"], values["target_step"], values["loss"]) == ("starting", 20, 60, 4.0 - 0.01 * 20)
    assert (values["eval_loss"], values["best_eval_step"], values["tokens"]) == (3.0, 20, 20 * 2048)
    assert values["seconds"] == stories.at(20) - stories.at(0)


def test_a_line_without_a_step_has_no_numbers_and_breaks_nothing() -> None:
    """A run that has just begun, or never did, can stand beside others."""
    lines = lines_of([("a", flat(RunConfig()), model_of(1, 20)), ("b", {}, RunModel())])
    assert last_values(lines[1])["loss"] is None
    assert comparison(lines)["first_difference"]["b"] == {"from": "a", "alike_steps": 0, "step": None}
    assert "–" in table(lines)


def test_a_run_alone_is_compared_with_its_branches() -> None:
    """Each branch is a line with its own steps, its losses differ from the run's at its first step, edits are its own."""
    _, model = stories.recorded(stories.story())
    lines = lines_of([("big", flat(RunConfig()), model)])
    assert [(line.name, line.branch is None) for line in lines] == [("big", True), ("branch 1", False)]
    branch = last_values(lines[1])
    assert (branch["state"], branch["step"], branch["loss"]) == ("left behind", 30, 7.0 - 0.01 * 30)
    assert comparison(lines)["first_difference"] == {"branch 1": {"from": "big", "alike_steps": 10, "step": 21}}
    assert lines_of([("a", {}, model), ("b", {}, model)])[1].branch is None


def test_a_branch_has_the_evaluations_that_were_made_on_it() -> None:
    """Its newest and its best one are in the numbers, beside those of the line that took its place."""
    steps_and_scores = [*stories.steps(1, 10), stories.evaluation(10, 3.5), *stories.steps(11, 30), stories.evaluation(20, 3.1)]
    again = [*stories.steps(11, 40), stories.evaluation(40, 2.0)]
    back = stories.command("rewind", 10, args={"step": 10}, before=30, after=10, time=stories.at(30))
    worse = stories.evaluation(30, math.nan)
    _, model = stories.recorded([stories.session(0), *steps_and_scores, worse, *back, *again])
    main, branch = lines_of([("big", {}, model)])
    assert [scores.step for scores in main.evals] == [10, 40]
    assert [scores.step for scores in branch.evals] == [20, 30]
    values = last_values(branch)
    assert math.isnan(values["eval_loss"])
    assert (values["best_eval_loss"], values["best_eval_step"]) == (3.1, 20)
    assert dict(_rows(main, branch))["best eval loss"] == ("2.000 @40", "3.100 @20")


def _rows(*lines: Line) -> list[tuple[str, tuple[str, ...]]]:
    return [row for section in sections(lines) for row in section.rows]


def test_a_meeting_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that were compared are not looked at again as lines grow; a line that was cut is compared anew."""
    looked_at: list[int] = []
    chunk = compare._chunk
    monkeypatch.setattr(compare, "_chunk", lambda table, start: looked_at.append(start) or chunk(table, start))
    one, other, meetings = model_of(1, 20).steps, model_of(1, 20).steps, Meetings()
    assert meetings.of(one, other) == Meeting(num_alike=20, differs_at=None)
    for line in (one, other):
        for event in stories.steps(21, 25):
            line.append(event)  # type: ignore[arg-type]  # a story's steps are Steps
    looked_at.clear()
    assert meetings.of(one, other) == Meeting(num_alike=25, differs_at=None)
    assert meetings.of(one, other) == Meeting(num_alike=25, differs_at=None)
    assert looked_at == [20, 20]
    for event in stories.steps(21, 25, loss=9.0):
        other.append(event)  # type: ignore[arg-type]  # as above
    assert meetings.of(one, other) == Meeting(num_alike=20, differs_at=21)
    looked_at.clear()
    assert meetings.of(one, other) == Meeting(num_alike=20, differs_at=21)
    assert looked_at == []


def test_the_comparison_is_json() -> None:
    """Built-in values only, whatever was configured."""
    lines = lines_of([("a", flat(RunConfig()), model_of(1, 20)), ("b", flat(RunConfig()), model_of(1, 30, loss=5.0))])
    told = json.loads(json.dumps(comparison(lines)))
    assert told["names"] == ["a", "b"]
    assert told["first_difference"]["b"] == {"from": "a", "alike_steps": 0, "step": 1}
    assert told["last"]["b"]["step"] == 30
    assert told["config"] == {}


def test_the_table_has_a_column_for_each_line_and_no_row_that_says_nothing() -> None:
    """Names above, numbers below each other; parts and rows without content are left out."""
    lines = lines_of([("a", flat(RunConfig()), model_of(1, 20)), ("bee", flat(RunConfig()), model_of(1, 30, loss=5.0))])
    text = table(lines)
    head, *rows = text.splitlines()
    assert head.split() == ["a", "bee"]
    assert head.index("bee") == next(row for row in rows if row.startswith("loss ")).index("4.700")
    assert next(row for row in rows if row.startswith("loss differs at")).split()[-2:] == ["step", "1"]
    assert "configuration" not in text.lower()
    assert "restarts" not in text
    assert [section.title for section in sections(lines[:1])] == ["numbers"]


def test_hostile_values_of_a_configuration_are_made_harmless() -> None:
    """A config file may come from anybody."""
    base = RunConfig()
    hostile = base.model_copy(update={"sample": base.sample.model_copy(update={"prompt": "\x1b[2J\nx\u202e"})})
    text = table(lines_of([("a", flat(base), RunModel()), ("b", flat(hostile), RunModel())]))
    assert "\\x1b[2J\\nx\\u202e" in text
    assert "\x1b" not in text
