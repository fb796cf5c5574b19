"""Muon: momentum whose matrices are orthogonalised before they are applied (Jordan et al. 2024,
https://kellerjordan.github.io/posts/muon/).

Knows nothing of models: it is told which parameters are matrices and which of them are stacks of several. Ranks share the
orthogonalisation, by far the largest part of a step, and exchange the results. Invariant: momenta come from averaged gradients
on every rank and each update from one rank, so weights and state have the same bits on all ranks.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from plt_tui.model.groups import Matrix
from plt_tui.training.moments import State, moments
from plt_tui.training.ranks import Ranks

STATE_NAMES = ("momentum",)
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x^3 and x^5: five rounds take singular values of 0.01 to 1 into about 0.7 to 1.2 (Jordan et al. 2024)."""
ROUNDS = 5
UPDATE_RMS = 0.2
"""Root mean square of an update: AdamW's usual one, so that one learning rate serves both (Liu et al. 2025, arXiv 2502.16982,
section 2.2)."""
MAX_BATCH = 2**24
"""Most numbers in one batched product (64 MiB in float32), but never less than one matrix: bounds the memory of a step."""
MIN_SHARED_FLOPS = 2e8
"""Ranks share the work from here on. Below, the exchange takes as long as it saves: measured on 2 ranks with a core each over
gloo, 2 ms were lost at 4e7, nothing was won at 3e8, a third to two thirds of the step were won from 1e9 (width 96) on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """One matrix to orthogonalise: some rows of a parameter."""

    parameter: int
    """Place in the list of parameters."""
    start: int
    stop: int
    columns: int

    @property
    def shape(self) -> tuple[int, int]:
        """Shorter and longer side."""
        rows = self.stop - self.start
        return min(rows, self.columns), max(rows, self.columns)

    @property
    def flops(self) -> int:
        """Floating-point operations of its orthogonalisation."""
        short, long = self.shape
        return ROUNDS * 2 * short * short * (2 * long + short)

    def of(self, tensor: Tensor) -> Tensor:
        """Its rows of a tensor that is shaped as the parameter, the shorter side first; a view."""
        rows: Tensor = tensor[self.start : self.stop]
        return rows.mT if self.stop - self.start > self.columns else rows


@dataclass(frozen=True, slots=True)
class Batch:
    """Pieces of one shape, orthogonalised in one batched product."""

    pieces: tuple[Piece, ...]
    out: Tensor
    """Where the updates go: (pieces, shorter side, longer side)."""


class Muon:
    """One group, whose lr, momentum and weight_decay (decoupled) are read at every step; `settings` are its first values."""

    def __init__(self, matrices: Sequence[Matrix], settings: Mapping[str, Any], ranks: Ranks) -> None:
        self.param_groups: list[dict[str, Any]] = [{"params": [matrix.parameter for matrix in matrices], **settings}]
        self.state: State = State(dict)
        shares = share_out(pieces_of(matrices), ranks.world_size)
        size = max(sum(math.prod(piece.shape) for piece in share) for share in shares)
        # Equal shares, because a gather sends the same from each rank; the rest of a smaller one stays 0.
        self._updates = torch.zeros(len(shares), size, dtype=agreed_dtype(ranks), device=ranks.device)
        self._batches = [list(batches_of(share, out)) for share, out in zip(shares, self._updates, strict=True)]
        self._own = ranks.rank if len(shares) > 1 else 0
        self._ranks = ranks

    @torch.no_grad()
    def step(self) -> None:
        """Update every matrix from its gradient. All ranks."""
        (group,) = self.param_groups
        parameters = group["params"]
        gradients = [parameter.grad for parameter in parameters]
        momenta = moments(self.state, "momentum", parameters)
        torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
        self._orthogonalise_own(gradients, momenta, group["momentum"])
        if len(self._updates) > 1:
            self._ranks.gather(self._updates)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        self._apply(parameters, group["lr"])

    def _orthogonalise_own(self, gradients: Sequence[Tensor], momenta: Sequence[Tensor], momentum: float) -> None:
        """This rank's share of the updates, from Nesterov's look-ahead: the momentum moved once more by the same gradient."""
        for batch in self._batches[self._own]:
            direction = torch.stack([piece.of(momenta[piece.parameter]) for piece in batch.pieces])
            direction.lerp_(torch.stack([piece.of(gradients[piece.parameter]) for piece in batch.pieces]), 1 - momentum)
            batch.out.copy_(orthogonalised(direction, self._updates.dtype))

    def _apply(self, parameters: Sequence[Tensor], lr: float) -> None:
        for batch in itertools.chain.from_iterable(self._batches):
            _, long = batch.pieces[0].shape
            step_size = lr * UPDATE_RMS * math.sqrt(long)
            for piece, update in zip(batch.pieces, batch.out, strict=True):
                piece.of(parameters[piece.parameter]).add_(update, alpha=-step_size)


def orthogonalised(stack: Tensor, dtype: torch.dtype) -> Tensor:
    """Each matrix U S V^T of `stack` as about U V^T: float32 (N, R, C) with R <= C to the same in `dtype`.

    A Newton-Schulz iteration needs singular values of at most 1: the Frobenius norm bounds them. A zero matrix stays 0.
    """
    a, b, c = NEWTON_SCHULZ
    x: Tensor = (stack / (torch.linalg.matrix_norm(stack, keepdim=True) + 1e-7)).to(dtype)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def agreed_dtype(ranks: Ranks) -> torch.dtype:
    """`product_dtype` where it is the same on all ranks, which may sit on different machines; else float32. All ranks."""
    own = product_dtype(ranks.device)
    (num_fast,) = ranks.sum([float(own == torch.bfloat16)])
    return own if num_fast in (0, ranks.world_size) else torch.float32


def product_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where its matrix products are fast (Jordan et al. 2024 use it throughout), else float32.

    A CPU without instructions for them emulates them at a tenth of float32's speed. With AVX512-BF16 the rounds took 0.38 to
    0.49 of float32's time at widths 128 to 512.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    capabilities: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # absent from older torch
    is_fast = capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")
    return torch.bfloat16 if is_fast else torch.float32


def pieces_of(matrices: Sequence[Matrix]) -> list[Piece]:
    """The matrices of all stacks."""
    pieces = []
    for index, (parameter, rows) in enumerate(matrices):
        stops = list(itertools.accumulate(rows))
        for start, stop in zip([0, *stops], stops, strict=False):
            pieces.append(Piece(parameter=index, start=start, stop=stop, columns=parameter.shape[1]))
    return pieces


def share_out(pieces: Sequence[Piece], num_ranks: int) -> list[list[Piece]]:
    """The pieces of each rank, about equal work for each; one share for all when there is too little to share.

    The largest first, each to the rank that has least: at most 4/3 of the best possible (Graham 1969, "Bounds on
    multiprocessing timing anomalies", theorem 2). Depends on sizes only, never on time: the bits of a batched product may
    depend on which matrices are in it.
    """
    if num_ranks == 1 or sum(piece.flops for piece in pieces) < MIN_SHARED_FLOPS:
        return [list(pieces)]
    shares: list[list[Piece]] = [[] for _ in range(num_ranks)]
    loads = [0] * num_ranks
    for piece in sorted(pieces, key=lambda piece: -piece.flops):
        least = loads.index(min(loads))
        shares[least].append(piece)
        loads[least] += piece.flops
    return shares


def batches_of(share: Sequence[Piece], out: Tensor) -> Iterator[Batch]:
    """The pieces of each shape together, their results one after the other in the flat `out`."""
    start = 0
    for shape, group in itertools.groupby(sorted(share, key=lambda piece: piece.shape), key=lambda piece: piece.shape):
        same = list(group)
        size = math.prod(shape)
        most = max(1, MAX_BATCH // size)
        for first in range(0, len(same), most):
            some = tuple(same[first : first + most])
            stop = start + len(some) * size
            yield Batch(some, out[start:stop].view(len(some), *shape))
            start = stop
