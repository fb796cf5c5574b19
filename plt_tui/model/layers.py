"""The parts of a transformer block: norms, rotary positions, causal self attention, feed-forward.

Knows nothing of blocks, losses, initial values or training. Every part is a pure function of its weights and its input: none
has a buffer, so data-parallel wrappers have nothing to broadcast and checkpoints hold weights only.

Sizes: B sequences, T positions, C width, H query heads, K key-value heads, D head size, F feed-forward width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from plt_tui.config.schema import ModelSection
from plt_tui.config.size import ffn_width
from plt_tui.model.kernels import rms_norm, squared_relu

QK_NORM_LOGIT = 14.0
"""Largest attention logit when queries and keys are normalised: log2(T^2 - T) at T = 128 (Henry et al. 2020, arXiv 2010.04245).
The usual 1 / sqrt(D) would cap it at sqrt(D), too flat a softmax for small heads: measured at D = 32, 200 steps of
the quick start on 1 thread, validation loss 1.62 nats with 5.7, 1.55 with 11.5."""


class RMSNorm(nn.Module):
    """Root-mean-square normalisation over the last axis, with a gain."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        return rms_norm(x, self.weight, self.eps)


def make_norm(shape: ModelSection) -> nn.Module:
    """The norm that `shape` names, over its width."""
    if shape.norm == "rmsnorm":
        return RMSNorm(shape.width, shape.norm_eps)
    return nn.LayerNorm(shape.width, eps=shape.norm_eps, bias=shape.bias)


def rotary_table(start: int, length: int, head_size: int, base: float, device: torch.device) -> Tensor:
    """Cosines and sines of the angles of positions `start` to `start + length` (exclusive): float32 (T, 1, D / 2, 2).

    Pair i turns by base^(-2i / D) per position (Su et al. 2021, arXiv 2104.09864, section 3.2.2). Made anew in every forward
    pass: at (128, 32) it takes 30 us, and a cached one would be a buffer.
    """
    exponents = torch.arange(0, head_size, 2, dtype=torch.float32, device=device) / head_size
    positions = torch.arange(start, start + length, dtype=torch.float32, device=device)
    angles = torch.outer(positions, base**-exponents)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).unsqueeze(1)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Turn each pair (x[2i], x[2i + 1]) of every head by its position's angle: float32 (B, T, heads, D) to the same.

    The interleaved pairs of the paper; Hugging Face's Llama pairs (i, i + D / 2), which is a permutation of the rows of the
    query and key weights.
    """
    pairs = torch.unflatten(x, -1, (-1, 2))
    if torch.compiler.is_compiling():  # the inductor generates no code for complex numbers
        return _rotate_real(pairs, table).flatten(-2)
    # One complex product is 3 times as fast on a CPU as four real ones on strided halves.
    return torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(table)).flatten(-2)


def _rotate_real(pairs: Tensor, table: Tensor) -> Tensor:
    first, second = pairs.unbind(-1)
    cos, sin = table.unbind(-1)
    return torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)


def layer_windows(shape: ModelSection) -> tuple[int, ...]:
    """How many positions each layer attends to, its own included; 0: all earlier ones. The last layer always sees them all."""
    last = shape.layers - 1
    is_short = [shape.window_pattern[i % len(shape.window_pattern)] == "S" and i != last for i in range(shape.layers)]
    return tuple(shape.window if short else 0 for short in is_short)


def window_mask(start: int, length: int, window: int, device: torch.device) -> Tensor | None:
    """Which keys the queries at `start` to `start + length` (exclusive) see: bool (T, start + T), True where they do.

    None where causality alone says it: there is no window, or it holds everything (Beltagy et al. 2020, arXiv 2004.05150,
    section 3.1: a position sees itself and the window - 1 before it).
    """
    stop = start + length
    if not 0 < window < stop:
        return None
    keys = torch.arange(stop, device=device)
    distance = keys[start:, None] - keys
    return (distance >= 0) & (distance < window)


class KeyValues:
    """Keys and values of the positions one attention layer has seen: (B, T, K, D) each, room for `context` positions."""

    def __init__(self, context: int) -> None:
        self.context = context
        self.length = 0
        self._keys = torch.empty(0)
        self._values = torch.empty(0)

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Append (B, T, K, D) and return all that is held. The caller keeps the sum of all T within `context`."""
        if self.length == 0:
            room = (keys.shape[0], self.context, *keys.shape[2:])
            self._keys, self._values = keys.new_empty(room), values.new_empty(room)
        stop = self.length + keys.shape[1]
        self._keys[:, self.length : stop] = keys
        self._values[:, self.length : stop] = values
        self.length = stop
        return self._keys[:, :stop], self._values[:, :stop]


class CausalSelfAttention(nn.Module):
    """Multi-head or grouped-query attention (Ainslie et al. 2023, arXiv 2305.13245) in which no position sees a later one."""

    def __init__(self, shape: ModelSection) -> None:
        super().__init__()
        self.heads = shape.heads
        self.kv_heads = shape.kv_heads or shape.heads
        self.head_size = shape.width // shape.heads
        self.dropout = shape.dropout
        self.qk_norm = shape.qk_norm
        self.norm_eps = shape.norm_eps
        self.scale = attention_scale(shape)
        self.qkv = nn.Linear(shape.width, (self.heads + 2 * self.kv_heads) * self.head_size, bias=shape.bias)
        self.project = nn.Linear(shape.width, shape.width, bias=shape.bias)

    def forward(self, x: Tensor, rotary: Tensor | None, mask: Tensor | None = None, past: KeyValues | None = None) -> Tensor:
        """(B, T, C) to (B, T, C). `rotary`: table of these T positions; `mask`: from `window_mask`; `past`: empty, or T = 1."""
        assert past is None or past.length == 0 or x.shape[1] == 1, "only one position can follow cached ones"
        heads = self.qkv(x).unflatten(-1, (-1, self.head_size))
        # Queries and keys are normalised and rotated as one tensor: half the passes, and one join in the backward pass.
        q_k, v = heads.split((self.heads + self.kv_heads, self.kv_heads), dim=2)
        if self.qk_norm:
            q_k = rms_norm(q_k.float(), None, self.norm_eps)
        if rotary is not None:
            q_k = rotate(q_k.float(), rotary)
        q, k = q_k.to(v.dtype).split((self.heads, self.kv_heads), dim=2)
        if past is not None:
            k, v = past.extend(k, v)
        projected: Tensor = self.project(self._mix(q, k, v, mask).flatten(2))
        return projected

    def _mix(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """Values of the positions that each query attends to, averaged: (B, T, H, D)."""
        if mask is not None and self.kv_heads != self.heads:  # no fast GPU kernel takes both a mask and grouped queries
            k, v = (part.repeat_interleave(self.heads // self.kv_heads, dim=2) for part in (k, v))
        mixed = functional.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=mask is None and q.shape[1] > 1,  # a single query is the newest position: it sees all keys
            scale=self.scale,
            enable_gqa=mask is None and self.kv_heads != self.heads,
        )
        return mixed.transpose(1, 2)


def attention_scale(shape: ModelSection) -> float:
    """Factor of the dot products: 1 / sqrt(D), or QK_NORM_LOGIT / D with normalised queries and keys."""
    head_size = shape.width // shape.heads
    return QK_NORM_LOGIT / head_size if shape.qk_norm else head_size**-0.5


class FeedForward(nn.Module):
    """Two linear layers with squared ReLU, GELU or SwiGLU (Shazeer 2020, arXiv 2002.05202) between."""

    def __init__(self, shape: ModelSection) -> None:
        super().__init__()
        hidden = ffn_width(shape)
        self.activation = shape.activation
        self.up = nn.Linear(shape.width, 2 * hidden if shape.activation == "swiglu" else hidden, bias=shape.bias)
        self.down = nn.Linear(hidden, shape.width, bias=shape.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) to (..., C)."""
        out: Tensor = self.down(_activate(self.activation, self.up(x)))
        return out


def _activate(activation: str, x: Tensor) -> Tensor:
    if activation == "relu2":
        return squared_relu(x)
    if activation == "gelu":
        return functional.gelu(x, approximate="tanh")  # GPT-2's form (Hendrycks and Gimpel 2016, arXiv 1606.08415, section 2)
    gate, value = x.chunk(2, dim=-1)
    return functional.silu(gate) * value
