"""Promises of `config.hyper`: every hyperparameter is a pure function of config, edits and step."""

from __future__ import annotations

import math
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.edits import Edit, last_edit, live_edits, skipped_batches
from plt_tui.config.hyper import base_lr, fitted, layout_at, lr_at, samples_taken, value_at
from plt_tui.config.knobs import KNOBS, LR_MODES
from plt_tui.config.schema import OptimSection, RunConfig
from plt_tui.errors import UsageError

TOTAL = 1000
SCHEDULES = ("cosine", "linear", "constant", "wsd")
PEAK, FLOOR, WARMUP = 1e-2, 1e-3, 100


def _optim(schedule="cosine", **changes):
    values = {"schedule": schedule, "lr": PEAK, "min_lr": FLOOR, "warmup": WARMUP, "decay_fraction": 0.25, **changes}
    return OptimSection.model_validate(values)


def _lr(value, *, step, id="a", mode="set"):  # noqa: A002  (the field's name)
    return Edit(id=id, step=step, name="lr", value=value, mode=mode)


def _undo(of, *, step, id="u"):  # noqa: A002  (the field's name)
    return Edit(id=id, step=step, name="undo", value=of)


# Schedule, step -> the planned rate, from each curve's definition.
POINTS = [
    *[(schedule, 1, PEAK / WARMUP) for schedule in SCHEDULES],
    *[(schedule, 50, PEAK / 2) for schedule in SCHEDULES],
    *[(schedule, WARMUP, PEAK) for schedule in SCHEDULES],
    ("cosine", 325, FLOOR + (PEAK - FLOOR) * (1 + math.cos(math.pi / 4)) / 2),
    ("cosine", 550, (PEAK + FLOOR) / 2),
    ("linear", 325, PEAK - (PEAK - FLOOR) / 4),
    ("linear", 550, (PEAK + FLOOR) / 2),
    ("constant", 550, PEAK),
    ("wsd", 750, PEAK),
    ("wsd", 875, (PEAK + FLOOR) / 2),
    ("cosine", TOTAL, FLOOR),
    ("linear", TOTAL, FLOOR),
    ("constant", TOTAL, PEAK),
    ("wsd", TOTAL, FLOOR),
    ("cosine", TOTAL + 50, FLOOR),
    ("linear", TOTAL + 50, FLOOR),
    ("wsd", TOTAL + 50, FLOOR),
]


@pytest.mark.parametrize(("schedule", "step", "lr"), POINTS)
def test_a_schedule_passes_through_its_points(schedule, step, lr):
    """Warmup, peak, middle, last step and beyond have the values of the schedule's formula."""
    assert base_lr(_optim(schedule), TOTAL, step) == pytest.approx(lr, rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_rises_in_the_warmup_and_never_again(schedule):
    """Strictly up to the peak, then never up, and always between the floor and the peak."""
    rates = [base_lr(_optim(schedule), TOTAL, step) for step in range(1, TOTAL + 1)]
    warm, rest = rates[:WARMUP], rates[WARMUP - 1 :]
    assert all(low < high for low, high in pairwise(warm))
    assert all(high >= low for high, low in pairwise(rest))
    assert max(rates) <= PEAK * (1 + 1e-12)
    assert min(rest) >= FLOOR * (1 - 1e-12)


def test_no_warmup_begins_at_the_peak_side():
    """Without warmup the first step is on the curve already."""
    assert base_lr(_optim("constant", warmup=0), TOTAL, 1) == PEAK
    assert FLOOR < base_lr(_optim("linear", warmup=0), TOTAL, 1) < PEAK


def test_a_warmup_longer_than_the_run_only_rises():
    """The last step of a run that ends in its warmup is still on the way up."""
    assert base_lr(_optim("cosine", warmup=2000), TOTAL, TOTAL) == pytest.approx(PEAK / 2)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_edits_the_plan_is_in_force(schedule):
    """`lr_at` with no edits is the plan, at every step."""
    optim = _optim(schedule)
    assert all(lr_at(optim, TOTAL, [], step) == base_lr(optim, TOTAL, step) for step in range(1, TOTAL + 1))


@pytest.mark.parametrize("mode", LR_MODES)
def test_an_edit_leaves_the_steps_before_it_alone(mode):
    """Steps before the edit keep the plan in every mode."""
    edits = [_lr(0.5, step=300, mode=mode)]
    assert all(lr_at(_optim(), TOTAL, edits, step) == base_lr(_optim(), TOTAL, step) for step in range(1, 300))


def test_set_holds_its_value():
    """Mode set: that value from the edit's step to the end."""
    edits = [_lr(0.5, step=300)]
    assert {lr_at(_optim(), TOTAL, edits, step) for step in range(300, TOTAL + 1)} == {0.5}


def test_scale_multiplies_the_curve():
    """Mode scale: the shape of the plan stays, factors of two edits multiply."""
    optim = _optim()
    edits = [_lr(0.5, step=300, mode="scale"), _lr(0.5, step=600, mode="scale", id="b")]
    assert lr_at(optim, TOTAL, edits, 450) == base_lr(optim, TOTAL, 450) * 0.5
    assert lr_at(optim, TOTAL, edits, 800) == base_lr(optim, TOTAL, 800) * 0.25


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_replan_goes_on_from_where_it_was(schedule):
    """Mode replan: no jump at the edit, the new value at the last step, and nothing but falling between."""
    optim = _optim(schedule)
    edits = [_lr(1e-5, step=300, mode="replan")]
    rates = [lr_at(optim, TOTAL, edits, step) for step in range(300, TOTAL + 1)]
    assert rates[0] == pytest.approx(base_lr(optim, TOTAL, 300), rel=1e-12)
    assert rates[-1] == pytest.approx(1e-5, rel=1e-9)
    assert all(high > low for high, low in pairwise(rates))


@pytest.mark.parametrize(
    ("schedule", "share"),
    [("cosine", (1 + math.cos(math.pi / 4)) / 2), ("linear", 0.75), ("constant", 0.75), ("wsd", 0.75)],
)
def test_replan_keeps_the_shape_of_its_schedule(schedule, share):
    """A quarter of the way a cosine has fallen as a cosine does, and the other schedules in a straight line."""
    start = base_lr(_optim(schedule), TOTAL, 400)
    rate = lr_at(_optim(schedule), TOTAL, [_lr(1e-5, step=400, mode="replan")], 550)
    assert rate == pytest.approx(1e-5 + (start - 1e-5) * share, rel=1e-12)


def test_replan_starts_from_the_edited_curve():
    """A replan after a set continues from the value set, and may rise."""
    edits = [_lr(1e-4, step=200), _lr(1e-3, step=300, mode="replan", id="b")]
    assert lr_at(_optim(), TOTAL, edits, 300) == pytest.approx(1e-4)
    assert lr_at(_optim(), TOTAL, edits, TOTAL) == pytest.approx(1e-3)


def test_replan_at_the_last_step_does_not_divide_by_zero():
    """A replan with nothing left to plan keeps the curve's value there."""
    edits = [_lr(1e-5, step=TOTAL, mode="replan")]
    assert lr_at(_optim(), TOTAL, edits, TOTAL) == pytest.approx(FLOOR)


def test_the_later_edit_wins():
    """Of two sets the later one is in force from its own step on."""
    edits = [_lr(0.5, step=300), _lr(0.25, step=400, id="b")]
    assert (lr_at(_optim(), TOTAL, edits, 399), lr_at(_optim(), TOTAL, edits, 400)) == (0.5, 0.25)


def test_undo_takes_back_one_edit_from_its_step_on():
    """Steps between edit and undo keep the edit; after the undo the plan (or the edit below) is back."""
    edits = [_lr(0.5, step=300), _lr(0.25, step=400, id="b"), _undo("b", step=500)]
    assert [lr_at(_optim(), TOTAL, edits, step) for step in (350, 450, 500)] == [0.5, 0.25, 0.5]
    edits.append(_undo("a", step=600, id="v"))
    assert lr_at(_optim(), TOTAL, edits, 600) == base_lr(_optim(), TOTAL, 600)


def test_an_edit_below_can_be_undone_alone():
    """Undoing the first of two edits leaves the second."""
    edits = [_lr(0.5, step=300, mode="scale"), _lr(0.1, step=300, mode="scale", id="b"), _undo("a", step=400)]
    assert lr_at(_optim(), TOTAL, edits, 500) == base_lr(_optim(), TOTAL, 500) * 0.1


def test_plain_undo_walks_back_through_the_edits():
    """`last_edit` names the newest edit not yet undone, over all knobs, and None when there is none."""
    clip = Edit(id="c", step=310, name="grad_clip", value=0.5)
    edits = [_lr(0.5, step=300), clip]
    assert last_edit(edits) == clip
    edits.append(_undo("c", step=320))
    assert last_edit(edits) == edits[0]
    edits.append(_undo("a", step=320, id="v"))
    assert last_edit(edits) is None
    assert last_edit([]) is None


def test_an_undo_of_nothing_changes_nothing():
    """An unknown id is no error: the journal may have been cut by a rewind."""
    edits = [_lr(0.5, step=300), _undo("zzz", step=400)]
    assert live_edits(edits, 500) == edits[:1]


_EDITS = st.lists(
    st.builds(
        Edit,
        id=st.sampled_from("abcdef"),
        step=st.integers(1, TOTAL),
        name=st.just("lr"),
        value=st.floats(1e-6, 1.0),
        mode=st.sampled_from(LR_MODES),
    )
    | st.builds(Edit, id=st.just("u"), step=st.integers(1, TOTAL), name=st.just("undo"), value=st.sampled_from("abcdef")),
    max_size=6,
).map(lambda edits: sorted(edits, key=lambda edit: edit.step))


@given(_EDITS, st.integers(1, TOTAL), st.sampled_from(SCHEDULES))
def test_the_rate_depends_on_nothing_but_its_arguments(edits, step, schedule):
    """Same arguments, same bits, whatever was asked before; edits after a step do not reach back to it."""
    optim, before = _optim(schedule), list(edits)
    first = lr_at(optim, TOTAL, edits, step)
    lr_at(optim, TOTAL, edits, TOTAL)
    lr_at(_optim("constant", lr=1.0), TOTAL, edits, step)
    assert lr_at(optim, TOTAL, [edit for edit in edits if edit.step <= step], step) == first
    assert edits == before
    assert math.isfinite(first)
    assert first >= 0.0


def _by_definition(optim, edits, step):
    """The curve as a chain of functions, each edit on top of the one before: what `lr_at` folds without the chain."""
    curve = lambda at: base_lr(optim, TOTAL, at)  # noqa: E731
    for edit in live_edits(edits, step):
        if edit.name == "lr":
            curve = _on_top(curve, edit, optim.schedule)
    return curve(step)


def _on_top(curve, edit, schedule):
    start = curve(edit.step)

    def edited(at):
        if at < edit.step:
            return curve(at)
        progress = min(1.0, (at - edit.step) / max(1, TOTAL - edit.step))
        share = 0.5 * (1.0 + math.cos(math.pi * progress)) if schedule == "cosine" else 1.0 - progress
        return {"set": edit.value, "scale": curve(at) * edit.value, "replan": edit.value + (start - edit.value) * share}[
            edit.mode
        ]

    return edited


@given(_EDITS, st.randoms(), st.integers(1, TOTAL), st.sampled_from(SCHEDULES))
def test_edits_lie_on_top_of_each_other(edits, random, step, schedule):
    """To the bit, in whatever order their steps come: a rewound run may have edits out of order."""
    random.shuffle(edits)
    assert lr_at(_optim(schedule), TOTAL, edits, step) == _by_definition(_optim(schedule), edits, step)


@pytest.mark.parametrize("mode", LR_MODES)
def test_thousands_of_edits_are_folded(mode):
    """A guard that scales the rate all day breaks neither the run nor its views, and costs them no second."""
    edits = [_lr(1.0, step=1 + count % TOTAL, mode=mode, id=str(count)) for count in range(5000)]
    started = time.process_time()
    rate = lr_at(_optim(), TOTAL, edits, TOTAL)
    assert time.process_time() - started < 1.0
    assert rate == (base_lr(_optim(), TOTAL, TOTAL) if mode == "scale" else 1.0)


def test_other_knobs_begin_at_their_config_and_follow_edits():
    """Every knob but lr: the config's value, then each edit's from its step on, then back after an undo."""
    config = RunConfig()
    for name, knob in KNOBS.items():
        planned = getattr(getattr(config, knob.section), knob.key)
        edits = [Edit(id="a", step=10, name=name, value=7), _undo("a", step=20)]
        assert [value_at(config, edits, name, step) for step in (9, 10, 20)] == [planned, 7, planned]


def test_edits_of_one_knob_do_not_touch_another():
    """A learning-rate edit leaves the clip as it is, and the other way round."""
    clip = Edit(id="c", step=10, name="grad_clip", value=0.5)
    assert value_at(RunConfig(), [_lr(0.5, step=10)], "grad_clip", 20) == RunConfig().train.grad_clip
    assert lr_at(_optim(), TOTAL, [clip], 20) == base_lr(_optim(), TOTAL, 20)


def test_betas_from_json_are_a_tuple_again():
    """A journal gives lists back; the value in force is what the optimizer was given."""
    edits = [Edit(id="a", step=1, name="betas", value=[0.8, 0.9])]
    assert value_at(RunConfig(), edits, "betas", 1) == (0.8, 0.9)


def _batch(name, value, *, step, id="b", mode="set"):  # noqa: A002  (the field's name)
    return Edit(id=id, step=step, name=name, value=value, mode=mode)


def _config(**train):
    return RunConfig.model_validate({"train": train})


def test_the_layout_follows_its_edits():
    """Each of the two numbers can change alone, both together when the global batch stays, and an undo folds the rest anew."""
    config = _config(batch_size=8, accumulate=2)
    edits = [_batch("batch_size", 4, step=5), _batch("accumulate", (1, 8), step=7, id="k", mode="keep"), _undo("k", step=9)]
    layouts = [layout_at(config, edits, step) for step in (4, 5, 7, 9)]
    assert [(layout.batch_size, layout.accumulate) for layout in layouts] == [(8, 2), (4, 2), (1, 8), (4, 2)]
    assert [layout.sequences for layout in layouts] == [16, 8, 8, 8]
    assert [value_at(config, edits, name, 7) for name in ("batch_size", "accumulate")] == [1, 8]


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [("batch_size", 4, (4, 4)), ("batch_size", 16, (16, 1)), ("accumulate", 8, (2, 8)), ("accumulate", 1, (16, 1))],
)
def test_a_kept_global_batch_is_cut_otherwise(name, value, fits):
    """The other number makes up for the given one."""
    assert fitted(_config(batch_size=8, accumulate=2), [], 3, name, value, "keep") == fits


@pytest.mark.parametrize(
    ("name", "value", "mode", "message"),
    [
        ("batch_size", 3, "keep", "3 does not divide the 16 sequences per rank and step; allowed: 1, 2, 4, 8, 16"),
        ("weights", (1.0, 2.0), "set", "2 numbers for 1 corpora; give one for each"),
    ],
)
def test_a_value_that_does_not_fit_the_run_is_refused(name, value, mode, message):
    """In range, but not for this run: the message says what would fit."""
    with pytest.raises(UsageError, match=message):
        fitted(_config(batch_size=8, accumulate=2), [], 3, name, value, mode)


@given(
    edits=st.lists(
        st.tuples(st.integers(1, 30), st.sampled_from(["batch_size", "accumulate", "skip", "lr"]), st.integers(1, 5)),
        max_size=6,
    ),
    first=st.integers(1, 30),
    length=st.integers(0, 30),
)
def test_samples_are_counted_as_the_steps_take_them(edits, first, length):
    """Counting by stretches between edits gives what going step by step does."""
    config = _config(batch_size=2, accumulate=3)
    made = [Edit(id=str(n), step=step, name=name, value=value) for n, (step, name, value) in enumerate(edits)]
    one_by_one = sum(
        (1 + skipped_batches(made, step)) * layout_at(config, made, step).sequences * 2 for step in range(first, first + length)
    )
    assert samples_taken(config, made, 2, first, first + length) == one_by_one
