"""The decoder-only language model: embedding, blocks, output layer, and its loss.

Does not choose initial values (`init`), optimise or evaluate a corpus. Pre-norm residual blocks (Radford et al. 2019, section
2.3). Invariant: the logits of a position depend on that position and earlier ones of the same row only.

Sizes: B sequences, T positions, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from plt_tui.config.schema import ModelSection
from plt_tui.model.layers import CausalSelfAttention, FeedForward, KeyValues, make_norm, rotary_table

SCORE_LOGITS = 2**24
"""Most logits that `token_losses` computes at once (64 MiB in float32), but never less than one row."""


class Score(NamedTuple):
    """How well a batch was predicted."""

    loss_sum: Tensor
    """Sum of the cross-entropy over all positions, nats; float64 scalar."""
    num_correct: Tensor
    """Positions whose most probable token was the right one; int64 scalar."""


class Block(nn.Module):
    """Attention, then feed-forward, each on a normed copy of the residual stream and added to it."""

    def __init__(self, shape: ModelSection) -> None:
        super().__init__()
        self.attention_norm = make_norm(shape)
        self.attention = CausalSelfAttention(shape)
        self.ffn_norm = make_norm(shape)
        self.ffn = FeedForward(shape)
        self.dropout = shape.dropout

    def forward(self, x: Tensor, rotary: Tensor | None, past: KeyValues | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self._drop(self.attention(self.attention_norm(x), rotary, past))
        return x + self._drop(self.ffn(self.ffn_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class TransformerLM(nn.Module):
    """A decoder-only transformer over `vocab_size` tokens that sees at most `context` of them.

    Its initial values are torch's defaults, drawn from the global stream; `init.build_model` gives the ones to train from. With
    tied embeddings there is no second module: `output_weight` is the embedding itself, and a state dict names it once.
    """

    def __init__(self, shape: ModelSection, *, vocab_size: int, context: int) -> None:
        super().__init__()
        self.shape = shape
        self.vocab_size = vocab_size
        self.context = context
        self.embedding = nn.Embedding(vocab_size, shape.width)
        self.positions = nn.Embedding(context, shape.width) if shape.position == "learned" else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = make_norm(shape)
        self.head = None if shape.tie_embeddings else nn.Linear(shape.width, vocab_size, bias=False)

    @property
    def output_weight(self) -> Tensor:
        """Matrix of the output layer, (V, C)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> Tensor:
        """Logits (B, T, V), or with `targets` their mean cross-entropy in nats, a float32 scalar.

        `ids`, `targets`: int64 (B, T), T at most `context`. The loss is computed in here so that a data-parallel wrapper's
        forward covers everything that needs a gradient.
        """
        logits = functional.linear(self.hidden(ids), self.output_weight)
        if targets is None:
            return logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def hidden(self, ids: Tensor, past: Sequence[KeyValues] | None = None) -> Tensor:
        """What the output layer sees, (B, T, C). `past`: one per block; `ids` then follow the tokens it holds."""
        start, length = (past[0].length if past else 0), ids.shape[1]
        assert start + length <= self.context, f"{start + length} tokens in a context of {self.context}"
        x = self.embedding(ids)
        if self.positions is not None:
            x = x + self.positions.weight[start : start + length]
        if self.shape.dropout:
            x = functional.dropout(x, self.shape.dropout, self.training)
        head_size = self.shape.width // self.shape.heads
        rotary = rotary_table(start, length, head_size, x.device) if self.shape.position == "rope" else None
        for index, block in enumerate(self.blocks):
            x = block(x, rotary, past[index] if past else None)
        normed: Tensor = self.norm(x)
        return normed

    @torch.inference_mode()
    def token_losses(self, ids: Tensor, targets: Tensor) -> Score:
        """Summed loss and argmax hits of `ids`, `targets`: int64 (B, T).

        Goes through the rows in groups, so memory does not grow with B. Dropout acts as the module's mode says: call `eval()`
        first. The sums are added in float64, so that batches can be added up in any order without losing digits.
        """
        rows = max(1, SCORE_LOGITS // (ids.shape[1] * self.vocab_size))
        loss_sum = torch.zeros((), dtype=torch.float64, device=ids.device)
        num_correct = torch.zeros((), dtype=torch.int64, device=ids.device)
        for some_ids, some_targets in zip(torch.split(ids, rows), torch.split(targets, rows), strict=True):
            logits = self(some_ids).flatten(0, 1).float()
            expected = some_targets.flatten()
            loss_sum += functional.cross_entropy(logits, expected, reduction="none").sum(dtype=torch.float64)
            num_correct += (logits.argmax(-1) == expected).sum()
        return Score(loss_sum, num_correct)

    def new_past(self) -> list[KeyValues]:
        """An empty cache for `hidden`, one entry per block."""
        return [KeyValues(self.context) for _ in self.blocks]
