"""How much arithmetic a model takes: parameter counts and FLOPs per token.

Counts multiplications and additions of matrix products only, 2 per weight, as Chowdhery et al. 2022 (PaLM, arXiv 2204.02311,
appendix B) do for model FLOPs utilisation. Does not measure anything.
"""

from __future__ import annotations

from torch import nn

from plt_tui.model.transformer import TransformerLM


def num_params(model: nn.Module) -> int:
    """Trainable parameters, a shared one counted once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def matmul_params(model: TransformerLM) -> int:
    """Weights that every token is multiplied by: linear layers and the output layer, not the tables that are looked up."""
    linear = sum(module.weight.numel() for module in model.blocks.modules() if isinstance(module, nn.Linear))
    return linear + model.output_weight.numel()


def flops_per_token(model: TransformerLM, context: int) -> int:
    """Floating-point operations of forward and backward for one token in a sequence of `context`.

    6 N + 12 L H D T (PaLM appendix B): 2 per weight forward and 4 backward; attention's two products take 2 T H D each, and
    twice that backward. T is not halved for causality, so that the figure compares with published ones. N counts the weights of
    `matmul_params`; nanoGPT's estimate has the same form.
    """
    return 6 * matmul_params(model) + 12 * model.shape.layers * model.shape.width * context
