"""Initial values: the same everywhere, drawn without touching anybody else's random stream."""

import pytest
import torch

from plt_tui.config.presets import model_preset
from plt_tui.config.schema import ModelSection
from plt_tui.model.build import build_model
from plt_tui.model.init import GPT2_STD, scale_of
from plt_tui.model.transformer import TransformerLM

TINY = {"layers": 3, "width": 64, "heads": 4}


def _build(seed: int = 1, **keys: object) -> TransformerLM:
    return build_model(ModelSection.model_validate({**TINY, **keys}), vocab_size=300, context=16, seed=seed)


GPT2 = {**model_preset("gpt2"), **TINY}


@pytest.mark.parametrize("keys", [TINY, GPT2], ids=["modern", "gpt2"])
def test_same_seed_same_bits_other_seed_other_bits(keys: dict[str, object]) -> None:
    """The seed alone decides, whatever the global stream holds and however many threads there are."""
    first = _build(**keys).state_dict()
    with torch.random.fork_rng():
        torch.manual_seed(12345)
        threads = torch.get_num_threads()
        torch.set_num_threads(2)
        again = _build(**keys).state_dict()
        torch.set_num_threads(threads)
    other = _build(seed=2, **keys).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["embedding.weight"], other["embedding.weight"])


def test_global_random_state_is_untouched() -> None:
    """Building a model draws nothing from torch's global stream."""
    before = torch.get_rng_state()
    _build()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("keys", "is_gpt2"),
    [
        ({}, False),
        ({"activation": "swiglu", "qk_norm": False}, False),
        ({"tie_embeddings": True}, True),
        ({"position": "learned"}, True),
        ({"init": "gpt2"}, True),
        ({"init": "zero_projection", "position": "learned", "tie_embeddings": True}, False),
    ],
)
def test_scheme_follows_from_the_shape(keys: dict[str, object], is_gpt2: bool) -> None:
    """Tied embeddings or a learned table mean GPT-2's scheme, all else the modern one, unless `init` names one."""
    scale = scale_of(ModelSection.model_validate(keys))
    assert (scale.weight == GPT2_STD) == is_gpt2
    assert (scale.residual > 0) == is_gpt2


def test_gpt2_values_have_the_published_scale() -> None:
    """N(0, 0.02), residual projections divided by sqrt(2 layers), gains 1, biases 0."""
    model = _build(**GPT2)
    stds = {name: value.std().item() for name, value in model.named_parameters() if value.ndim == 2}
    for name, std in stds.items():
        residual = name.endswith(("project.weight", "down.weight"))
        assert std == pytest.approx(0.02 / 6**0.5 if residual else 0.02, rel=0.05), name
    for name, value in model.named_parameters():
        if value.ndim == 1:
            assert torch.all(value == (0.0 if name.endswith("bias") else 1.0)), name


def test_modern_blocks_start_as_identity() -> None:
    """Zero projections: the logits are those of the normed embedding, and every other matrix has std 1 / sqrt(width)."""
    model = _build()
    ids = torch.arange(8)[None]
    torch.testing.assert_close(model.hidden(ids), model.norm(model.embedding(ids)))
    for name, value in model.named_parameters():
        if value.ndim == 2 and not name.endswith(("project.weight", "down.weight")):
            assert value.std().item() == pytest.approx(64**-0.5, rel=0.05), name


@pytest.mark.parametrize("keys", [{}, GPT2, {"bias": True, "norm": "layernorm", "activation": "swiglu"}])
def test_no_parameter_is_left_uninitialised(keys: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that starts as NaN holds none after the build."""
    to_empty = TransformerLM.to_empty

    def to_nan(model: TransformerLM, *, device: str) -> TransformerLM:
        to_empty(model, device=device)
        for parameter in model.parameters():
            torch.nn.init.constant_(parameter, float("nan"))
        return model

    monkeypatch.setattr(TransformerLM, "to_empty", to_nan)
    assert all(bool(parameter.isfinite().all()) for parameter in _build(**keys).parameters())
