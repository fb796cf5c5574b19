"""How large a transformer is, from its shape alone: what the modules of `model` are made to.

Pure; knows no torch, so that a command can tell before anything is built. Invariant: `num_params` counts what the built model
has, weight by weight.
"""

from __future__ import annotations

import math

from plt_tui.config.schema import ModelSection


def ffn_width(shape: ModelSection) -> int:
    """Hidden size of the feed-forward part: `shape.ffn`, or 4 C, or for swiglu 8/3 C rounded up to a multiple of 32."""
    if shape.activation == "swiglu" and not shape.ffn:  # a third matrix: 8/3 keeps the number of weights
        return math.ceil(shape.width * 8 / 3 / 32) * 32
    return shape.ffn or 4 * shape.width


def num_params(shape: ModelSection, *, vocab_size: int, context: int) -> int:
    """Trainable parameters of the transformer of `shape` (not of a plug-in's model), a shared one counted once."""
    norm = shape.width * (2 if shape.norm == "layernorm" and shape.bias else 1)
    tables = vocab_size * (1 if shape.tie_embeddings else 2) + (context if shape.position == "learned" else 0)
    return shape.layers * (_attention(shape) + _feed_forward(shape) + 2 * norm) + norm + tables * shape.width


def _attention(shape: ModelSection) -> int:
    head_size = shape.width // shape.heads
    qkv = (shape.heads + 2 * (shape.kv_heads or shape.heads)) * head_size
    return _linear(shape.width, qkv, shape.bias) + _linear(shape.width, shape.width, shape.bias)


def _feed_forward(shape: ModelSection) -> int:
    hidden = ffn_width(shape)
    up = 2 * hidden if shape.activation == "swiglu" else hidden
    return _linear(shape.width, up, shape.bias) + _linear(hidden, shape.width, shape.bias)


def _linear(inputs: int, outputs: int, bias: bool) -> int:
    return inputs * outputs + (outputs if bias else 0)
