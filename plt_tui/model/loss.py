"""Cross-entropy of the next token, also for vocabularies whose logits would not fit in memory.

Knows tensors only, no model. Invariant: `output_cross_entropy` has the value and the gradients of `cross_entropy` over all
logits, to rounding, whichever way it takes.

Sizes: N positions, C width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

IGNORED = -1
"""Target of a position that does not count: padding."""
CPU_CHUNK = 2**22
"""Most logits that are held at once on a CPU (16 MiB in float32), but never less than one row.

Measured on one thread, forward and backward, all at once against chunks of 2^22: 1024 positions, width 128, vocabulary 50257:
924 and 771 ms; 4096, 128, 4096: 231 and 190 ms; 1024, 768, 50257: 3.1 and 3.4 s. Up to one chunk both take the same."""
GPU_CHUNK = 2**26
"""The same elsewhere: rows enough for products that compute more than they load. From the roofline, not measured: a chunk of r
rows does 6 r operations and moves 14 bytes per weight, which balance at r = 700 on an H100; 2^26 / 50257 is 1335."""
_SCALED_SUM = 2.0**10
"""Bound of the sums over a chunk's rows: far below float16's largest value, 65504, and far above its smallest."""


def cross_entropy(logits: Tensor, targets: Tensor, normalizer: Tensor | None = None) -> Tensor:
    """Summed cross-entropy over all targets that are not IGNORED, divided by `normalizer`: a scalar, nats.

    `logits`: (..., V); `targets`: int64 (...). The default normalizer is the number of such targets: NaN when there is none.
    Computed in float32, or in float64 when the logits are.
    """
    rows, expected = _at_least_float32(logits).flatten(0, -2), targets.flatten()
    if normalizer is None:
        return functional.cross_entropy(rows, expected, ignore_index=IGNORED)
    return functional.cross_entropy(rows, expected, ignore_index=IGNORED, reduction="sum") / normalizer


def softcapped(logits: Tensor, softcap: float) -> Tensor:
    """The logits x as softcap * tanh(x / softcap), in at least float32 (Gemma 2, arXiv 2408.00118, section 2); 0: unchanged."""
    return torch.tanh(_at_least_float32(logits) / softcap) * softcap if softcap else logits


def output_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, normalizer: Tensor | None = None, *, softcap: float = 0.0
) -> Tensor:
    """`cross_entropy` of the logits `hidden @ weight.T`, soft-capped: without ever holding more than a chunk of them.

    `hidden`: (..., C); `weight`: (V, C); `targets`: int64 (...). Up to one chunk the logits are made as a whole. So they are
    under torch.compile, whose fused kernels would be cut apart by a loop.
    """
    chunk_rows = max(1, (CPU_CHUNK if hidden.device.type == "cpu" else GPU_CHUNK) // weight.shape[0])
    if targets.numel() <= chunk_rows or torch.compiler.is_compiling():
        return cross_entropy(softcapped(functional.linear(hidden, weight), softcap), targets, normalizer)
    rows, expected = hidden.flatten(0, -2), targets.flatten()
    if normalizer is None:
        normalizer = (expected != IGNORED).sum()
    if torch.is_grad_enabled():
        total: Tensor = _ChunkedSum.apply(rows, weight, expected, softcap, chunk_rows)  # type: ignore[no-untyped-call]
        return total / normalizer
    parts = zip(torch.split(rows, chunk_rows), torch.split(expected, chunk_rows), strict=True)
    return torch.stack([output_cross_entropy(h, weight, t, normalizer, softcap=softcap) for h, t in parts]).sum()


class _ChunkedSum(torch.autograd.Function):
    """Summed cross-entropy, chunk by chunk; the gradients are made in the forward pass, while a chunk's logits are there.

    They are gradients of a sum, so that the factor that arrives in the backward pass (1 / normalizer, times the loss scale of
    float16) comes on top; and scaled by a power of two, so that products in float16 neither overflow nor vanish before it does.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, softcap: float, chunk_rows: int) -> Tensor:
        kind = hidden.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
        ctx.scale = _power_of_two(_SCALED_SUM / chunk_rows)
        total = hidden.new_zeros((), dtype=torch.promote_types(dtype, torch.float32))
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        with torch.autocast(kind, enabled=False):
            output = weight.to(dtype)
            for start in range(0, len(hidden), chunk_rows):
                chunk = slice(start, start + chunk_rows)
                inputs = hidden[chunk].to(dtype)
                loss, grad = _chunk(inputs @ output.t(), targets[chunk], softcap, ctx.scale)
                total += loss
                grad_hidden[chunk] = grad @ output
                _add_product(grad_weight, grad.t(), inputs)
        ctx.save_for_backward(grad_hidden, grad_weight)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        grad_hidden, grad_weight = ctx.saved_tensors
        factor = grad_total / ctx.scale
        return _times(grad_hidden, factor), _times(grad_weight, factor), None, None, None


def _chunk(logits: Tensor, targets: Tensor, softcap: float, scale: float) -> tuple[Tensor, Tensor]:
    """Loss sum of some rows, and `scale` times its gradient by their raw logits in their type. Overwrites `logits`.

    With x the capped logits: L = sum over rows of logsumexp(x) - x[target], dL/dx = softmax(x) - onehot(target).
    """
    raw_dtype, counts = logits.dtype, targets != IGNORED
    capped = _at_least_float32(logits)
    tanh = capped.div_(softcap).tanh_() if softcap else None
    if tanh is not None:
        capped = tanh * softcap
    index = targets.clamp_min(0).unsqueeze(1)
    log_sum = capped.logsumexp(1, keepdim=True)
    loss = torch.where(counts, (log_sum - capped.gather(1, index)).squeeze(1), 0.0).sum()
    grad = capped.sub_(log_sum).exp_()
    grad.scatter_add_(1, index, grad.new_full(index.shape, -1.0))
    grad.mul_((counts * scale).unsqueeze(1))
    if tanh is not None:
        grad.mul_(tanh.square_().neg_().add_(1.0))
    return loss, grad.to(raw_dtype)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to `total`, in one pass where the types are the same."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)


def _times(x: Tensor, factor: Tensor) -> Tensor:
    """The product in the type of `x`, computed in float32 where the factor itself might be out of range."""
    return (_at_least_float32(x) * factor).to(x.dtype)


def _power_of_two(value: float) -> float:
    """The power of two just below `value`: a factor that changes no digit."""
    return float(2.0 ** math.floor(math.log2(value)))


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
