"""The formulas of the papers, written plainly in float64: slow, obvious, and sharing no code with the package."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Zhang and Sennrich 2019, equation 4."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Ba et al. 2016, equation 4, with the population variance."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * weight + bias


def rotate(x: Tensor, start: int = 0, base: float = 10_000.0) -> Tensor:
    """Su et al. 2021, equation 15: one 2 x 2 rotation matrix per position and pair. `x`: (B, T, heads, D)."""
    out = torch.empty_like(x)
    head_size = x.shape[-1]
    for t in range(x.shape[1]):
        for pair in range(head_size // 2):
            angle = (start + t) * base ** (-2 * pair / head_size)
            matrix = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=x.dtype)
            out[:, t, :, 2 * pair : 2 * pair + 2] = x[:, t, :, 2 * pair : 2 * pair + 2] @ matrix.T
    return out


def causal_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, window: int = 0) -> Tensor:
    """Vaswani et al. 2017, equation 1, one query at a time over the last `window` positions (0: all). All (B, T, H, D)."""
    out = torch.empty_like(q)
    for t in range(q.shape[1]):
        seen = slice(max(0, t + 1 - window) if window else 0, t + 1)
        scores = torch.einsum("bhd,bshd->bhs", q[:, t], k[:, seen]) * scale
        out[:, t] = torch.einsum("bhs,bshd->bhd", torch.softmax(scores, -1), v[:, seen])
    return out


def summed_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float = 0.0) -> Tensor:
    """Minus the log of the softmax's value at the target, over all rows whose target is not -1, one row at a time."""
    total = torch.zeros((), dtype=hidden.dtype)
    for row, target in zip(hidden, targets.tolist(), strict=True):
        logits = weight @ row
        if softcap:
            logits = softcap * torch.tanh(logits / softcap)
        if target != -1:
            total = total - torch.log(torch.exp(logits)[target] / torch.exp(logits).sum())
    return total
