"""plt_tui.views.preview: what an edit would do, told before it is sent, and only what is known."""

from __future__ import annotations

from typing import Any

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.config.edits import Edit
from plt_tui.config.hyper import lr_at
from plt_tui.config.schema import DataSection, RunConfig, TrainSection
from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.views.model import RunModel
from plt_tui.views.preview import (
    CURVE_POINTS,
    batch_words,
    change_words,
    curve_rows,
    left_now,
    left_words,
    lines,
    preview,
    set_edit,
    undo_edit,
)

BY_TOKENS = RunConfig(train=TrainSection(tokens=fakes.TARGET * fakes.TOKENS_PER_STEP))


def folded(events: list[fakes.Event]) -> RunState:
    """The state after `events`."""
    model = RunModel()
    for event in events:
        model.fold(event)
    return model.state


AT_600 = folded(fakes.training())
"""Step 600 of 1000 on 2 ranks, 0.15 s a step, the rate halved at step 301."""


def seen(name: str, value: object, mode: str = "set", *, config: RunConfig = fakes.CONFIG, state: RunState = AT_600) -> Any:
    """The preview of a `set`."""
    return preview(config, state, set_edit(config, state, name, value, mode))


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lr", "3e-4"), "lr 0.000657134 -> 0.0003 from step 601 on"),
        (("lr", "0.5", "scale"), "lr 0.000657134 -> 0.000328567 from step 601 on"),
        (("lr", "1", "scale"), "lr stays 0.000657134 from step 601 on"),
        (("lr", "1e-5", "replan"), "lr goes on from 0.000657134 at step 601, 0.00015 -> 1e-05 at the last step"),
        (("betas", "0.8,0.99"), "betas 0.9,0.95 -> 0.8,0.99 from step 601 on"),
        (("prompt", "Über \x1b"), "prompt 'The ' -> 'Über \\x1b' from step 601 on"),
        (("batch_size", 4), "batch_size 8 -> 4 from step 601 on"),
        (("batch_size", 4, "keep"), "batch_size 8 -> 4, accumulate 1 -> 2 from step 601 on"),
        (("accumulate", "4", "keep"), "batch_size 8 -> 2, accumulate 1 -> 4 from step 601 on"),
        (("batch_size", 8, "keep"), "batch_size stays 8 from step 601 on"),
    ],
)
def test_the_change_is_told_in_one_line(args: tuple[Any, ...], words: str) -> None:
    """Old and new value as one would type them, and the first step that gets the new one."""
    assert change_words(seen(*args)) == words


def test_an_undo_is_seen_like_any_edit() -> None:
    """Back to the schedule without the edit, under the name of the knob."""
    shown = preview(fakes.CONFIG, AT_600, undo_edit(AT_600))
    assert shown.knob == "lr"
    assert shown.after.value == shown.before.value * 2
    assert shown == preview(fakes.CONFIG, AT_600, undo_edit(AT_600, "e1"))


@pytest.mark.parametrize("edit_id", ["nobody", "n1"])
def test_what_is_not_in_force_cannot_be_undone(edit_id: str) -> None:
    """An unknown edit, or a command that is none."""
    with pytest.raises(UsageError, match=f"no edit {edit_id} is in force"):
        undo_edit(AT_600, edit_id)


def test_an_edit_that_was_taken_back_cannot_be_taken_back_again() -> None:
    """The preview refuses what would have no effect."""
    state = folded([*fakes.training(), *fakes.command("u", "undo", {"edit": "e1"}, 590)])
    with pytest.raises(UsageError, match="undo"):
        undo_edit(state, "e1")


def test_the_curves_are_those_that_the_ranks_obey() -> None:
    """Every point is `lr_at` of the same edits, from the next step to the target, in at most CURVE_POINTS points."""
    shown = seen("lr", "1e-4", "replan")
    edit = Edit(id="preview", step=601, name="lr", value=1e-4, mode="replan")
    for outlook, edits in ((shown.before, AT_600.edits), (shown.after, (*AT_600.edits, edit))):
        assert outlook.rates == tuple(lr_at(fakes.CONFIG.optim, 1000, edits, step) for step in shown.steps)
    assert (shown.steps[0], shown.steps[-1], len(shown.steps)) == (601, 1000, CURVE_POINTS)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lr", 0.1), ""),
        (("batch_size", 4, "keep"), "global batch kept: 16 sequences, 2,048 tokens"),
        (("batch_size", 4), "global batch changed: 16 -> 8 sequences, 2,048 -> 1,024 tokens"),
        (("accumulate", 3), "global batch changed: 16 -> 48 sequences, 2,048 -> 6,144 tokens"),
    ],
)
def test_the_global_batch_is_kept_or_changed_and_it_says_which(args: tuple[Any, ...], words: str) -> None:
    """Only where the edit is about it."""
    assert batch_words(seen(*args)) == words


@pytest.mark.parametrize(
    ("args", "config", "words"),
    [
        (("lr", 0.1), fakes.CONFIG, "400 steps left, 819k tokens, ETA 1m 00s"),
        (
            ("batch_size", 4),
            fakes.CONFIG,
            "400 steps left, 819k -> 410k tokens, ETA 1m 00s -> 30s at the present tokens/s",
        ),
        (("batch_size", 4), BY_TOKENS, "400 -> 800 steps left (the run ends by tokens), 819k tokens, ETA 1m 00s"),
        (("accumulate", 3), BY_TOKENS, "400 -> 134 steps left (the run ends by tokens), 819k -> 823k tokens, ETA 1m 00s"),
        (("batch_size", 4, "keep"), BY_TOKENS, "400 steps left, 819k tokens, ETA 1m 00s"),
    ],
)
def test_what_is_left_follows_the_batch(args: tuple[Any, ...], config: RunConfig, words: str) -> None:
    """A run that ends by steps trains on fewer tokens; one that ends by tokens takes more steps."""
    assert left_words(seen(*args, config=config)) == words


def test_a_target_in_epochs_moves_with_the_batch_too() -> None:
    """Twice the sequences a step, half the steps; an odd rest takes one more."""
    config = RunConfig(train=TrainSection(epochs=2.0))
    shown = seen("batch_size", 16, config=config, state=folded(fakes.training(599)))
    assert (shown.before.steps_left, shown.after.steps_left) == (401, 201)
    assert "by epochs" in left_words(shown)


@pytest.mark.parametrize(
    ("config", "state", "told"),
    [
        (RunConfig(), RunState(), ["1,000 steps left"]),
        (RunConfig(train=TrainSection(steps=50)), RunState(), ["50 steps left"]),
        (RunConfig(train=TrainSection(tokens=10**6)), RunState(), []),
        (RunConfig(train=TrainSection(epochs=1.0)), RunState(), []),
        (RunConfig(), folded(fakes.opening()), ["1,000 steps left", "2.05M tokens"]),
    ],
)
def test_what_is_not_known_is_left_out(config: RunConfig, state: RunState, told: list[str]) -> None:
    """Before the ranks have spoken there is no ETA, and for a target in tokens no end; nothing is guessed."""
    shown = seen("lr", "1e-4", config=config, state=state)
    assert left_words(shown).split(", ") == (told or [""])
    assert bool(curve_rows(shown)) == bool(told)
    assert all(line for line in lines(shown))
    assert "per rank" in batch_words(seen("batch_size", 2, config=config, state=state)) or state.run is not None


def test_after_the_last_step_there_is_nothing_to_preview() -> None:
    """It says so instead of an empty curve."""
    with pytest.raises(UsageError, match="the last step, 1000, is done"):
        seen("lr", "1e-4", state=folded(fakes.training(1000)))
    with pytest.raises(UsageError):
        left_now(fakes.CONFIG, folded(fakes.training(1000)))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("lr", 11), "outside 0 to 10"),
        (("batch_size", 3, "keep"), "allowed: 1, 2, 4, 8"),
        (("weights", "3,1"), "2 numbers for 1 corpora"),
    ],
)
def test_what_the_run_would_refuse_is_refused_here(args: tuple[Any, ...], said: str) -> None:
    """Ranges, and what does not fit this run."""
    with pytest.raises(UsageError, match=said):
        seen(*args)


def test_a_mixture_is_told_as_shares() -> None:
    """Without weights the corpora count as large as they are."""
    config = RunConfig(data=DataSection(train=("a.txt", "b.txt")))
    assert change_words(seen("weights", "3,1", config=config)) == "weights by size -> 3,1 from step 601 on"


def test_two_rows_draw_the_old_and_the_new_rate_to_one_scale() -> None:
    """Heights fall with the rate, both ends are written, and a shorter curve ends earlier."""
    rows = curve_rows(seen("lr", "0.5", "scale"))
    drawn = [row[5:65] for row in rows]
    assert [row[:3] for row in rows] == ["now", "new"]
    assert drawn[0][0] == '"'
    assert drawn[1][-1] == "_"
    assert all("_.-'\"".index(above) >= "_.-'\"".index(below) for above, below in zip(*drawn, strict=True))
    assert rows[1].endswith("3.29e-4 .. 7.50e-5 at step 1000")
    longer = curve_rows(seen("batch_size", 4, config=BY_TOKENS))
    assert longer[0][5:65].rstrip() != longer[0][5:65]
    assert longer[1].endswith("at step 1400")


def test_a_constant_rate_is_a_level_line() -> None:
    """No range to divide by."""
    rows = curve_rows(seen("lr", "1", "scale", state=folded(fakes.training(999))))
    assert [row[5:6] for row in rows] == ["-", "-"]


@given(value=st.floats(0, 10), mode=st.sampled_from(["set", "scale", "replan"]))
def test_every_preview_is_short_plain_ascii(value: float, mode: str) -> None:
    """Whatever rate is typed, the lines fit a terminal and any encoding."""
    told = lines(seen("lr", value, mode))
    assert all(line.isascii() and "\n" not in line and len(line) <= 110 for line in told)
