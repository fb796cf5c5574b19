"""The usual transformer, with a rest in each training step: a run that is there to be looked at leaves its cores to who looks.

Not a test: `runs.UNHURRIED` hands this file to runs.
"""

import time

import torch
from torch import Tensor

from plt_tui import ModelSection
from plt_tui.model.transformer import TransformerLM

REST_S = 0.03


class Unhurried(TransformerLM):
    """Trains some thirty steps a second and evaluates as fast as it can."""

    def forward(self, ids: Tensor, targets: Tensor | None = None, normalizer: Tensor | None = None) -> Tensor:
        """As `LanguageModel.forward`."""
        if torch.is_grad_enabled():
            time.sleep(REST_S)
        return super().forward(ids, targets, normalizer)


def build(shape: ModelSection, *, vocab_size: int, context: int, argument: str) -> Unhurried:
    """`model.arch = "unhurried"`."""
    return Unhurried(shape, vocab_size=vocab_size, context=context)


MODELS = {"unhurried": build}
