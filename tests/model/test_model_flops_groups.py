"""FLOP counts against torch's counter, and the two parameter groups of weight decay."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from plt_tui.config.schema import ModelSection
from plt_tui.model.flops import flops_per_token, matmul_params, num_params
from plt_tui.model.groups import decay_groups
from plt_tui.model.init import build_model

TINY = {"layers": 2, "width": 32, "heads": 4}


def test_flops_formula_by_hand() -> None:
    """6 N + 12 L C T with the weights of a small model counted by hand."""
    model = build_model(ModelSection(**TINY), vocab_size=50, context=16, seed=0)
    weights = 2 * (4 * 32 * 32 + 8 * 32 * 32) + 50 * 32
    assert matmul_params(model) == weights
    assert num_params(model) == weights + 50 * 32 + 5 * 32
    assert flops_per_token(model, 16) == 6 * weights + 12 * 2 * 32 * 16


@pytest.mark.parametrize(
    "keys", [{}, {"tie_embeddings": True, "position": "learned"}, {"activation": "swiglu", "qk_norm": False}, {"kv_heads": 2}]
)
def test_flops_equal_what_torch_counts(keys: dict[str, object]) -> None:
    """The formula equals the matrix products that one forward and backward really dispatch."""
    model = build_model(ModelSection.model_validate({**TINY, **keys}), vocab_size=50, context=16, seed=0)
    ids = torch.zeros(3, 16, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids, ids).backward()
    assert counter.get_total_flops() == 3 * 16 * flops_per_token(model, 16)


def _names(keys: dict[str, object]) -> tuple[set[str], set[str]]:
    model = build_model(ModelSection.model_validate({**TINY, "layers": 1, **keys}), vocab_size=50, context=16, seed=0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = ([names[id(parameter)] for parameter in group] for group in decay_groups(model))
    assert sorted(decayed + kept) == sorted(names.values())
    return set(decayed), set(kept)


def test_matrices_decay_and_gains_and_tables_do_not() -> None:
    """Every parameter is in exactly one group: linear layers decay, norms and lookup tables are kept."""
    decayed, kept = _names({"position": "learned"})
    assert decayed == {
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.project.weight",
        "blocks.0.ffn.up.weight",
        "blocks.0.ffn.down.weight",
        "head.weight",
    }
    assert {"embedding.weight", "positions.weight", "norm.weight"} <= kept


def test_a_tied_embedding_decays_and_biases_do_not() -> None:
    """The tied table is the output matrix; biases are vectors."""
    decayed, kept = _names({"tie_embeddings": True, "bias": True, "norm": "layernorm"})
    assert "embedding.weight" in decayed
    assert {"blocks.0.attention.qkv.bias", "norm.bias"} <= kept


def test_frozen_parameters_are_in_no_group() -> None:
    """What does not train is not handed to the optimizer."""
    model = build_model(ModelSection(**TINY), vocab_size=50, context=16, seed=0)
    model.embedding.weight.requires_grad_(requires_grad=False)
    assert all(parameter is not model.embedding.weight for group in decay_groups(model) for parameter in group)
    assert num_params(model) == sum(p.numel() for p in model.parameters()) - 50 * 32
