"""Promises of `config.hf`: what Hugging Face's families cannot express, or we cannot compute, is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from plt_tui.config.blueprint import Blueprint
from plt_tui.config.hf import family_of, from_hf, to_hf
from plt_tui.config.presets import model_preset
from plt_tui.config.schema import ModelSection
from plt_tui.errors import UsageError

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 16, "vocab_size": 99}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "intermediate_size": 48,
    "vocab_size": 99,
}


@pytest.mark.parametrize(
    ("name", "family"), [("gpt2", "gpt2"), ("gpt2-xl", "gpt2"), ("llama-1b", "llama"), ("llama-8b", "llama")]
)
def test_presets_go_there_and_back(name: str, family: str) -> None:
    """The shape that comes back is the one that went out, its feed-forward size written out."""
    shape = ModelSection.model_validate(model_preset(name))
    ffn = shape.ffn or 4 * shape.width
    before = Blueprint(shape=shape, context=64, vocab_size=1000)
    config = to_hf(before, ffn=ffn, end_of_text=7)
    after = from_hf(config)
    kv_heads = shape.kv_heads or (shape.heads if family == "llama" else 0)
    assert after.shape == shape.model_copy(update={"ffn": ffn, "kv_heads": kv_heads})
    assert (after.context, after.vocab_size, config["model_type"], config["eos_token_id"]) == (64, 1000, family, 7)


def test_defaults_are_those_of_transformers() -> None:
    """What a `config.json` leaves out."""
    gpt2, llama = from_hf(GPT2), from_hf(LLAMA)
    assert (gpt2.shape.norm_eps, gpt2.shape.tie_embeddings, gpt2.shape.bias, gpt2.shape.ffn) == (1e-5, True, True, 0)
    assert (llama.shape.norm_eps, llama.shape.tie_embeddings, llama.shape.kv_heads) == (1e-6, False, 0)
    assert (llama.shape.rope_base, llama.context) == (10_000.0, 2048)


@pytest.mark.parametrize(
    "change", [{"rope_theta": 5e5}, {"rope_parameters": {"rope_theta": 5e5}}, {"rope_scaling": None, "rope_theta": 500_000}]
)
def test_the_rotary_base_of_transformers_4_and_5(change: dict[str, Any]) -> None:
    """Wherever it stands."""
    assert from_hf({**LLAMA, **change}).shape.rope_base == 5e5


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "model_type: null is not supported; those that are: gpt2, llama"),
        ({"model_type": "qwen3"}, 'model_type: text "qwen3" is not supported; those that are: gpt2, llama'),
        ({"model_type": ["gpt2"]}, "model_type: .* is not supported"),
        ({**GPT2, "activation_function": "relu"}, 'activation_function: text "relu" is not supported, only text "gelu_new" or'),
        ({**GPT2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx: true is not supported"),
        ({**GPT2, "quantization_config": {"bits": 4}}, "quantization_config: a table is not supported, only null"),
        ({**GPT2, "n_head": 5}, "model.heads = 5: 5 heads do not divide width 32"),
        ({**GPT2, "n_layer": None}, "model.layers = null: "),
        ({**GPT2, "vocab_size": "many"}, 'vocab_size: expected a whole number >= 1, found text "many"'),
        ({**LLAMA, "hidden_act": "gelu"}, 'hidden_act: text "gelu" is not supported, only text "silu"'),
        ({**LLAMA, "attention_bias": True}, "attention_bias: true is not supported, only false"),
        ({**LLAMA, "mlp_bias": True}, "mlp_bias: true is not supported"),
        ({**LLAMA, "head_dim": 16}, "head_dim: 16 is not supported, only hidden_size / num_attention_heads = 8"),
        ({**LLAMA, "rope_scaling": {"type": "linear", "factor": 2.0}}, 'rope scaling: text "linear" is not supported'),
        ({**LLAMA, "rope_parameters": {"rope_type": "llama3"}}, 'rope scaling: text "llama3" is not supported'),
        ({**LLAMA, "num_attention_heads": 0}, "num_attention_heads: expected a whole number >= 1, found 0"),
        ({**LLAMA, "intermediate_size": None}, "intermediate_size: expected a whole number >= 1, found null"),
        ({**LLAMA, "num_key_value_heads": 3}, "3 key-value heads do not divide 4 heads"),
        ({**LLAMA, "rope_theta": -1.0}, "model.rope_base = -1.0: "),
    ],
)
def test_what_we_cannot_compute_is_refused(config: dict[str, Any], said: str) -> None:
    """With the field and the value seen."""
    with pytest.raises(ValueError, match=said):
        from_hf(config)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({}, 'Llama has no model.qk_norm = true and no model.activation = text "relu2"; .*--format safetensors'),
        ({**model_preset("llama-160m"), "bias": True}, "Llama has no model.bias = true;"),
        ({**model_preset("llama-160m"), "window": 64}, "Llama has no model.window = 64;"),
        ({**model_preset("gpt2"), "softcap": 15.0}, "GPT-2 has no model.softcap = 15.0;"),
        ({**model_preset("gpt2"), "kv_heads": 4}, "GPT-2 has no model.kv_heads = 4;"),
        ({**model_preset("gpt2"), "arch": "mine"}, 'GPT-2 has no model.arch = text "mine";'),
        ({**model_preset("llama-160m"), "position": "none"}, 'Llama has no model.position = text "none";'),
    ],
)
def test_what_they_cannot_express_is_refused(keys: dict[str, Any], said: str) -> None:
    """With the keys in the way of the closest family, and what to do."""
    with pytest.raises(UsageError, match=said):
        family_of(ModelSection.model_validate(keys))
