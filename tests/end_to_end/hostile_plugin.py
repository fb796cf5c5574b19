"""A small model whose ranks say what a terminal must not hear, as a library might: on stdout, on stderr and through logging.

Not a test: `test_escapes` hands this file to runs. What to say stands in the file that SAY names, as bytes.
"""

import logging
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from plt_tui import LanguageModel, ModelSection

REST_S = 0.01


class Bigram(LanguageModel):
    """The next token depends on the last one only."""

    def __init__(self, shape: ModelSection, *, vocab_size: int, context: int) -> None:
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.embedding = nn.Embedding(vocab_size, shape.width)
        self.head = nn.Linear(shape.width, vocab_size, bias=False)

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V) of int64 (B, T). It takes its time: who looks at the run needs a core too."""
        if torch.is_grad_enabled():
            time.sleep(REST_S)
        return self.head(self.embedding(ids))


def build(shape: ModelSection, *, vocab_size: int, context: int, argument: str) -> Bigram:
    """`model.arch = "hostile"`."""
    said = Path(os.environ["SAY"]).read_bytes()
    for descriptor in (1, 2):
        os.write(descriptor, said)
    logging.getLogger("library").error(said.decode(errors="replace"))
    return Bigram(shape, vocab_size=vocab_size, context=context)


MODELS = {"hostile": build}
