"""Whether all ranks hold the same weights and moments, as they must: a flipped bit or a device that computes differently shows.

Costs one pass over them, so it is asked before every save and not at every step. Does not know which of two ranks is right.
Invariant: a checkpoint is only written of tensors that every rank has, bit for bit: a restart gives rank 0's to all of them.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from plt_tui.errors import PeerFailed, RankFailed
from plt_tui.training.ranks import Ranks

_MODULUS = 2**53 - 111
"""A prime: sums travel as float64, which is exact for integers below 2**53."""


def require_alike(ranks: Ranks, state: Iterable[Tensor], step: int) -> None:
    """Compare the weights and the optimizer's state after `step` steps with rank 0's. All ranks together.

    Raises: RankFailed on a rank that has others than rank 0, and PeerFailed on those that have the same, when there is one.
    """
    if ranks.world_size == 1:
        return
    own = bit_sum(state)
    differs = own != ranks.broadcast_int(own)
    if not ranks.sum([float(differs)])[0]:
        return
    if differs:
        raise RankFailed(
            f"weights or optimizer state of rank {ranks.rank} are not rank 0's after step {step}: a bit flipped in memory, or "
            "a device computes differently; nothing of this step is saved"
        )
    raise PeerFailed(f"weights or optimizer state of another rank are not these after step {step}; see its log")


def bit_sum(tensors: Iterable[Tensor]) -> int:
    """The bits of all elements, read as integers and added up: one flipped bit always changes it. 0 <= sum < 2**53."""
    sums = [part.sum(dtype=torch.int64) for tensor in tensors for part in _integers(tensor)]
    return sum(torch.stack(sums).tolist()) % _MODULUS if sums else 0


def _integers(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The bytes of `tensor` as int64, which add up at the speed of the memory, and those that are left."""
    content = tensor.detach().reshape(-1).view(torch.uint8)
    if content.storage_offset() % 8:  # a piece of a larger tensor, which int64 cannot be read from
        content = content.clone()
    whole = content.numel() // 8 * 8
    return content[:whole].view(torch.int64), content[whole:]
