"""Promises of `views.origin`: each value names the edit that it is from, the undo that gave it back, or the configuration."""

from __future__ import annotations

from typing import Any

import pytest

from plt_tui.config.edits import UNDO, Edit
from plt_tui.config.hyper import value_at
from plt_tui.config.knobs import KNOBS
from plt_tui.config.load import load_config
from plt_tui.config.schema import RunConfig
from plt_tui.views.origin import origin, origin_words

ANA, BOB = "tui ana@box", "ctl bob@laptop"


def edit(id: str, step: int, name: str, value: Any, mode: Any = "set", actor: str = ANA) -> Edit:  # noqa: A002
    """One applied change."""
    return Edit(id=id, step=step, name=name, value=value, mode=mode, actor=actor)


CLIP = edit("a", 301, "grad_clip", 0.5)
LOWER = edit("b", 350, "grad_clip", 0.25, actor=BOB)
HALF = edit("l", 20, "lr", 0.5, "scale")
HELD = edit("m", 30, "lr", 1e-4, actor=BOB)


@pytest.mark.parametrize(
    ("edits", "name", "step", "words"),
    [
        ([], "grad_clip", 1, "default"),
        ([CLIP], "grad_clip", 300, "default"),
        ([CLIP], "grad_clip", 301, f"since step 301 · {ANA}"),
        ([CLIP], "weight_decay", 400, "default"),
        ([CLIP, LOWER], "grad_clip", 400, f"since step 350 · {BOB}"),
        ([CLIP, edit("u", 320, UNDO, "a", actor=BOB)], "grad_clip", 319, f"since step 301 · {ANA}"),
        ([CLIP, edit("u", 320, UNDO, "a", actor=BOB)], "grad_clip", 320, f"undone at step 320 · {BOB}"),
        ([CLIP, LOWER, edit("u", 400, UNDO, "b")], "grad_clip", 400, f"undone at step 400 · {ANA}"),
        ([CLIP, LOWER, edit("u", 400, UNDO, "a")], "grad_clip", 400, f"since step 350 · {BOB}"),
        ([edit("k", 9, "accumulate", [4, 2], "keep")], "batch_size", 9, f"since step 9 · {ANA}"),
        ([edit("k", 9, "accumulate", 2)], "batch_size", 9, "default"),
        ([], "lr", 1, "cosine schedule"),
        ([HALF], "lr", 20, f"×0.5 since step 20 · {ANA}"),
        ([HALF, HELD], "lr", 30, f"since step 30 · {BOB}"),
        ([HALF, HELD, edit("u", 40, UNDO, "m")], "lr", 40, f"undone at step 40 · {ANA}"),
        ([edit("r", 7, "lr", 0.0, "replan", "")], "lr", 7, "replanned since step 7"),
    ],
)
def test_where_a_value_is_from(edits: list[Edit], name: str, step: int, words: str) -> None:
    """Who, since which step; an edit ahead, of another knob, or undone long before, has no say."""
    assert origin_words(RunConfig(), edits, name, step) == words


def test_what_the_configuration_says_is_told_from_a_default() -> None:
    """A schedule that does not move is a value like any other."""
    config = load_config(None, "train.grad_clip=0.7", "optim.schedule=constant", "optim.lr=1e-3")
    assert [origin_words(config, [], name, 1) for name in ("grad_clip", "lr", "betas")] == [
        "configured",
        "configured",
        "default",
    ]


def test_every_knob_has_an_origin() -> None:
    """The sheet asks for all of them."""
    assert all(origin_words(RunConfig(), [], name, 1) for name in KNOBS)


@pytest.mark.parametrize("step", [300, 320, 350, 400, 450])
def test_the_edit_named_is_the_one_that_the_value_is_from(step: int) -> None:
    """As the ranks compute it."""
    edits = [CLIP, LOWER, edit("u", 400, UNDO, "b"), edit("c", 440, "grad_clip", 2.0)]
    made, value = origin(edits, "grad_clip", step), value_at(RunConfig(), edits, "grad_clip", step)
    by_undo = {400: 0.5}
    assert value == (RunConfig().train.grad_clip if made is None else by_undo.get(made.step, made.value))
