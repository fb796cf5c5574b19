"""A model and a dataset of your own: the worked example of docs/plugins.md."""

import random
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from plt_tui import LanguageModel, ModelSection


class Averager(LanguageModel):
    """Every position sees an average of those before it that fades by `decay` a step, then a feed-forward layer."""

    def __init__(self, shape: ModelSection, *, vocab_size: int, context: int, decay: float) -> None:
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.decay = decay
        self.embedding = nn.Embedding(vocab_size, shape.width)
        self.mix = nn.Sequential(nn.Linear(2 * shape.width, 512), nn.GELU(), nn.Linear(512, shape.width))
        self.head = nn.Linear(shape.width, vocab_size, bias=False)

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V) of int64 (B, T)."""
        x = self.embedding(ids)
        steps = torch.arange(ids.shape[1], device=ids.device)
        fading = self.decay ** (steps[:, None] - steps[None, :]).clamp_min(0)
        weights = torch.tril(fading) / torch.tril(fading).sum(-1, keepdim=True)
        return self.head(self.mix(torch.cat((x, weights @ x), dim=-1)))


def build(shape: ModelSection, *, vocab_size: int, context: int, argument: str) -> Averager:
    """`model.arch = "averager"` or `"averager:0.9"`: the argument is the decay."""
    return Averager(shape, vocab_size=vocab_size, context=context, decay=float(argument or 0.8))


def sums(argument: str) -> Iterator[str]:
    """`data.train = "plugin:sums"` or `"plugin:sums:500"`: so many small sums, one document each."""
    numbers = random.Random(1)
    for _ in range(int(argument or 2000)):
        first, second = numbers.randrange(100), numbers.randrange(100)
        yield f"{first} + {second} = {first + second}\n"


MODELS = {"averager": build}
DATASETS = {"sums": sums}
