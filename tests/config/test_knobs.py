"""Promises of `config.knobs`: what can change, in which range, and what is said about anything else."""

from __future__ import annotations

import pytest

from plt_tui.config.knobs import KNOBS, check_edit
from plt_tui.config.schema import RunConfig
from plt_tui.errors import UsageError

ACCEPTED = [
    ("lr", 0.5, "set", 0.5),
    ("lr", "1e-4", "replan", 1e-4),
    ("lr", 2, "scale", 2.0),
    ("lr", 1000, "scale", 1000.0),
    ("lr", 0, "set", 0.0),
    ("grad_clip", "0", "set", 0.0),
    ("weight_decay", 0.1, "set", 0.1),
    ("betas", "0.9, 0.95", "set", (0.9, 0.95)),
    ("betas", [0.9, 0.95], "set", (0.9, 0.95)),
    ("eval_every", "1e2", "set", 100),
    ("sample_every", 0, "set", 0),
    ("prompt", "", "set", ""),
    ("temperature", 10, "set", 10.0),
    ("batch_size", "4", "set", 4),
    ("batch_size", 4, "keep", 4),
    ("batch_size", [4, 2], "keep", (4, 2)),
    ("accumulate", 2, "set", 2),
    ("weights", "3,1", "set", (3.0, 1.0)),
    ("weights", [1, 1, 2], "set", (1.0, 1.0, 2.0)),
    ("embedding_grad_scale", "0.1", "set", 0.1),
    ("top_k", "40", "set", 40),
    ("log_every", 0, "set", 0),
]


@pytest.mark.parametrize(("name", "value", "mode", "parsed"), ACCEPTED)
def test_a_good_edit_is_parsed(name, value, mode, parsed):
    """Numbers, texts of numbers and pairs become the knob's type."""
    result = check_edit(name, value, mode)
    assert result == (name, parsed, mode)
    assert type(result[1]) is type(parsed)


REFUSED = [
    ("lrr", 1, "set", f"unknown knob 'lrr'; known: {', '.join(KNOBS)}"),
    (None, 1, "set", f"unknown knob None; known: {', '.join(KNOBS)}"),
    ("lr", 11, "set", "lr: 11 is outside 0 to 10 (learning rate, 0 to 10)"),
    ("lr", -0.1, "replan", "lr: -0.1 is outside 0 to 10 (learning rate, 0 to 10)"),
    ("lr", float("nan"), "set", "lr: nan is outside 0 to 10 (learning rate, 0 to 10)"),
    ("lr", "inf", "set", "lr: inf is outside 0 to 10 (learning rate, 0 to 10)"),
    ("lr", True, "set", "lr: True is outside 0 to 10 (learning rate, 0 to 10)"),
    ("lr", "fast", "set", "lr: 'fast' is not a number (learning rate, 0 to 10)"),
    ("lr", None, "set", "lr: None is not a number (learning rate, 0 to 10)"),
    ("lr", 0.1, "warp", "lr: unknown mode 'warp'; lr knows set, scale, replan"),
    ("grad_clip", 1, "scale", "grad_clip: unknown mode 'scale'; grad_clip knows set"),
    ("weight_decay", 11, "set", "weight_decay: 11 is outside 0 to 10 (0 to 10)"),
    ("eval_every", 1.5, "set", "eval_every: 1.5 is not a whole number of steps (steps between evaluations, 0: off)"),
    ("checkpoint_every", -1, "set", "checkpoint_every: -1 is outside 0 to 1e+09 (steps between checkpoints, 0: off)"),
    (
        "betas",
        "0.9",
        "set",
        "betas: '0.9': give two numbers, such as 0.9,0.95 (two numbers below 1, such as 0.9,0.95)",
    ),
    ("betas", "0.9,1", "set", "betas: 1 is outside 0 to 0.999999 (two numbers below 1, such as 0.9,0.95)"),
    ("betas", 5, "set", "betas: 5: give two numbers, such as 0.9,0.95 (two numbers below 1, such as 0.9,0.95)"),
    (
        "batch_size",
        0,
        "set",
        "batch_size: 0 is outside 1 to 1.04858e+06 (sequences per rank and micro-step; keep: the same global batch)",
    ),
    ("batch_size", 4, "scale", "batch_size: unknown mode 'scale'; batch_size knows set, keep"),
    ("weights", "3", "set", "weights: '3': give one number for each corpus, such as 3,1 (shares of the corpora, such as 3,1)"),
    ("weights", "0,1", "set", "weights: 0 is outside 1e-06 to 1e+06 (shares of the corpora, such as 3,1)"),
    ("top_p", 0, "set", "top_p: 0 is outside 1e-06 to 1 (likeliest share to draw from, up to 1)"),
    ("prompt", "x" * 1001, "set", "prompt: give a text of at most 1000 characters (text that samples continue)"),
    ("prompt", 5, "set", "prompt: give a text of at most 1000 characters (text that samples continue)"),
]


@pytest.mark.parametrize(("name", "value", "mode", "message"), REFUSED)
def test_a_bad_edit_is_refused_with_its_range(name, value, mode, message):
    """The message names the knob, the value seen and what is allowed."""
    with pytest.raises(UsageError) as caught:
        check_edit(name, value, mode)
    assert str(caught.value) == message


def test_an_integer_beyond_all_floats_is_refused():
    """JSON can carry integers that no float holds; they are outside every range."""
    with pytest.raises(UsageError):
        check_edit("lr", 10**400)


def test_every_knob_is_a_field_of_the_config():
    """A knob's section and key exist, and the config's own value passes the knob's check."""
    for name, knob in KNOBS.items():
        value = getattr(getattr(RunConfig(), knob.section), knob.key) or (1.0, 2.0)  # the only empty default is a list's
        value = 0 if knob.key in ("top_k",) else value
        assert check_edit(name, value) == (name, value, "set")
