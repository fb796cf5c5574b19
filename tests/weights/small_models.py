"""Small models of every exportable kind, and their weights."""

from __future__ import annotations

from typing import Any

import torch

from plt_tui.config.blueprint import Blueprint
from plt_tui.config.schema import ModelSection
from plt_tui.model.build import build_model
from plt_tui.model.transformer import TransformerLM
from plt_tui.weights.bundle import Weights

CONTEXT = 12
VOCAB_SIZE = 257
GPT2 = {
    "norm": "layernorm",
    "position": "learned",
    "activation": "gelu",
    "qk_norm": False,
    "tie_embeddings": True,
    "bias": True,
}
LLAMA = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "qk_norm": False}
SIZES = {"layers": 2, "width": 32, "heads": 4}


def make_model(*, context: int = CONTEXT, vocab_size: int = VOCAB_SIZE, **keys: Any) -> TransformerLM:
    """A small model in which no parameter is zero or one."""
    shape = ModelSection.model_validate({**SIZES, **keys})
    model = build_model(shape, vocab_size=vocab_size, context=context, seed=1)
    assert isinstance(model, TransformerLM)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def weights_of(model: TransformerLM, tokenizer: dict[str, Any] | None = None) -> Weights:
    """The model's parameters as they would be read from disk."""
    of = Blueprint(shape=model.shape, context=model.context, vocab_size=model.vocab_size)
    tensors = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    return Weights(source="a test", tensors=tensors, blueprint=of, tokenizer=tokenizer or {"kind": "byte"})


def same_bits(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    """True when both hold the same names with the same shapes and bits, NaNs included."""
    return first.keys() == second.keys() and all(
        first[name].shape == second[name].shape and torch.equal(first[name].view(torch.int32), second[name].view(torch.int32))
        for name in first
    )
