"""FLOP counts against torch's counter, with windows by hand, and of models that only their parameters describe."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from plt_tui.config.schema import ModelSection
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import build_model
from plt_tui.model.flops import flops_per_token, matmul_params, num_params

TINY = {"layers": 2, "width": 32, "heads": 4}


def test_flops_formula_by_hand() -> None:
    """6 N + 12 L C T with the weights of a small model counted by hand."""
    model = build_model(ModelSection(**TINY), vocab_size=50, context=16, seed=0)
    weights = 2 * (4 * 32 * 32 + 8 * 32 * 32) + 50 * 32
    assert matmul_params(model) == weights
    assert num_params(model) == weights + 50 * 32 + 5 * 32
    assert flops_per_token(model, 16) == 6 * weights + 12 * 2 * 32 * 16


@pytest.mark.parametrize(("window", "seen"), [(4, 4 + 4 + 16), (16, 3 * 16), (100, 3 * 16)])
def test_short_layers_look_at_their_window_only(window: int, seen: int) -> None:
    """Two of three layers attend to the window, or to the whole sequence where that is shorter."""
    shape = ModelSection(layers=3, width=32, heads=4, window=window)
    model = build_model(shape, vocab_size=50, context=16, seed=0)
    assert flops_per_token(model, 16) == 6 * matmul_params(model) + 12 * 32 * seen


@pytest.mark.parametrize(
    "keys", [{}, {"tie_embeddings": True, "position": "learned"}, {"activation": "swiglu", "qk_norm": False}, {"kv_heads": 2}]
)
def test_flops_equal_what_torch_counts(keys: dict[str, object]) -> None:
    """The formula equals the matrix products that one forward and backward really dispatch."""
    model = build_model(ModelSection.model_validate({**TINY, **keys}), vocab_size=50, context=16, seed=0)
    ids = torch.zeros(3, 16, dtype=torch.int64)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(ids, ids).backward()
    assert counter.get_total_flops() == 3 * 16 * flops_per_token(model, 16)


def test_a_plug_ins_model_counts_six_per_parameter() -> None:
    """Nothing but the number of parameters is known of it."""

    class Bigram(LanguageModel):
        def __init__(self) -> None:
            super().__init__(ModelSection(), vocab_size=7, context=16)
            self.table = nn.Embedding(7, 7)

        def logits(self, ids: Tensor) -> Tensor:
            return self.table(ids)

    assert flops_per_token(Bigram(), 16) == 6 * 49
