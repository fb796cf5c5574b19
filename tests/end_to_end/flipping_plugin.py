"""A small model in which, once armed, a bit of one weight flips on rank 1: what a bad memory cell does to a run.

Not a test: `test_divergence` hands this file to runs. It is armed by a file whose path stands in FLIP_WHEN.
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from plt_tui import LanguageModel, ModelSection


class Flipping(LanguageModel):
    """A bigram model: the next token depends on the last one only."""

    def __init__(self, shape: ModelSection, *, vocab_size: int, context: int) -> None:
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.embedding = nn.Embedding(vocab_size, shape.width)
        self.head = nn.Linear(shape.width, vocab_size, bias=False)

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V) of int64 (B, T)."""
        if torch.is_grad_enabled() and dist.is_initialized() and dist.get_rank() == 1:
            armed = Path(os.environ["FLIP_WHEN"])
            if armed.exists():
                armed.rename(armed.with_suffix(".fired"))
                self.head.weight.data.view(torch.int32)[0, 0] ^= 1 << 20  # the last bit could be rounded away again
        return self.head(self.embedding(ids))


def build(shape: ModelSection, *, vocab_size: int, context: int, argument: str) -> Flipping:
    """`model.arch = "flipping"`."""
    return Flipping(shape, vocab_size=vocab_size, context=context)


MODELS = {"flipping": build}
