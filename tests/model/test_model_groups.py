"""The groups that optimizers go by: for our own shapes and for a model that is not ours."""

import pytest
import torch
from torch import Tensor, nn

from plt_tui.config.schema import ModelSection
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import build_model
from plt_tui.model.flops import num_params
from plt_tui.model.groups import decay_groups, hidden_matrices

TINY = {"layers": 1, "width": 32, "heads": 4}


class Convolutional(LanguageModel):
    """A plug-in's model: a table, a convolution, a matrix, a gain and an output layer."""

    def __init__(self, shape: ModelSection) -> None:
        super().__init__(shape, vocab_size=50, context=8)
        self.table = nn.Embedding(50, 16)
        self.mix = nn.Conv1d(16, 16, 3)
        self.gain = nn.Parameter(torch.ones(16))
        self.hidden = nn.Linear(16, 16)
        self.out = nn.Linear(16, 50)

    def logits(self, ids: Tensor) -> Tensor:
        """Not causal; nobody runs it."""
        mixed = self.mix(self.table(ids).mT).mT
        logits: Tensor = self.out(self.hidden(mixed) * self.gain)
        return logits


def hidden(**keys: object) -> dict[str, tuple[int, ...]]:
    """The rows of each stack by parameter name, for a small model of that shape."""
    model = build_model(ModelSection.model_validate({**TINY, **keys}), vocab_size=50, context=16, seed=0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {names[id(parameter)]: rows for parameter, rows in hidden_matrices(model)}


@pytest.mark.parametrize(
    ("keys", "qkv", "up"),
    [
        ({}, (32, 32, 32), (128,)),
        ({"kv_heads": 2, "bias": True, "position": "learned"}, (32, 16, 16), (128,)),
        ({"activation": "swiglu", "tie_embeddings": True}, (32, 32, 32), (96, 96)),
    ],
)
def test_hidden_matrices_are_those_of_the_blocks(keys: dict[str, object], qkv: tuple[int, ...], up: tuple[int, ...]) -> None:
    """Neither tables nor the output layer, tied or not, and stacked projections are told apart."""
    assert hidden(**keys) == {
        "blocks.0.attention.qkv.weight": qkv,
        "blocks.0.attention.project.weight": (32,),
        "blocks.0.ffn.up.weight": up,
        "blocks.0.ffn.down.weight": (32,),
    }


def test_the_model_of_a_plug_in_is_grouped_by_what_its_parameters_do() -> None:
    """Products decay, vectors and tables do not; only a matrix between hidden states is a hidden one."""
    model = Convolutional(ModelSection.model_validate(TINY))
    decayed, kept = decay_groups(model)
    assert [id(p) for p in decayed] == [id(p) for p in (model.mix.weight, model.hidden.weight, model.out.weight)]
    assert sorted(map(id, kept)) == sorted(map(id, [model.table.weight, model.gain, *(m.bias for m in _biased(model))]))
    assert [id(matrix.parameter) for matrix in hidden_matrices(model)] == [id(model.hidden.weight)]


def test_what_another_optimizer_takes_is_in_no_group() -> None:
    """The groups and the parameters left out of them are all parameters, once each."""
    model = Convolutional(ModelSection.model_validate(TINY))
    taken = [model.hidden.weight]
    decayed, kept = decay_groups(model, but=taken)
    assert sorted(map(id, [*taken, *decayed, *kept])) == sorted(map(id, model.parameters()))


def _biased(model: Convolutional) -> list[nn.Conv1d | nn.Linear]:
    return [model.mix, model.hidden, model.out]


def _names(keys: dict[str, object]) -> tuple[set[str], set[str]]:
    model = build_model(ModelSection.model_validate({**TINY, **keys}), vocab_size=50, context=16, seed=0)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, kept = ([names[id(parameter)] for parameter in group] for group in decay_groups(model))
    assert sorted(decayed + kept) == sorted(names.values())
    return set(decayed), set(kept)


def test_matrices_decay_and_gains_and_tables_do_not() -> None:
    """Every parameter is in exactly one group: linear layers decay, norms and lookup tables are kept."""
    decayed, kept = _names({"position": "learned"})
    assert decayed == {
        "blocks.0.attention.qkv.weight",
        "blocks.0.attention.project.weight",
        "blocks.0.ffn.up.weight",
        "blocks.0.ffn.down.weight",
        "head.weight",
    }
    assert {"embedding.weight", "positions.weight", "norm.weight"} <= kept


def test_a_tied_embedding_decays_and_biases_do_not() -> None:
    """The tied table is the output matrix; biases are vectors."""
    decayed, kept = _names({"tie_embeddings": True, "bias": True, "norm": "layernorm"})
    assert "embedding.weight" in decayed
    assert {"blocks.0.attention.qkv.bias", "norm.bias"} <= kept


def test_frozen_parameters_are_in_no_group() -> None:
    """What does not train is not handed to the optimizer."""
    model = build_model(ModelSection.model_validate(TINY), vocab_size=50, context=16, seed=0)
    model.embedding.weight.requires_grad_(requires_grad=False)
    assert all(parameter is not model.embedding.weight for group in decay_groups(model) for parameter in group)
    assert num_params(model) == sum(p.numel() for p in model.parameters()) - 50 * 32
