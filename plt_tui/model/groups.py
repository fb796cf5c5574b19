"""Which parameters weight decay shrinks.

Does not set learning rates. Invariant: the two groups together hold every trainable parameter exactly
once, in the model's order.
"""

from __future__ import annotations

from torch import nn

from plt_tui.model.transformer import TransformerLM


def decay_groups(model: TransformerLM) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Parameters to decay, and those not to.

    Decayed: the matrices that multiply activations. Not decayed: gains and biases, where shrinking towards 0 only removes
    capacity (as in GPT-2's successors), and lookup tables, because a row gets a gradient only when its token occurs but would
    shrink at every step (so OLMo 2, arXiv 2501.00656). A tied embedding is the output matrix too and decays.
    """
    tables = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)} - {id(model.output_weight)}
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in model.parameters():
        if parameter.requires_grad:
            is_matrix = parameter.ndim >= 2 and id(parameter) not in tables
            (decayed if is_matrix else kept).append(parameter)
    return decayed, kept
