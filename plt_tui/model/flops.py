"""How much arithmetic a model takes: parameter counts and FLOPs per token.

Counts multiplications and additions of matrix products only, 2 per weight, as Chowdhery et al. 2022 (PaLM, arXiv 2204.02311,
appendix B) do for model FLOPs utilisation. Does not measure anything.
"""

from __future__ import annotations

from torch import nn

from plt_tui.model.base import LanguageModel
from plt_tui.model.transformer import TransformerLM


def num_params(model: nn.Module) -> int:
    """Trainable parameters, a shared one counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def matmul_params(model: TransformerLM) -> int:
    """Weights that every token is multiplied by: linear layers and the output layer, not the tables that are looked up."""
    linear = sum(module.weight.numel() for module in model.blocks.modules() if isinstance(module, nn.Linear))
    return linear + model.output_weight.numel()


def flops_per_token(model: LanguageModel, context: int) -> int:
    """Floating-point operations of forward and backward for one token in a sequence of `context`.

    6 N + 12 C S (PaLM appendix B): 2 per weight forward and 4 backward; attention's two products take 2 C S each, and twice
    that backward. S sums over the layers how many positions each looks at: T = `context`, or its window where that is shorter.
    T is not halved for causality, so that the figure compares with published ones. N counts the weights of `matmul_params`;
    nanoGPT's estimate has the same form. What activation checkpointing computes twice counts once. Of a plug-in's model only
    the parameters are known: 6 times their number, which leaves out its attention and counts its tables.
    """
    if not isinstance(model, TransformerLM):
        return 6 * num_params(model)
    seen = sum(min(window or context, context) for window in model.windows)
    return 6 * matmul_params(model) + 12 * model.shape.width * seen
