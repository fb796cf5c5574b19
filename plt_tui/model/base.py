"""What a language model is to those who train, score and sample it; plug-ins derive from it.

Does not say how logits are made. Invariants: the logits of a position depend on that position and earlier ones of the same row
only, and all that training changes is a parameter (checkpoints hold no buffers).

Sizes: B sequences, T positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from plt_tui.config.schema import ModelSection
from plt_tui.model.loss import IGNORED, cross_entropy

SCORE_LOGITS = 2**24
"""Most logits that `token_losses` computes at once (64 MiB in float32), but never less than one row."""


class Score(NamedTuple):
    """How well a batch was predicted, over all targets that are not IGNORED."""

    loss_sum: Tensor
    """Sum of the cross-entropy, nats; float64 scalar."""
    num_correct: Tensor
    """Positions whose most probable token was the right one; int64 scalar."""
    num_targets: Tensor
    """Positions that counted; int64 scalar."""


class LanguageModel(nn.Module):
    """A model that predicts each next one of up to `context` tokens out of `vocab_size`.

    A subclass has to give `logits`; the rest follows from it, and may be replaced by something faster.
    """

    def __init__(self, shape: ModelSection, *, vocab_size: int, context: int) -> None:
        super().__init__()
        self.shape = shape
        self.vocab_size = vocab_size
        self.context = context
        self.checkpoint_blocks = False
        """Set by the trainer: compute activations again in the backward pass instead of keeping them, if the model can."""
        # A tensor, because torch.compile would compile every number anew; not a buffer, because it is no part of the weights.
        self._embedding_grad_scale = torch.ones((), dtype=torch.float64, device="cpu")

    @property
    def embedding_grad_scale(self) -> float:
        """Set by the trainer: factor of the gradient that reaches the token embedding by its lookup, if the model can."""
        return float(self._embedding_grad_scale)

    @embedding_grad_scale.setter
    def embedding_grad_scale(self, value: float) -> None:
        self._embedding_grad_scale.fill_(value)

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V) in any floating type. `ids`: int64 (B, T), T at most `context`."""
        raise NotImplementedError(f"{type(self).__name__} must define logits(ids)")

    def forward(self, ids: Tensor, targets: Tensor | None = None, normalizer: Tensor | None = None) -> Tensor:
        """Logits (B, T, V), or with `targets` the summed cross-entropy divided by `normalizer`, nats, a float32 scalar.

        `ids`, `targets`: int64 (B, T), T at most `context`; a target of IGNORED (-1) does not count. `normalizer`: a float32
        scalar, by default the number of targets that count. The loss is computed in here so that a data-parallel wrapper's
        forward covers everything that needs a gradient.
        """
        return self.logits(ids) if targets is None else self.loss(ids, targets, normalizer)

    def loss(self, ids: Tensor, targets: Tensor, normalizer: Tensor | None = None) -> Tensor:
        """What `forward` returns with targets."""
        return cross_entropy(self.logits(ids), targets, normalizer)

    @torch.inference_mode()
    def token_losses(self, ids: Tensor, targets: Tensor) -> Score:
        """Summed loss and argmax hits of `ids`, `targets`: int64 (B, T), targets of IGNORED left out.

        Goes through the rows in groups, so memory does not grow with B. Dropout acts as the module's mode says: call `eval()`
        first. The sums are added in float64, so that batches can be added up in any order without losing digits.
        """
        rows = max(1, SCORE_LOGITS // (ids.shape[1] * self.vocab_size))
        loss_sum = torch.zeros((), dtype=torch.float64, device=ids.device)
        num_correct = torch.zeros((), dtype=torch.int64, device=ids.device)
        for some_ids, some_targets in zip(torch.split(ids, rows), torch.split(targets, rows), strict=True):
            logits = self.logits(some_ids).flatten(0, 1).float()
            expected = some_targets.flatten()
            losses = functional.cross_entropy(logits, expected, ignore_index=IGNORED, reduction="none")
            loss_sum += losses.sum(dtype=torch.float64)
            num_correct += (logits.argmax(-1) == expected).sum()
        return Score(loss_sum, num_correct, (targets != IGNORED).sum())

    def new_past(self) -> list[Any]:
        """What `next_logits` keeps of the tokens it has seen: nothing yet. Here their ids; in a faster model, say, its keys."""
        return []

    def next_logits(self, ids: Tensor, past: list[Any]) -> Tensor:
        """Logits (B, V) of the token after `ids`, int64 (B, T), which follow the tokens of earlier calls with the same `past`.

        `past`: from `new_past`. The caller keeps the number of all these tokens within `context`.
        """
        past.append(ids)
        return self.logits(torch.cat(past, dim=1))[:, -1]

    def output_parameters(self) -> list[nn.Parameter]:
        """The output layer's matrices: those of linear layers with one output per token of the vocabulary."""
        linear = [module for module in self.modules() if isinstance(module, nn.Linear)]
        return _matrices(module for module in linear if module.out_features == self.vocab_size)

    def table_parameters(self) -> list[nn.Parameter]:
        """Tables that are only looked up: those of embeddings that are not the output layer too."""
        output = {id(parameter) for parameter in self.output_parameters()}
        tables = _matrices(module for module in self.modules() if isinstance(module, nn.Embedding))
        return [table for table in tables if id(table) not in output]


def _matrices(modules: Iterable[nn.Module]) -> list[nn.Parameter]:
    return [parameter for module in modules for parameter in module.parameters(recurse=False) if parameter.ndim == 2]
