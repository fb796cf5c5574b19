"""The pure parts of the UI: layout, wording, meters, gauges, learning-rate entry."""

from dataclasses import replace
from typing import Any, get_args

import fakes
import numpy as np
import pytest
import scenes
from rich.cells import cell_len
from textual.content import Content

from plt_tui.config.edits import Edit
from plt_tui.config.hyper import lr_at
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.events import CommandStatus, RankStatus, Recent, RunPhase, Spike, Viewers
from plt_tui.views.model import Happening, RunModel
from plt_tui.views.tui import layout
from plt_tui.views.tui.marks import marks
from plt_tui.views.tui.meters import bar, columns, hanging, spread
from plt_tui.views.tui.panes import header
from plt_tui.views.tui.panes.machine import gauge_lines, lagging, rank_lines
from plt_tui.views.tui.screens.knobs import typed_value
from plt_tui.views.tui.screens.learning_rate import schedule, typed_edit
from plt_tui.views.tui.screens.rewind import cost_words
from plt_tui.views.tui.words import PHASES, command_words, life_words, spike_words, story_words

NONE: frozenset[str] = frozenset()


def folded(events: list[fakes.Event]) -> RunModel:
    """The model after `events`."""
    model = RunModel()
    for event in events:
        model.fold(event)
    return model


@pytest.mark.parametrize(
    ("size", "mode", "shown"),
    [
        ((200, 60), "wide", {"chart", "trends", "machine", "logs", "samples", "events"}),
        ((140, 45), "wide", {"chart", "trends", "machine", "logs", "samples"}),
        ((110, 30), "wide", {"chart", "trends", "machine", "logs", "samples"}),
        ((109, 60), "compact", {"chart", "logs"}),
        ((140, 29), "compact", {"chart", "logs"}),
        ((80, 24), "compact", {"chart", "logs"}),
        ((60, 16), "compact", {"chart", "logs"}),
        ((59, 40), "tiny", set()),
        ((200, 15), "tiny", set()),
    ],
)
def test_the_layout_follows_the_size(size: tuple[int, int], mode: str, shown: set[str]) -> None:
    """Every size has its layout, and the border lines are where they are documented."""
    plan = layout.plan(*size, hidden=NONE, front="logs", story="samples")
    assert (plan.mode, plan.shown) == (mode, shown)


def test_a_maximised_pane_is_alone() -> None:
    """Maximising hides everything else, on wide and on compact screens."""
    for size in ((140, 45), (80, 24)):
        plan = layout.plan(*size, hidden=NONE, front="logs", story="samples", maximised="machine")
        assert plan.shown == {"machine"}


def test_a_hidden_pane_cannot_be_reached() -> None:
    """Focus does not move to what the user switched off."""
    plan = layout.plan(140, 45, hidden={"logs", "trends"}, front="logs", story="events")
    assert plan.reachable == ("chart", "machine", "samples", "events")
    assert plan.shown == {"chart", "machine", "events"}


def status(
    name: str, args: dict[str, object], state: str, step: int = -1, reason: str = "", before: object = None
) -> CommandStatus:
    """One word about a command."""
    return CommandStatus(
        id="a",
        name=name,
        args=args,
        actor="x",
        status=state,  # type: ignore[arg-type]  # one of its words
        step=step,
        reason=reason,
        before=before,
    )


LR = {"name": "lr", "value": 0.5, "mode": "scale"}
KEEP = {"name": "batch_size", "value": "4", "mode": "keep"}
KEPT = {"name": "batch_size", "value": [4, 2], "mode": "keep"}
MORE_STEPS = {"name": "accumulate", "value": [2, 4], "mode": "keep"}
WEIGHTS = {"name": "weights", "value": [3.0, 1.0]}
BACK = {"step": 412, "skip": 30}


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (status("pause", {}, "requested"), "pause requested …"),
        (status("pause", {}, "agreed"), "pause agreed by all ranks …"),
        (status("pause", {}, "applied", 312), "paused at step 312"),
        (status("set", LR, "requested"), "learning rate ×0.5 requested …"),
        (status("set", LR, "applied", 301, "0.003 -> 0.0015"), "learning rate 0.003 → 0.0015 in force at step 301"),
        (status("set", {"name": "eval_every", "value": 50}, "applied", 9), "eval every = 50 in force at step 9"),
        (status("undo", {"edit": "e"}, "applied", 9, "0.0015 -> 0.003"), "undo: 0.0015 → 0.003 in force at step 9"),
        (status("set", LR, "refused", reason="paused\nfor good"), "learning rate ×0.5 refused: paused for good"),
        (status("checkpoint", {"name": "best"}, "applied", 5), "checkpoint taken at step 5: best"),
        (status("set", KEEP, "requested"), "batch size = 4, same global batch requested …"),
        (
            status("set", KEPT, "applied", 9, "8 -> 4", 8),
            "batch size 8 → 4, accumulate 1 → 2, same global batch in force at step 9",
        ),
        (
            status("set", MORE_STEPS, "applied", 9, "2 -> 4", 2),
            "batch size 4 → 2, accumulate 2 → 4, same global batch in force at step 9",
        ),
        (status("set", KEPT, "agreed"), "batch size = 4, accumulate = 2, same global batch agreed by all ranks …"),
        (status("set", WEIGHTS, "applied", 9), "weights = 3,1 in force at step 9"),
        (
            status("set", {"name": "lr", "value": 1e-4, "mode": "replan"}, "applied", 9, "0.001 -> 0.001", 0.001),
            "learning rate replanned to end at 0.0001 in force at step 9",
        ),
        (status("rewind", BACK, "requested"), "rewind to step 412, leaving out 30 batches requested …"),
        (
            status("rewind", BACK, "applied", 400, "to the state of step 400 (memory)", 523),
            "back at step 400: steps 401 to 523 are a branch, 30 batches left out",
        ),
        (status("rewind", {"step": "400"}, "applied", 400, before=401), "back at step 400: step 401 is a branch"),
        (status("rewind", {"step": 9, "skip": "1"}, "applied", 9, before=9), "back at step 9: 1 batch left out"),
        (status("hibernate", {}, "applied", 812), "hibernated at step 812"),
        (status("skip_update", {}, "applied", 7, "loss is nan"), "update of step 7 left out: loss is nan"),
    ],
)
def test_commands_are_told_in_sentences(event: CommandStatus, words: str) -> None:
    """Each state of a command's life has its words, and the last one names the step."""
    assert command_words(event).text == words


@pytest.mark.parametrize(
    ("ranks", "sentence", "life"),
    [(0, "all ranks", "requested → all ranks agreed"), (1, "1/1 rank", "requested → 1/1 rank agreed"),
     (8, "8/8 ranks", "requested → 8/8 ranks agreed")],
)  # fmt: skip
def test_agreement_is_told_with_the_number_of_ranks(ranks: int, sentence: str, life: str) -> None:
    """Where it is known."""
    agreed = status("pause", {}, "agreed")
    assert command_words(agreed, ranks).text == f"pause agreed by {sentence} …"
    assert life_words(Happening(event=agreed, time=0.0, life=("requested", "agreed"), ranks=ranks)) == life


def test_a_command_keeps_the_number_of_ranks_that_agreed_on_it() -> None:
    """A later session may have others."""
    run = fakes.opening()[3]
    later = replace(run, world_size=4, start_step=10)  # type: ignore[call-arg]
    model = folded([run, *fakes.command("a", "pause", {}, 10), later, *fakes.command("b", "note", {"text": "x"}, 11)[::2]])
    lives = [life_words(one) for one in model.happenings.values() if one.life]
    assert lives == ["requested → 2/2 ranks agreed → in force at step 10", "requested → in force at step 11"]


@pytest.mark.parametrize(
    ("spike", "words"),
    [
        (Spike(step=9, what="loss", value=8.21, z=9.3, act="rewind"), "spike: loss 8.210, +9.3 z, rewound"),
        (Spike(step=9, what="grad_norm", value=812.0, z=12.0, act="warn"), "spike: gradient norm 812.0, +12.0 z"),
        (Spike(step=9, what="loss", value=float("nan"), z=float("nan"), act="skip"), "loss is nan, update left out"),
        (Spike(step=9, what="loss", value=9.0, z=float("inf"), act="lower"), "spike: loss 9.000, rate lowered"),
        (Spike(step=9, what="loss", value=9.0, z=7.0, act="stop"), "spike: loss 9.000, +7.0 z, run stopped"),
    ],
)
def test_spikes_are_told_in_short(spike: Spike, words: str) -> None:
    """What was out of line, by how much, and what was done."""
    assert spike_words(spike) == words
    assert story_words(spike).text == f"step 9: {words}"
    assert story_words(spike).tone == "warning"


@pytest.mark.parametrize(
    ("value", "act", "reason", "words"),
    [
        (8.21, "warn", scenes.FAR_OUT, f"spike: {scenes.FAR_OUT}"),
        (8.21, "rewind", scenes.FAR_OUT, f"spike, rewound: {scenes.FAR_OUT}"),
        (8.21, "warn", f"{scenes.FAR_OUT};\nonly a warning", f"spike: {scenes.FAR_OUT}; only a warning"),
        (float("nan"), "skip", "loss is nan", "update left out: loss is nan"),
    ],
)
def test_the_story_gives_the_guards_reason_and_tells_nothing_twice(value: float, act: Any, reason: str, words: str) -> None:
    """The reason has value and deviation in it already."""
    spike = Spike(step=9, what="loss", value=value, z=9.3, act=act, reason=reason)
    assert story_words(spike).text == f"step 9: {words}"


def test_every_phase_has_a_word_and_a_glyph_of_its_own() -> None:
    """A state is never told by colour alone."""
    assert set(PHASES) == set(get_args(RunPhase))
    assert all(cell_len(word.glyph) == 1 for word in PHASES.values())
    assert len({word.text for word in PHASES.values()}) == len(PHASES)
    assert len({word.glyph for word in PHASES.values()}) == len(PHASES)


@pytest.mark.parametrize("share", [-1.0, 0.0, 0.01, 0.5, 0.99, 1.0, 7.0, float("nan"), float("inf")])
def test_a_bar_is_exactly_as_wide_as_asked(share: float) -> None:
    """Whatever the gauge says, nothing beside it moves."""
    assert bar(share, 17).cell_length == 17
    assert columns([share]).cell_length == 1


def test_a_bar_fills_by_half_cells() -> None:
    """Half a cell is the finest difference that a bar shows."""
    assert bar(0.25, 10).plain == "━━╸───────"
    assert [span.end for span in bar(0.25, 10).spans] == [3, 10]


@pytest.mark.parametrize("width", [5, 12, 20, 60])
def test_two_ends_of_a_line_never_exceed_it(width: int) -> None:
    """Where there is no room for both, the left text is cut."""
    line = spread(Content("left text"), Content("right"), width)
    assert line.cell_length <= width
    assert width < 15 or line.plain.endswith("right")


def test_wrapped_lines_hang_under_their_first() -> None:
    """The second line of an entry begins where its text began."""
    text = hanging(Content("12:00 "), Content("one two three four"), 14)
    assert text.plain.splitlines() == ["12:00 one two", "      three", "      four"]


def test_cores_memory_and_gpus_have_their_lines_and_reasons() -> None:
    """Every core has a bar, and what cannot be read says n/a and why, never 0."""
    model = folded(fakes.machine(10, gpus=True))
    text = "\n".join(line.plain for line in gauge_lines(model.state.gauges, 46))
    assert "97 %" in text
    assert "88 %" in text
    assert "93 %  64 °C  612 W" in text
    assert "n/a  n/a  n/a" in text
    assert "MIG" in text
    none = "\n".join(line.plain for line in gauge_lines(folded(fakes.machine(10)).state.gauges, 46))
    assert "n/a: no NVIDIA driver on this machine" in none


@pytest.mark.parametrize("width", [46, 56, 76])
@pytest.mark.parametrize("cores", [1, 2, 7, 16, 17, 128])
def test_gauges_fit_their_width(width: int, cores: int) -> None:
    """Any number of cores stays inside the pane."""
    gauges = replace(fakes.machine(10, gpus=True)[0], cores=[50.0] * cores)
    assert all(line.cell_length <= width for line in gauge_lines(gauges, width))


@pytest.mark.parametrize("width", [45, 60])
def test_a_rank_has_a_line_that_fits(width: int) -> None:
    """The row shows step, step time, data time, memory and the age of the last word."""
    lines = rank_lines(folded(fakes.machine(100)).state, fakes.at(100) + 3, width)
    assert all(line.cell_length <= width for line in lines)
    assert lines[1].plain.split() == ["0", "training", "100", "150", "1.2", "412", "MiB", "3s"]


def rank(number: int, **said: Any) -> RankStatus:
    """A rank's word about itself, at step 100 where nothing else is said."""
    usual = {"time": 1000.0, "doing": "training", "step": 100, "step_ms": 100.0}
    return RankStatus(rank=number, pid=1, **{**usual, **said})


@pytest.mark.parametrize(
    ("ranks", "found"),
    [
        ([], []),
        ([rank(0), rank(1)], []),
        ([rank(0), rank(1), rank(2, step_ms=400.0)], []),
        ([rank(0), rank(1, time=985.0)], [(1, "silent")]),
        ([rank(0, idle_s=12.0), rank(1, idle_s=11.6, waiting=True)], [(0, "still 12 s"), (1, "waits 12 s")]),
        ([rank(0, step=300), rank(1)], [(1, "200 behind")]),
        ([rank(0), rank(1, time=900.0, doing="paused")], []),
    ],
)
def test_stragglers_are_found(ranks: list[RankStatus], found: list[tuple[int, str]]) -> None:
    """A rank at work that is silent or behind is named; one that waits by order, or reports a longer step, is not."""
    assert lagging(ranks, 1001.0) == found


@pytest.mark.parametrize(
    ("text", "mode", "edit"),
    [
        ("3e-4", "set", ("set", 3e-4)),
        ("x0.5", "set", ("scale", 0.5)),
        ("*2", "replan", ("scale", 2.0)),
        (" 0 ", "replan", ("replan", 0.0)),
        ("0.5", "scale", ("scale", 0.5)),
    ],
)
def test_a_typed_rate_becomes_an_edit(text: str, mode: str, edit: tuple[str, float]) -> None:
    """A value goes by the chosen mode, a factor is a factor in any mode."""
    typed = typed_edit(text, mode, 10)  # type: ignore[arg-type]
    assert (typed.mode, typed.value, typed.step) == (*edit, 10)


@pytest.mark.parametrize("text", ["", "x", "fast", "-1", "11", "nan", "1e999"])
def test_a_rate_that_cannot_be_is_refused_with_the_range(text: str) -> None:
    """The sentence names the knob and what is allowed."""
    with pytest.raises(UsageError, match=r"lr: .*0 to 10"):
        typed_edit(text, "set", 1)


def test_the_preview_is_the_schedule_that_the_ranks_obey() -> None:
    """Each previewed point is `lr_at` of the same edits at that step."""
    state = folded(fakes.training(100)).state
    edit = Edit(id="preview", step=101, name="lr", value=1e-4, mode="replan")
    steps, rates = schedule(fakes.CONFIG, state, (*state.edits, edit))
    assert steps[0] == 101
    assert steps[-1] == fakes.TARGET
    expected = [lr_at(fakes.CONFIG.optim, fakes.TARGET, (*state.edits, edit), int(step)) for step in steps]
    np.testing.assert_array_equal(rates, expected)


def test_interventions_and_checkpoints_are_marked_by_step() -> None:
    """The chart shows who did what where: edits, notes, checkpoints; automatic evaluations are dots, not marks."""
    found = marks(folded(fakes.training()).happenings.values())
    assert [(mark.x, mark.glyph) for mark in found] == [(200, "C"), (301, "L"), (310, "N"), (400, "C"), (600, "C")]


def test_of_a_branch_only_spikes_and_rewinds_are_marked() -> None:
    """Edits and checkpoints that a rewind left behind are no part of the line; why it was left is."""
    before = [*fakes.opening(), *fakes.steps(1, 500), *fakes.command("e", "set", {"name": "lr", "value": 0.5}, 450)]
    spike = Spike(time=fakes.at(500), step=500, what="loss", value=9.0, z=7.0, act="rewind")
    back = scenes.rewind("g", 300, 500, skip=30, actor="guard")
    late = [replace(event, time=fakes.at(520)) for event in fakes.command("l", "set", {"name": "lr", "value": 0.1}, 310)]
    found = marks(folded([*before, spike, *back, *late]).happenings.values())
    assert [(mark.x, mark.glyph) for mark in found] == [(200, "C"), (300, "↶"), (310, "L"), (500, "!")]
    assert found[1].label == "rewind to step 300, leaving out 30 batches by the guard"
    assert found[1].weight > found[3].weight > found[2].weight > found[0].weight


def test_the_acts_of_the_guard_have_a_mark_of_their_own() -> None:
    """A rate that the guard lowered is not taken for a person's."""
    lowered = fakes.command("g", "set", {"name": "lr", "value": 0.5, "mode": "scale"}, 9, actor="guard")
    left_out = fakes.command("h", "skip_update", {}, 12, actor="guard")
    found = marks(folded([*lowered, *left_out]).happenings.values())
    assert [(mark.glyph, mark.label) for mark in found] == [
        ("G", "learning rate ×0.5 by the guard"),
        ("G", "leave this update out by the guard"),
    ]


@pytest.mark.parametrize(
    ("recent", "words"),
    [
        (None, "no state is in memory now"),
        (Recent(steps=[], bytes=0, seconds=0.0), "no state is in memory now"),
        (Recent(steps=[1], bytes=31 << 20, seconds=0.004), "1 state in memory: 31 MiB on each rank, 4ms a copy"),
        (Recent(steps=[1, 26], bytes=62 << 20, seconds=0.5), "2 states in memory: 62 MiB on each rank, 500ms a copy"),
    ],
)
def test_the_cost_of_states_in_memory_is_told(recent: Recent | None, words: str) -> None:
    """Number, memory and time; none is no error."""
    assert cost_words(recent) == words


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("batch_size", "4 keep", ("4", "keep")),
        ("batch_size", "  4   keep ", ("4", "keep")),
        ("batch_size", "4", ("4", "set")),
        ("batch_size", "4 kept", ("4 kept", "set")),
        ("batch_size", "keep", ("keep", "set")),
        ("grad_clip", "1 set", ("1 set", "set")),
        ("prompt", "a set ", ("a set ", "set")),
    ],
)
def test_a_mode_is_the_last_word_of_a_knob_that_has_modes(name: str, text: str, value: tuple[str, str]) -> None:
    """Everything else is the value, as typed."""
    assert typed_value(name, text) == value


def test_the_parts_of_a_step_are_shares_of_it() -> None:
    """Data, forward, backward, communication and optimizer as the mean over ranks; nothing before there was a step."""
    lines = [line.plain for line in rank_lines(folded(fakes.machine(10)).state, 0.0, 60)]
    assert "Data 1%  Fwd 31%  Bwd 52%  Comm 6%  Opt 9%  Wait 0%" in lines
    early = rank_lines(folded([rank(0)]).state, 0.0, 60)
    assert len(early) == 2


def test_a_run_without_a_word_yet_has_no_ranks_and_no_gauges() -> None:
    """The panes can be drawn before the first event."""
    assert rank_lines(RunState(), 0.0, 46) == []
    assert "no word" in gauge_lines(None, 46)[0].plain


def looking_on(*readonly: bool) -> RunState:
    """A run in training with so many viewers."""
    viewers = [{"actor": "tui ana@box", "door": "socket", "readonly": each, "since": 1.0} for each in readonly]
    return folded([*fakes.training(), Viewers(viewers=viewers)]).state


@pytest.mark.parametrize(
    ("readonly", "words"),
    [
        ([False, False], "  2 viewers  ·  elapsed"),
        ([False, True, True], "  3 viewers (2 read-only)  ·  elapsed"),
        ([True, True], "  2 viewers (2 read-only)  ·  elapsed"),
    ],
)
def test_the_header_tells_how_many_look_on(readonly: list[bool], words: str) -> None:
    """Those that can change nothing are fainter; where room is short the less important facts go first."""
    line = header._second_line(looking_on(*readonly), fakes.at(600), 140)
    assert words in line.plain
    faint = [line.plain[span.start : span.end] for span in line.spans if span.style == header.DIMMED]
    assert faint == ([f" ({sum(readonly)} read-only)"] if any(readonly) else [])
    assert f"{len(readonly)} viewers" in header._second_line(looking_on(*readonly), fakes.at(600), 80).plain


@pytest.mark.parametrize("readonly", [[], [False], [True]])
def test_who_is_alone_is_not_told_so(readonly: list[bool]) -> None:
    """The header is that of a run that knows of no viewers, cell by cell; so it is when the run is over."""
    alone = header._second_line(folded(fakes.training()).state, fakes.at(600), 140)
    assert header._second_line(looking_on(*readonly), fakes.at(600), 140).is_same(alone)
    over = replace(looking_on(False, False), phase="finished")
    assert "viewers" not in header._second_line(over, fakes.at(600), 140).plain
