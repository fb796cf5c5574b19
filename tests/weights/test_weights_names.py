"""Promises of `weights.names`: renaming and reordering loses no bit in either direction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_models import GPT2, LLAMA, make_model, same_bits

from plt_tui.config.hf import family_of
from plt_tui.weights import names

SHAPES: dict[str, dict[str, Any]] = {
    "gpt2": GPT2,
    "gpt2-untied": {**GPT2, "tie_embeddings": False},
    "llama": LLAMA,
    "llama-gqa-tied": {**LLAMA, "kv_heads": 2, "tie_embeddings": True, "ffn": 48},
}


@pytest.mark.parametrize("keys", SHAPES.values(), ids=SHAPES)
def test_there_and_back_is_the_same_to_the_bit(keys: dict[str, Any]) -> None:
    """Ours to Hugging Face's to ours, and again to theirs."""
    model = make_model(**keys)
    family, ours = family_of(model.shape), {name: value.detach() for name, value in model.named_parameters()}
    theirs = names.to_hf(family, ours, model.shape)
    back = names.from_hf(family, theirs, model.shape)
    assert same_bits(back, ours)
    assert same_bits(names.to_hf(family, back, model.shape), theirs)
    assert sum(tensor.numel() for tensor in theirs.values()) == sum(tensor.numel() for tensor in ours.values())


def test_rotary_rows_go_from_pairs_to_halves() -> None:
    """Row 2i of a head becomes row i, row 2i + 1 becomes i + D / 2; the rows of values stay."""
    model = make_model(**LLAMA, layers=1, width=8, heads=2)
    rows = torch.arange(24.0).unsqueeze(1).expand(24, 8)
    tensors = {**dict(model.named_parameters()), "blocks.0.attention.qkv.weight": rows}
    theirs = names.to_hf("llama", tensors, model.shape)
    attention = "model.layers.0.self_attn"
    assert theirs[f"{attention}.q_proj.weight"][:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert theirs[f"{attention}.k_proj.weight"][:, 0].tolist() == [8, 10, 9, 11, 12, 14, 13, 15]
    assert theirs[f"{attention}.v_proj.weight"][:, 0].tolist() == list(range(16, 24))


def test_missing_biases_are_zeros_in_gpt2() -> None:
    """A GPT-2 of ours without biases gets all that Hugging Face's has."""
    model = make_model(**{**GPT2, "bias": False}, layers=1)
    theirs = names.to_hf("gpt2", dict(model.named_parameters()), model.shape)
    biases = {name: tensor for name, tensor in theirs.items() if name.endswith(".bias")}
    assert len(biases) == 7
    assert not any(tensor.any() for tensor in biases.values())
    assert biases["transformer.h.0.attn.c_attn.bias"].shape == (96,)


def test_old_files_are_cleaned() -> None:
    """Without prefix, with masks, and with the tied output layer written out."""
    model = make_model(**GPT2, layers=1)
    theirs = names.to_hf("gpt2", dict(model.named_parameters()), model.shape)
    old = {name.removeprefix("transformer."): tensor for name, tensor in theirs.items()}
    old |= {"h.0.attn.bias": torch.ones(1), "h.0.attn.masked_bias": torch.ones(1), "lm_head.weight": old["wte.weight"]}
    assert same_bits(names.cleaned("gpt2", old, model.shape), theirs)
