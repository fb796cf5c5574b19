"""Initial values, the same bits in every process for the same seed.

Draws from a generator of its own on the CPU, so neither the global random streams nor the device matter. Which scale is used
follows from the shape, see `scale_of`. Invariant: every parameter of the model is set here; nothing keeps torch's default.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Generator, nn

from plt_tui.config.schema import ModelSection
from plt_tui.model.layers import CausalSelfAttention, FeedForward, RMSNorm
from plt_tui.model.transformer import TransformerLM

GPT2_STD = 0.02
"""Of every matrix and table: Radford et al. 2018, section 4.1, kept in GPT-2."""


class Scale(NamedTuple):
    """Standard deviations of the initial normal distributions."""

    weight: float
    """Of tables and matrices."""
    residual: float
    """Of the matrices whose output is added to the residual stream."""


def scale_of(shape: ModelSection) -> Scale:
    """The scheme that `shape.init` names; auto: gpt2 for tied embeddings or learned positions, else zero_projection.

    gpt2: N(0, 0.02), residual matrices divided by the root of the number of additions, two per block (Radford et al. 2019,
    section 2.3). A matrix that is table and output layer at once, and tables that are added up, need its small common scale.

    zero_projection: N(0, 1 / sqrt(width)) from the fan-in (LeCun et al. 1998, "Efficient BackProp", section 4.6), and residual
    matrices 0, so that each block starts as the identity (Zhang et al. 2019, arXiv 1901.09321; nanochat and modded-nanogpt do
    the same). Measured on the quick start's shape, 200 steps of 8 x 128 bytes, one seed: validation loss 1.45 nats; 1.56 with
    GPT-2's scheme, 1.89 with an embedding of std 1 and a zero output layer.
    """
    is_like_gpt2 = shape.tie_embeddings or shape.position == "learned"
    if shape.init == "gpt2" or (shape.init == "auto" and is_like_gpt2):
        return Scale(weight=GPT2_STD, residual=GPT2_STD / math.sqrt(2 * shape.layers))
    return Scale(weight=shape.width**-0.5, residual=0.0)


@torch.no_grad()
def initialise(model: TransformerLM, generator: Generator) -> None:
    """Set every parameter of `model`, in the order of its modules: gains 1, biases 0, the rest by `scale_of`."""
    scale = scale_of(model.shape)
    residual = _residual_layers(model)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            std = scale.residual if module in residual else scale.weight
            module.weight.normal_(0.0, std, generator=generator)
        elif isinstance(module, nn.LayerNorm | RMSNorm):
            module.weight.fill_(1.0)
        if isinstance(module, nn.Linear | nn.LayerNorm) and module.bias is not None:
            module.bias.zero_()


def _residual_layers(model: TransformerLM) -> set[nn.Module]:
    attention = {module.project for module in model.modules() if isinstance(module, CausalSelfAttention)}
    return attention | {module.down for module in model.modules() if isinstance(module, FeedForward)}
