"""plt_tui.views.tui.marks: from mark to mark, and what is told of the one pointed at."""

from __future__ import annotations

from dataclasses import replace

import fakes
import pytest
import scenes

from plt_tui.protocol.events import Checkpoint, CommandStatus, Event, Spike
from plt_tui.views.model import RunModel
from plt_tui.views.tui.chart.scene import Mark
from plt_tui.views.tui.marks import MAX_MARKS, marks, next_mark, point_words, pointed_branch, pointed_moment

MARKS = [Mark(step, "C", "", "foreground") for step in (400, 200, 200, 600)]


def folded(events: list[Event]) -> RunModel:
    """A model of these events."""
    model = RunModel()
    for event in events:
        model.fold(event)
    return model


@pytest.mark.parametrize(
    ("pointed", "direction", "step"),
    [
        (None, -1, 600),
        (None, 1, 200),
        (600, -1, 400),
        (400, -1, 200),
        (200, -1, None),
        (200, 1, 400),
        (601, 1, None),
        (333, 1, 400),
        (333, -1, 200),
    ],
)
def test_keys_go_from_mark_to_mark(pointed: int | None, direction: int, step: int | None) -> None:
    """Marks of one step are one stop; from nowhere the newest or the oldest comes first; at the end there is none."""
    assert next_mark(MARKS, pointed, direction) == step


def test_without_marks_there_is_nowhere_to_go() -> None:
    """A young run has none."""
    assert next_mark([], None, 1) is None


def told(events: list[Event], step: int) -> str:
    """The words for a step."""
    return point_words(folded(events), step).text


def test_an_edit_tells_who_when_what_and_what_came_of_it() -> None:
    """Actor, time, the value before and after, and the loss before and after."""
    words = told(fakes.training(), 301)
    assert words.startswith("02:40:50 · tui ana@box · learning rate 0.00258 → 0.00129 in force at step 301 · loss 2.")
    assert words.count("→") == 2


def test_an_edit_without_a_reason_tells_its_values() -> None:
    """They are in the event itself, for every knob."""
    asked = fakes.command("k", "set", {"name": "grad_clip", "value": 0.3}, 50)
    applied = [replace(event, before=1.0, after=0.3) if event.status == "applied" else event for event in asked]  # type: ignore[attr-defined,call-arg]
    words = told([*fakes.opening(), *fakes.steps(1, 60), *applied], 50)
    assert "grad clip = 0.3 in force at step 50, 1 → 0.3" in words


def test_a_spike_tells_why_and_a_rewind_where_it_led() -> None:
    """The guard's reason, and the branch that was left."""
    assert f"step 523: spike, rewound: {scenes.FAR_OUT}" in told(scenes.rewound(), scenes.SPIKED_AT)
    words = told(scenes.rewound(), scenes.BACK_AT)
    assert "guard · back at step 400: steps 401 to 523 are a branch, 30 batches left out" in words


def test_a_spike_on_a_branch_is_not_told_with_the_losses_of_the_line_that_took_its_place() -> None:
    """Where the branch ends nothing came of it; where it went on, the losses are the branch's."""
    assert told(scenes.rewound(), scenes.SPIKED_AT).endswith(f"{scenes.FAR_OUT} · on branch 1")
    warned = Spike(time=fakes.at(450), step=450, what="loss", value=3.0, z=7.0, act="warn", reason="loss 3")
    branch = [replace(event, loss=5.0) for event in scenes.sky(scenes.BACK_AT + 1, scenes.SPIKED_AT)]
    at = next(place for place, event in enumerate(scenes.rewound()) if isinstance(event, Spike))
    model = folded([*scenes.rewound()[:at], warned, *scenes.rewound()[at:], scenes.as_block(branch, 1)])
    assert point_words(model, 450).text.endswith("on branch 1 · loss 5.000 → 5.000")
    assert pointed_branch(model, 450) == 1
    assert pointed_moment(model, 450) == fakes.at(450)
    assert pointed_moment(model, 451) == fakes.at(451) + (scenes.SPIKED_AT - scenes.BACK_AT) * fakes.STEP_S


def test_what_else_happened_at_the_step_is_told_behind_the_heaviest() -> None:
    """A rewind to a checkpoint's step does not hide the checkpoint, nor the other way round."""
    saved = [event for event in fakes.steps(400, 400) if event.kind == "checkpoint"]
    words = told([*scenes.rewound(), *saved], scenes.BACK_AT)
    assert 0 < words.index("back at step 400") < words.index("checkpoint saved at step 400")


def test_a_step_without_a_mark_tells_its_numbers() -> None:
    """Time, loss, rate, gradient, throughput, and the evaluation where there was one."""
    words = point_words(folded(fakes.training()), 500).text
    for part in ("step 500: 02:41:20", "loss 1.", "rate ", "gradient ", "tokens/s", "eval loss 1.874, accuracy 53.4%"):
        assert part in words
    assert "eval" not in told(fakes.training(), 501)


def test_a_step_of_another_line_is_not_made_up() -> None:
    """What a rewind took back has no numbers on the line that the run is on."""
    assert told(fakes.training(100), 523) == "step 523: not known on the line that the run is on"


def test_at_the_newest_step_nothing_came_of_it_yet() -> None:
    """Without steps after it there is no loss after it."""
    words = told([*fakes.opening(), *fakes.steps(1, 50), *fakes.command("p", "pause", {}, 50)], 50)
    assert words == "02:40:12 · tui ana@box · paused at step 50"


def test_every_mark_can_be_pointed_at() -> None:
    """Whatever stands on the chart has words of its own."""
    model = folded([*scenes.rewound(), *fakes.failed()[-2:-1]])
    for mark in marks(model.happenings.values()):
        words = point_words(model, int(mark.x))
        assert "\n" not in words.text
        assert not words.text.startswith(f"step {mark.x:,}: ")


def test_checkpoints_push_no_intervention_off_the_chart() -> None:
    """Of too many marks the newest stay, but an edit before hundreds of checkpoints is there too."""
    edit = fakes.command("e1", "set", {"name": "lr", "value": 0.5, "mode": "scale"}, 7)
    saved = [Checkpoint(step=step, path="p") for step in range(10, 10 + MAX_MARKS + 10)]
    found = marks(folded([*edit, *saved]).happenings.values())
    assert [mark.x for mark in found] == [7, *range(21, 10 + MAX_MARKS + 10)]


def test_marks_know_their_moment() -> None:
    """It is their place on an axis of wall time."""
    model = folded(fakes.training())
    assert [mark.time for mark in marks(model.happenings.values())] == [fakes.at(step) for step in (200, 301, 310, 400, 600)]
    spiked = folded([Spike(time=7.0, step=3, what="loss", value=9.0, z=7.0, act="warn")])
    asked = folded([CommandStatus(time=9.0, id="x", name="stop", args={}, actor="a", status="applied", step=4)])
    assert [mark.time for model in (spiked, asked) for mark in marks(model.happenings.values())] == [7.0, 9.0]
