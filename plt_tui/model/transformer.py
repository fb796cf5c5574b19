"""The decoder-only language model: embedding, blocks, output layer.

Does not choose initial values (`init`), optimise or evaluate a corpus. Pre-norm residual blocks (Radford et al. 2019, section
2.3). Invariant: the logits of a position depend on that position and earlier ones of the same row only.

Sizes: B sequences, T positions, C width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from plt_tui.config.schema import ModelSection
from plt_tui.model.base import LanguageModel
from plt_tui.model.kernels import scaled_gradient
from plt_tui.model.layers import (
    CausalSelfAttention,
    FeedForward,
    KeyValues,
    layer_windows,
    make_norm,
    rotary_table,
    window_mask,
)
from plt_tui.model.loss import output_cross_entropy, softcapped


class Block(nn.Module):
    """Attention, then feed-forward, each on a normed copy of the residual stream and added to it."""

    def __init__(self, shape: ModelSection) -> None:
        super().__init__()
        self.attention_norm = make_norm(shape)
        self.attention = CausalSelfAttention(shape)
        self.ffn_norm = make_norm(shape)
        self.ffn = FeedForward(shape)
        self.dropout = shape.dropout

    def forward(self, x: Tensor, rotary: Tensor | None, mask: Tensor | None = None, past: KeyValues | None = None) -> Tensor:
        """(B, T, C) to (B, T, C)."""
        x = x + self._drop(self.attention(self.attention_norm(x), rotary, mask, past))
        return x + self._drop(self.ffn(self.ffn_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, self.dropout, self.training) if self.dropout else x


class TransformerLM(LanguageModel):
    """A decoder-only transformer over `vocab_size` tokens that sees at most `context` of them.

    Its initial values are torch's defaults, drawn from the global stream; `build.build_model` gives the ones to train from.
    With tied embeddings there is no second module: `output_weight` is the embedding itself, and a state dict names it once.
    """

    def __init__(self, shape: ModelSection, *, vocab_size: int, context: int) -> None:
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.embedding = _table(vocab_size, shape.width)
        self.positions = _table(context, shape.width) if shape.position == "learned" else None
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = make_norm(shape)
        self.head = None if shape.tie_embeddings else nn.Linear(shape.width, vocab_size, bias=False)
        self.windows = layer_windows(shape)
        self.checkpoint_blocks = False
        """Keep only each block's input in training, and compute the rest again in the backward pass (Chen et al. 2016, arXiv
        1604.06174): memory of one block instead of all, for one more forward pass."""

    @property
    def output_weight(self) -> Tensor:
        """Matrix of the output layer, (V, C)."""
        return self.embedding.weight if self.head is None else self.head.weight

    def logits(self, ids: Tensor) -> Tensor:
        """(B, T, V), in float32 when soft-capped. `ids`: int64 (B, T), T at most `context`."""
        return self._output(self.hidden(ids))

    def loss(self, ids: Tensor, targets: Tensor, normalizer: Tensor | None = None) -> Tensor:
        """What `forward` returns with targets; never more than one chunk of a large vocabulary's logits is held."""
        return output_cross_entropy(self.hidden(ids), self.output_weight, targets, normalizer, softcap=self.shape.softcap)

    def hidden(self, ids: Tensor, past: Sequence[KeyValues] | None = None) -> Tensor:
        """What the output layer sees, (B, T, C). `past`: one per block; `ids` then follow the tokens it holds."""
        start, length = (past[0].length if past else 0), ids.shape[1]
        assert start + length <= self.context, f"{start + length} tokens in a context of {self.context}"
        x = self._embedded(ids)
        if self.positions is not None:
            x = x + self.positions.weight[start : start + length]
        if self.shape.dropout:
            x = functional.dropout(x, self.shape.dropout, self.training)
        rotary = self._rotary(start, length, x.device)
        mask = window_mask(start, length, self.shape.window, x.device)
        recompute = self.checkpoint_blocks and past is None and torch.is_grad_enabled()
        for index, block in enumerate(self.blocks):
            block_mask = mask if self.windows[index] else None
            if recompute:
                keep_rng = self.shape.dropout > 0
                x = checkpoint(block, x, rotary, block_mask, use_reentrant=False, preserve_rng_state=keep_rng)
            else:
                x = block(x, rotary, block_mask, past[index] if past else None)
        normed: Tensor = self.norm(x)
        return normed

    def new_past(self) -> list[KeyValues]:
        """An empty cache for `hidden` and `next_logits`, one entry per block."""
        return [KeyValues(self.context) for _ in self.blocks]

    def next_logits(self, ids: Tensor, past: list[KeyValues]) -> Tensor:
        """As in every model, computing the new tokens only: `ids` is the first of a `past`, or one token per row."""
        return self._output(self.hidden(ids, past)[:, -1])

    def output_parameters(self) -> list[nn.Parameter]:
        """The output layer's one matrix, which is the embedding when they are tied."""
        return list((self.embedding if self.head is None else self.head).parameters())

    def _embedded(self, ids: Tensor) -> Tensor:
        """The embedding's rows; a tied output layer's gradient does not pass through here, and is not scaled."""
        rows: Tensor = self.embedding(ids)
        # What is compiled is to stay as it is when the factor changes.
        is_scaled = torch.is_grad_enabled() and (torch.compiler.is_compiling() or self.embedding_grad_scale != 1.0)
        return scaled_gradient(rows, self._embedding_grad_scale) if is_scaled else rows

    def _output(self, hidden: Tensor) -> Tensor:
        return softcapped(functional.linear(hidden, self.output_weight), self.shape.softcap)

    def _rotary(self, start: int, length: int, device: torch.device) -> Tensor | None:
        if self.shape.position != "rope":
            return None
        return rotary_table(start, length, self.shape.width // self.shape.heads, self.shape.rope_base, device)


def _table(rows: int, width: int) -> nn.Embedding:
    """An embedding; on the meta device drawing its values would make torch import its compiler, which takes 1 s."""
    table = nn.Embedding(rows, width, _weight=torch.empty(rows, width))
    if not table.weight.is_meta:
        table.reset_parameters()
    return table
