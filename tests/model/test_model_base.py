"""What any language model can do once it has logits: loss, scores, text, and telling its parameters apart."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from plt_tui.config.schema import ModelSection
from plt_tui.model import base
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import build_model
from plt_tui.model.generate import generate
from plt_tui.model.loss import IGNORED

VOCAB, CONTEXT = 11, 6


class Averager(LanguageModel):
    """Predicts from the mean of all tokens so far: the least that has a memory."""

    def __init__(self) -> None:
        super().__init__(ModelSection(), vocab_size=VOCAB, context=CONTEXT)
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Embedding(VOCAB, 4, _weight=torch.randn(VOCAB, 4, generator=generator))
        self.mix = nn.Linear(4, 4)
        self.output = nn.Linear(4, VOCAB)

    def logits(self, ids: Tensor) -> Tensor:
        """Any model's way."""
        assert ids.shape[1] <= CONTEXT
        counts = torch.arange(1, ids.shape[1] + 1).unsqueeze(1)
        logits: Tensor = self.output(self.mix(self.table(ids).cumsum(1) / counts))
        return logits


def _ids(seed: int) -> Tensor:
    return torch.randint(VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(seed))


def test_logits_are_all_that_a_model_must_define() -> None:
    """A model without them says what is missing; one with them has a loss."""
    with pytest.raises(NotImplementedError, match="LanguageModel must define logits"):
        LanguageModel(ModelSection(), vocab_size=VOCAB, context=CONTEXT)(_ids(0))
    model, ids, targets = Averager(), _ids(0), _ids(1)
    expected = nn.functional.cross_entropy(model(ids).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(model(ids, targets), expected)
    torch.testing.assert_close(model(ids, targets, torch.tensor(2.0)), expected * ids.numel() / 2)


@pytest.mark.parametrize("limit", [2**24, 1])
def test_scores_leave_ignored_targets_out(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loss, hits and the count are those of the other positions, however the rows are grouped."""
    monkeypatch.setattr(base, "SCORE_LOGITS", limit)
    model, ids, targets = Averager(), _ids(0), _ids(1)
    targets[0, :] = targets[1, 2:] = IGNORED
    score = model.token_losses(ids, targets)
    kept = targets != IGNORED
    logits = model(ids)[kept]
    assert score.num_targets == kept.sum() == 8
    assert score.num_correct == (logits.argmax(-1) == targets[kept]).sum()
    expected = nn.functional.cross_entropy(logits.double(), targets[kept], reduction="sum")
    torch.testing.assert_close(score.loss_sum, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("vocab_size", [256, 257, 50257])
def test_a_model_that_knows_nothing_needs_log2_v_bits_per_token(vocab_size: int) -> None:
    """An output layer of zeros makes all tokens equally probable: log2 V bits per token, so 8 bits per byte for 256 bytes."""
    model = build_model(ModelSection(layers=1, width=8, heads=2), vocab_size=vocab_size, context=CONTEXT, seed=0)
    nn.init.zeros_(model.output_parameters()[0])
    score = model.token_losses(_ids(0), _ids(1))
    bits_per_token = score.loss_sum.item() / math.log(2) / score.num_targets.item()
    assert bits_per_token == pytest.approx(math.log2(vocab_size), rel=1e-6)


def test_text_is_written_without_a_cache() -> None:
    """A model without a cache of its own is asked about the whole window, at most a context, again and again."""
    model = Averager()
    written = generate(model, torch.tensor([1, 2]), tokens=20, temperature=0.0, seed=0)
    window = [1, 2]
    for token in written:
        assert int(model(torch.tensor([window]))[0, -1].argmax()) == token
        window.append(token)
        if len(window) > CONTEXT:
            window = window[-CONTEXT // 2 :]


def test_parameters_are_told_apart_by_their_layers() -> None:
    """Embeddings are tables, the linear layer with an output per token is the output; when they share, it is no table."""
    model = Averager()
    assert [id(p) for p in model.output_parameters()] == [id(model.output.weight)]
    assert [id(p) for p in model.table_parameters()] == [id(model.table.weight)]
    model.output.weight = model.table.weight
    assert [id(p) for p in model.output_parameters()] == [id(model.table.weight)]
    assert model.table_parameters() == []


@pytest.mark.parametrize(("tied", "output", "tables"), [(False, "head", 2), (True, "embedding", 1)])
def test_a_transformer_names_its_output_layer(tied: bool, output: str, tables: int) -> None:
    """Also when a block's layer happens to have as many outputs as there are tokens."""
    shape = ModelSection(layers=1, width=8, heads=2, ffn=32, tie_embeddings=tied, position="learned")
    model = build_model(shape, vocab_size=32, context=CONTEXT, seed=0)
    assert [id(p) for p in model.output_parameters()] == [id(model.get_submodule(output).weight)]
    assert len(model.table_parameters()) == tables
