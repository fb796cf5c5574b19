"""Point-wise functions with a backward pass of their own, because torch's are slower, or not those that are wanted.

RMS normalisation and squared ReLU are memory-bound: on one CPU thread at float32 (8 x 128 x 128 activations, torch 2.13) the
composites cost 380 and 830 us forward plus backward, these 240 and 260 us. Does not decide where they are used: `layers` and
`transformer` do. Invariant: values and gradients equal the textbook formulas to rounding.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse_rms = norm.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        normed = x * inverse_rms
        ctx.save_for_backward(normed, inverse_rms, weight)
        return normed if weight is None else normed * weight

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor | None, None]:
        # With n = x r and g = dL/dn:  dL/dx = r (g - n mean(g n)),  dL/dw = sum over rows of (dL/dy) n.
        normed, inverse_rms, weight = ctx.saved_tensors
        product = grad * normed
        if weight is None:
            along = product.mean(-1, keepdim=True)
            return torch.addcmul(grad, normed, along, value=-1).mul_(inverse_rms), None, None
        along = (product @ weight).unsqueeze(-1).div_(normed.shape[-1])
        grad_x = (grad * weight).addcmul_(normed, along, value=-1).mul_(inverse_rms)
        return grad_x, product.flatten(0, -2).sum(0), None


class _SquaredRelu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.clamp_min(0)
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return (grad * positive).mul_(2)


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: Tensor) -> Tensor:
        ctx.save_for_backward(factor)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.saved_tensors[0], None


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """Divide `x` by sqrt(mean(x^2) + eps) over the last axis, times `weight` (Zhang and Sennrich 2019, arXiv 1910.07467).

    `x`: (..., D); `weight`: (D,) or None. Elsewhere than in eager float32 on a CPU torch's own function is the faster one.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.compiler.is_compiling():
        return functional.rms_norm(x, (x.shape[-1],), weight, eps)
    normed: Tensor = _RmsNorm.apply(x, weight, eps)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return normed


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2, element by element (So et al. 2021, arXiv 2109.08668). torch.compile makes one pass of torch's own two."""
    if torch.compiler.is_compiling():
        return functional.relu(x).square()
    squared: Tensor = _SquaredRelu.apply(x)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return squared


def scaled_gradient(x: Tensor, factor: Tensor) -> Tensor:
    """`x` to the bit; the gradient that reaches it is multiplied by `factor`, a scalar on the CPU or where `x` is.

    The gradient of factor * x + (1 - factor) * stop_gradient(x) (GLM-130B: Zeng et al. 2022, arXiv 2210.02414, section 2.1),
    whose value differs from `x` in the last bits. torch.compile makes one pass of a sum that leaves finite values as they are.
    """
    if torch.compiler.is_compiling():
        constant = x.detach()
        return constant + (x - constant) * factor
    same: Tensor = _ScaledGradient.apply(x, factor)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return same
