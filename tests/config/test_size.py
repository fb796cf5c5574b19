"""Sizes told from a shape against the models that are built of it."""

from __future__ import annotations

import pytest
import torch

from plt_tui.config.presets import PRESETS, model_preset
from plt_tui.config.schema import ModelSection
from plt_tui.config.size import ffn_width, num_params
from plt_tui.model import flops
from plt_tui.model.transformer import TransformerLM


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"width": 128}, 512),
        ({"width": 128, "activation": "swiglu"}, 352),
        ({"width": 768, "activation": "swiglu"}, 2048),
        ({"width": 128, "ffn": 100}, 100),
        ({"width": 128, "ffn": 100, "activation": "swiglu"}, 100),
    ],
)
def test_feed_forward_width_follows_the_documented_rule(keys: dict[str, object], expected: int) -> None:
    """4 C, 8/3 C rounded up to 32 for swiglu, or the given width."""
    assert ffn_width(ModelSection.model_validate(keys)) == expected


@pytest.mark.parametrize(
    "keys",
    [
        *({"preset": name, **model_preset(name)} for name in [*sorted(set(PRESETS) - {"depth:N"}), "depth:3"]),
        {"bias": True},
        {"bias": True, "norm": "layernorm", "kv_heads": 2},
        {"norm": "layernorm", "position": "learned"},
        {"tie_embeddings": True, "activation": "swiglu", "ffn": 77, "kv_heads": 1},
    ],
    ids=str,
)
def test_the_parameters_told_are_those_that_are_built(keys: dict[str, object]) -> None:
    """For every preset, and for each key that adds or shares weights."""
    shape = ModelSection.model_validate(keys)
    with torch.device("meta"):
        model = TransformerLM(shape, vocab_size=301, context=33)
    assert num_params(shape, vocab_size=301, context=33) == flops.num_params(model)
