"""plt_tui.views.tui.curves: copies of a run's columns that cost what is new, and its branches on every axis."""

from __future__ import annotations

from dataclasses import replace

import fakes
import numpy as np
import pytest
import scenes

from plt_tui.protocol.events import Event, Step
from plt_tui.views.model import RunModel
from plt_tui.views.tui import curves as curves_module
from plt_tui.views.tui.chart.lane import AXES, BY_STEP, Track
from plt_tui.views.tui.curves import LineCopy, RunCurves
from plt_tui.views.tui.metrics import METRICS

BY_ID = {metric.id: metric for metric in METRICS}


def folded(events: list[Event], model: RunModel | None = None) -> RunModel:
    """A model of these events."""
    model = model or RunModel()
    for event in events:
        model.fold(event)
    return model


def test_a_copy_follows_growth_and_cuts() -> None:
    """However steps come and go, the series holds what the table holds, and stays the same series."""
    model = folded([*fakes.opening(), *fakes.steps(1, 120)])
    copy = LineCopy(model.steps)
    series = copy.series("loss")
    for events in (fakes.steps(121, 150), scenes.rewind("r", 90, 150), fakes.steps(91, 130, seed=4)):
        folded(events, model)
        assert copy.series("loss") is series
        assert series.x.tolist() == list(model.steps.columns["step"])
        assert series.y.tolist() == list(model.steps.columns["loss"])
        lane = copy.lane(AXES["tokens"])
        assert lane.place(series.x).tolist() == list(model.steps.columns["tokens"])


def test_only_what_is_new_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step more costs one row, and a metric that nobody asked for costs nothing."""
    model = folded([*fakes.opening(), *fakes.steps(1, 200)])
    copied: list[int] = []
    values = LineCopy._values
    monkeypatch.setattr(
        curves_module.LineCopy,
        "_values",
        lambda self, column, rows: copied.append(rows.stop - rows.start) or values(self, column, rows),
    )
    found = RunCurves()
    found.axis = AXES["wall"]
    found.take(model)
    found.of(BY_ID["grad_norm"])
    assert sum(copied) == 200 * (2 * 2 + 4)  # loss for the axis and the metric, each with its steps, and the lane
    copied.clear()
    folded(fakes.steps(201, 201), model)
    found.take(model)
    found.of(BY_ID["grad_norm"])
    assert sum(copied) == 8


def test_a_metric_has_its_line_its_scores_and_its_branches() -> None:
    """Branches come first, so that they lie below; scores of evaluations are dots; a score alone needs no name."""
    found = RunCurves()
    found.take(folded(scenes.rewound()))
    loss, anchors = found.of(BY_ID["loss"])
    assert [(curve.name, curve.style, curve.left_behind) for curve in loss] == [
        ("branch 1", "line", True),
        ("train", "line", False),
        ("eval", "dots", False),
    ]
    accuracy, others = found.of(BY_ID["accuracy"])
    assert [(curve.name, curve.style) for curve in accuracy] == [("", "dots")]
    assert accuracy[0].series.x.tolist() == [100, 200, 300, 400, 500, 600]
    assert anchors == others
    assert [curve.series.x[-1] for curve in anchors] == [600, 600]


def test_a_schedule_is_not_smoothed() -> None:
    """The learning rate has no noise that smoothing could take away, only edges that it would hide."""
    found = RunCurves()
    found.take(folded([*fakes.opening(), *fakes.steps(1, 9)]))
    assert [[curve.smooth for curve in found.of(BY_ID[name])[0]] for name in ("lr", "grad_norm")] == [[False], [True]]


def test_a_branch_lies_where_it_was_trained() -> None:
    """On the wall axis before the line that took its place, in active time and tokens beside it."""
    model = folded(scenes.rewound())
    found = RunCurves()
    ends: dict[str, tuple[float, float, float]] = {}
    for name in ("tokens", "wall", "active"):
        found.axis = AXES[name]
        found.take(model)
        branch, train, _ = found.of(BY_ID["loss"])[0]
        first = np.array([float(scenes.BACK_AT + 1)])
        ends[name] = (
            float(branch.lane.place(first)[0]),
            float(branch.lane.place(np.array([float(scenes.SPIKED_AT)]))[0]),
            float(train.lane.place(first)[0]),
        )
    assert ends["tokens"][0] == ends["tokens"][2]
    assert ends["wall"][0] < ends["wall"][1] < ends["wall"][2]
    assert ends["active"][0] == pytest.approx(ends["active"][2], abs=0.01)


def test_the_line_is_broken_where_the_run_was_rewound_or_held_but_not_where_it_evaluated() -> None:
    """What an evaluation took is known; all other idle time is a gap."""
    late: list[Event] = []
    for event in fakes.training(300):
        held = (event.time > fakes.at(100)) * 30.0 + (event.time > fakes.at(200)) * 40.0 if isinstance(event, Step) else 0.0
        late.append(replace(event, time=event.time + held) if event.time else event)
    for event in late:
        if event.kind == "eval" and getattr(event, "step", 0) == 100:
            late[late.index(event)] = replace(event, seconds=29.5)  # type: ignore[call-arg]
            break
    found = RunCurves()
    found.axis = AXES["wall"]
    found.take(folded(late))
    (lane,) = {curve.lane for curve in found.of(BY_ID["lr"])[0]}
    assert lane.breaks.tolist() == [201]


def test_on_the_axis_of_steps_there_is_nothing_to_compute() -> None:
    """The usual case keeps no positions."""
    found = RunCurves()
    found.take(folded([*fakes.opening(), *fakes.steps(1, 9)]))
    assert all(curve.lane is BY_STEP for curve in found.of(BY_ID["loss"])[0])


def test_a_lane_grows_in_place() -> None:
    """A new step is no reason for new curves."""
    model = folded([*fakes.opening(), *fakes.steps(1, 9)])
    copy = LineCopy(model.steps)
    lane = copy.lane(AXES["wall"])
    folded(fakes.steps(10, 12), model)
    assert copy.lane(AXES["wall"]) is lane
    assert isinstance(lane, Track)
    assert len(lane) == 12


def test_a_branch_keeps_its_evaluations() -> None:
    """As faint dots beside its line, on the charts of their scores too; a look more makes no new series."""
    model, found = folded(scenes.left_with_evaluations()), RunCurves()
    found.take(model)
    loss, _ = found.of(BY_ID["loss"])
    assert [(curve.name, curve.style, curve.left_behind) for curve in loss][:2] == [
        ("branch 1", "line", True),
        ("branch 1 eval", "dots", True),
    ]
    assert loss[1].series.x.tolist() == [300, 400]
    assert loss[1].series.y.tolist() == [scores.loss for scores in model.branch_evals[1]]
    accuracy, _ = found.of(BY_ID["accuracy"])
    assert [(curve.left_behind, len(curve.series)) for curve in accuracy] == [(True, 2), (False, 6)]
    found.take(model)
    assert found.of(BY_ID["loss"])[0] == loss
    assert len(found.of(BY_ID["lr"])[0]) == 2
