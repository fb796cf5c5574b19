"""What is taken out of a view: a CSV that loses no bit, and lines for the clipboard."""

import csv
import dataclasses
import io
import math

import fakes
import pytest

from plt_tui.protocol.events import STEP_COLUMNS, CommandStatus, Eval, Event, Step, Steps
from plt_tui.views.export import CSV_HEAD, MAX_COPY_BYTES, SCORES, clipped, csv_pieces, step_line, summary_line
from plt_tui.views.model import RunModel


def model_of(*events: Event) -> RunModel:
    """A model that has heard `events`."""
    model = RunModel()
    for event in events:
        model.fold(event)
    return model


def rows_of(model: RunModel) -> list[dict[str, str]]:
    """The CSV as a reader sees it."""
    return list(csv.DictReader(io.StringIO("".join(csv_pieces(model)))))


def test_every_number_reads_back_to_the_same_bits() -> None:
    """All columns of all steps, and the scores in the row of their step."""
    model = model_of(*fakes.training(250))
    rows = rows_of(model)
    assert [int(row["step"]) for row in rows] == list(range(1, 251))
    for name in STEP_COLUMNS:
        assert [float(row[name]) for row in rows] == list(model.steps.columns[name])
    scored = {int(row["step"]): row for row in rows if row["eval_loss"]}
    assert list(scored) == [scores.step for scores in model.evals] == [100, 200]
    for scores in model.evals:
        assert [float(scored[scores.step][f"eval_{name}"]) for name in SCORES] == [getattr(scores, name) for name in SCORES]
    assert {row["branch"] for row in rows} == {"0"}


def test_nan_and_infinity_are_numbers_too() -> None:
    """As every reader of CSV spells them."""
    step = fakes.steps(1, 1)[0]
    assert isinstance(step, Step)
    (row,) = rows_of(model_of(dataclasses.replace(step, loss=math.nan, grad_norm=math.inf)))
    assert (row["loss"], row["grad_norm"]) == ("nan", "inf")
    assert math.isnan(float(row["loss"]))


def test_an_evaluation_without_a_step_has_a_row_of_its_own() -> None:
    """Before the first step, and after the last one; in the order of steps."""
    scores = Eval(time=5.0, step=0, loss=5.5, perplexity=244.7, bits_per_byte=7.9, accuracy=0.01)
    model = model_of(scores, *fakes.steps(1, 2), dataclasses.replace(scores, step=9))
    rows = rows_of(model)
    assert [row["step"] for row in rows] == ["0", "1", "2", "9"]
    assert [row["eval_loss"] for row in rows] == ["5.5", "", "", "5.5"]
    assert [row["loss"] == "" for row in rows] == [True, False, False, True]


def test_branches_are_told_apart() -> None:
    """What a rewind left stands behind the line that the run is on, under the number of its branch."""
    model = model_of(*fakes.steps(1, 3))
    columns = {name: values[:2] for name, values in model.steps.columns.items()}
    model.fold(dataclasses.replace(Steps.from_columns(columns, 0, 2), branch=1))
    assert [(row["branch"], row["step"]) for row in rows_of(model)] == [
        ("0", "1"),
        ("0", "2"),
        ("0", "3"),
        ("1", "1"),
        ("1", "2"),
    ]


def test_the_evaluations_of_a_branch_are_in_its_rows() -> None:
    """Those that a rewind took from the line."""
    model = model_of(*fakes.steps(1, 200))
    branch = dataclasses.replace(Steps.from_columns(model.steps.columns, 150, 200), branch=1)
    back = {"id": "r", "name": "rewind", "args": {"step": 150}, "actor": "x", "status": "applied", "step": 150, "before": 200}
    for event in (branch, CommandStatus(**back)):
        model.fold(event)
    assert [(row["branch"], row["step"]) for row in rows_of(model) if row["eval_loss"]] == [("0", "100"), ("1", "200")]


def test_what_comes_meanwhile_is_not_in_it() -> None:
    """The pieces are made in another thread while the run goes on: they are of the moment when they were asked for."""
    model = model_of(*fakes.steps(1, 3))
    pieces = csv_pieces(model)
    for event in fakes.steps(2, 6, seed=3):
        model.fold(event)
    text = "".join(pieces)
    assert [line.split(",")[1] for line in text.splitlines()] == ["step", "1", "2", "3"]


def test_a_run_without_steps_has_a_head() -> None:
    """A file with the names of the columns, not an empty one."""
    assert "".join(csv_pieces(RunModel())) == ",".join(CSV_HEAD) + "\n"


def test_a_step_in_a_line_is_exact() -> None:
    """Names and values as scripts read them; nothing where there is no such step."""
    model = model_of(*fakes.training(250))
    line = step_line("quickstart", model.steps, model.evals, 200)
    values = dict(part.split("=") for part in line.removeprefix("quickstart step 200: ").split())
    assert float(values["loss"]) == model.steps.columns["loss"][199]
    assert float(values["eval_loss"]) == model.evals[-1].loss
    assert "eval_loss" not in step_line("quickstart", model.steps, model.evals, 199)
    assert step_line("quickstart", model.steps, model.evals, 251) == ""
    assert step_line("quickstart", RunModel().steps, [], 1) == ""


def test_a_run_in_a_line() -> None:
    """State, progress and newest values; of a run that is over its own time; and of one that has not begun what there is."""
    running = summary_line("quickstart", model_of(*fakes.training()).state, fakes.at(600) + 30)
    assert running == "quickstart: running, step 600 of 1,000, loss 1.755, eval loss 1.787, 13k tokens/s, after 2m 00s"
    finished = summary_line("quickstart", model_of(*fakes.finished()).state, fakes.at(10**6))
    assert finished.startswith("quickstart: finished, step 1,000 of 1,000, loss ")
    assert finished.endswith(", after 2m 30s")
    assert "tokens/s" not in finished
    assert summary_line("new", RunModel().state, 0.0) == "new: starting, step 0"


@pytest.mark.parametrize("text", ["x", "ä" * MAX_COPY_BYTES, "漢" * 30_000, "a" * MAX_COPY_BYTES + "b"])
def test_a_text_for_the_clipboard_is_cut_between_characters(text: str) -> None:
    """A terminal drops what is longer, and half a character is none."""
    short = clipped(text)
    assert text.startswith(short)
    assert len(short.encode()) <= MAX_COPY_BYTES
    assert short == text or len(short.encode()) > MAX_COPY_BYTES - 4
