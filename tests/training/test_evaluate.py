"""Evaluation of models whose figures are known beforehand."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from plt_tui.config.schema import ModelSection
from plt_tui.data.cursor import EvalWindows
from plt_tui.model.base import LanguageModel
from plt_tui.training.evaluate import evaluate, spread
from plt_tui.training.ranks import Ranks

VOCAB, CONTEXT = 8, 4
TOKENS = np.array([0, 1, 2, 3] * 25, dtype=np.uint16)
"""24 windows of 4 targets, and a tail."""


class Known(LanguageModel):
    """Gives the token after its last one, counted up, the probability `chance`, and shares the rest among the 7 others."""

    def __init__(self, chance: float) -> None:
        super().__init__(ModelSection(), vocab_size=VOCAB, context=CONTEXT)
        self.chance = chance

    def logits(self, ids: Tensor) -> Tensor:
        """Logarithms of probabilities."""
        after = torch.nn.functional.one_hot((ids + 1) % VOCAB, VOCAB).double()
        return torch.log(after * self.chance + (1 - after) * (1 - self.chance) / (VOCAB - 1)).float()


@pytest.mark.parametrize("bytes_per_token", [1.0, 4.25])
@pytest.mark.parametrize("chance", [1 / 8, 0.5])
def test_bits_per_byte_of_a_known_model(chance: float, bytes_per_token: float) -> None:
    """A quarter of the tokens, 0 after 3, is not the next higher one: loss, bits, perplexity and accuracy follow by hand."""
    result = evaluate(
        Known(chance),
        EvalWindows(TOKENS, CONTEXT),
        Ranks(0, 1, torch.device("cpu")),
        batch_size=5,
        batches=100,
        bytes_per_token=bytes_per_token,
    )
    bits_per_token = -(3 * math.log2(chance) + math.log2((1 - chance) / 7)) / 4
    assert result.tokens == 96
    assert result.bits_per_byte == pytest.approx(bits_per_token / bytes_per_token, rel=1e-6)
    assert result.loss == pytest.approx(bits_per_token * math.log(2), rel=1e-6)
    assert result.perplexity == pytest.approx(2**bits_per_token, rel=1e-6)
    if chance > 1 / 8:
        assert result.accuracy == 0.75


@pytest.mark.parametrize(("available", "wanted", "expected"), [(3, 9, [0, 1, 2]), (10, 3, [0, 3, 6]), (7, 1, [0])])
def test_batches_are_spread_over_the_text(available: int, wanted: int, expected: list[int]) -> None:
    """All of them where few are there, else evenly from the first on."""
    assert spread(available, wanted) == expected
