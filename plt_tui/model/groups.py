"""Which parameters weight decay shrinks, and which an optimizer for matrices may orthogonalise.

Does not set learning rates. Invariant: the groups of a model together hold every trainable parameter exactly once, each in the
model's order.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from torch import nn

from plt_tui.model.base import LanguageModel
from plt_tui.model.layers import CausalSelfAttention, FeedForward


class Matrix(NamedTuple):
    """A parameter that multiplies activations inside the model."""

    parameter: nn.Parameter
    """(R, C)."""
    rows: tuple[int, ...]
    """Rows of the matrices that are stacked in it, one below the other: their sum is R."""


def decay_groups(model: LanguageModel, but: Collection[nn.Parameter] = ()) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters to decay, and those not to, without the ones in `but`.

    Decayed: the matrices that multiply activations. Not decayed: gains and biases, where shrinking towards 0 only removes
    capacity (as in GPT-2's successors), and lookup tables, because a row gets a gradient only when its token occurs but would
    shrink at every step (so OLMo 2, arXiv 2501.00656). A tied embedding is the output matrix too and decays.
    """
    left_out, tables = _identities(but), _identities(model.table_parameters())
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in left_out:
            is_matrix = parameter.ndim >= 2 and id(parameter) not in tables
            (decayed if is_matrix else kept).append(parameter)
    return decayed, kept


def hidden_matrices(model: LanguageModel) -> list[Matrix]:
    """The matrices between lookup tables and output layer, which map one hidden state to another; all of them decay.

    A projection that computes several things in one product counts as the matrices it is made of: queries, keys and values,
    and SwiGLU's gate and value. A parameter of more than two axes is none.
    """
    output, stacks = _identities(model.output_parameters()), _stacks(model)
    return [
        Matrix(parameter, stacks.get(id(parameter), (parameter.shape[0],)))
        for parameter in decay_groups(model)[0]
        if parameter.ndim == 2 and id(parameter) not in output
    ]


def _stacks(model: LanguageModel) -> dict[int, tuple[int, ...]]:
    """Rows of the matrices in each stacked parameter, by the parameter's identity."""
    stacks: dict[int, tuple[int, ...]] = {}
    for module in model.modules():
        if isinstance(module, CausalSelfAttention):
            keys = module.kv_heads * module.head_size
            stacks[id(module.qkv.weight)] = (module.heads * module.head_size, keys, keys)
        elif isinstance(module, FeedForward) and module.activation == "swiglu":
            half = module.up.weight.shape[0] // 2
            stacks[id(module.up.weight)] = (half, half)
    return stacks


def _identities(parameters: Collection[nn.Parameter]) -> set[int]:
    return {id(parameter) for parameter in parameters}
