"""Hugging Face's `config.json` and our blueprint, both ways, for the families that both sides can express: GPT-2 and Llama.

Pure; knows neither weights nor files. Invariant: `from_hf(to_hf(b, ...))` builds the same mathematics as `b`; what the other
side would compute differently is refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from plt_tui.config.blueprint import Blueprint, blueprint, count, seen
from plt_tui.config.fields import listed, shown
from plt_tui.config.schema import ModelSection
from plt_tui.errors import UsageError

Family = Literal["gpt2", "llama"]


class _Traits(NamedTuple):
    """What sets one of Hugging Face's families apart."""

    title: str
    ours: Mapping[str, Any]
    """Values of [model] that every model of the family has."""
    theirs: Mapping[str, tuple[Any, ...]]
    """Values of `config.json` that mean what we compute, the family's default first."""


_ANY = {"arch": "transformer", "qk_norm": False, "window": 0, "softcap": 0.0}
_FAMILIES: Mapping[str, _Traits] = {
    "gpt2": _Traits(
        "GPT-2",
        {**_ANY, "norm": "layernorm", "position": "learned", "activation": "gelu"},
        {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
            "quantization_config": (None,),
        },
    ),
    "llama": _Traits(
        "Llama",
        {**_ANY, "norm": "rmsnorm", "position": "rope", "activation": "swiglu", "bias": False},
        {
            "hidden_act": ("silu",),
            "attention_bias": (False,),
            "mlp_bias": (False,),
            "partial_rotary_factor": (1.0,),
            "quantization_config": (None,),
        },
    ),
}


def family_of(shape: ModelSection) -> Family:
    """The family that can express `shape`. Raises: UsageError naming the keys in the way, of the family that is closest."""
    found = {name: _in_the_way(name, shape) for name in _FAMILIES}
    closest: Family = "gpt2" if len(found["gpt2"]) < len(found["llama"]) else "llama"
    if found[closest]:
        raise UsageError(
            f"Hugging Face's {_FAMILIES[closest].title} has no {listed(found[closest], 'and no')}; "
            "export it in our own form: --format safetensors"
        )
    return closest


def to_hf(of: Blueprint, *, ffn: int, end_of_text: int | None) -> dict[str, Any]:
    """The `config.json` of `of`; `ffn`: hidden size of the feed-forward part. Raises: UsageError, as `family_of`."""
    family = family_of(of.shape)
    fields = _gpt2_fields(of, ffn) if family == "gpt2" else _llama_fields(of, ffn)
    return {
        "architectures": ["GPT2LMHeadModel" if family == "gpt2" else "LlamaForCausalLM"],
        "model_type": family,
        "vocab_size": of.vocab_size,
        "bos_token_id": end_of_text,  # our documents begin after the end of the one before, as in GPT-2
        "eos_token_id": end_of_text,
        "tie_word_embeddings": of.shape.tie_embeddings,
        "torch_dtype": "float32",
        **{key: choices[0] for key, choices in _FAMILIES[family].theirs.items() if choices[0] is not None},
        **fields,
    }


def from_hf(config: Mapping[str, Any]) -> Blueprint:
    """The blueprint of a `config.json`. Raises: ValueError naming the field that we cannot compute, and its value."""
    family = config.get("model_type")
    if not isinstance(family, str) or family not in _FAMILIES:
        raise ValueError(f"model_type: {seen(family)} is not supported; those that are: {', '.join(_FAMILIES)}")
    for key, choices in _FAMILIES[family].theirs.items():
        if config.get(key, choices[0]) not in choices:
            raise ValueError(f"{key}: {seen(config[key])} is not supported, only {listed([*map(seen, choices)])}")
    return _from_gpt2(config) if family == "gpt2" else _from_llama(config)


def _in_the_way(family: str, shape: ModelSection) -> list[str]:
    """Keys of `shape` with values that `family` has no field for."""
    needed = _FAMILIES[family].ours
    wrong = [f"model.{key} = {shown(value)}" for key in needed if (value := getattr(shape, key)) != needed[key]]
    if family == "gpt2" and shape.kv_heads not in (0, shape.heads):
        wrong.append(f"model.kv_heads = {shape.kv_heads}")
    return wrong


def _gpt2_fields(of: Blueprint, ffn: int) -> dict[str, Any]:
    shape = of.shape
    return {
        "n_embd": shape.width,
        "n_layer": shape.layers,
        "n_head": shape.heads,
        "n_inner": ffn,
        "n_positions": of.context,
        "n_ctx": of.context,
        "layer_norm_epsilon": shape.norm_eps,
        **dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0),
    }


def _llama_fields(of: Blueprint, ffn: int) -> dict[str, Any]:
    shape = of.shape
    return {
        "hidden_size": shape.width,
        "intermediate_size": ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads or shape.heads,
        "head_dim": shape.width // shape.heads,
        "max_position_embeddings": of.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_base,  # where transformers 4 looks
        "rope_parameters": {"rope_type": "default", "rope_theta": shape.rope_base},  # and 5
    }


def _from_gpt2(config: Mapping[str, Any]) -> Blueprint:
    shape = {
        **_FAMILIES["gpt2"].ours,
        "layers": config.get("n_layer"),
        "heads": config.get("n_head"),
        "width": config.get("n_embd"),
        "ffn": config.get("n_inner") or 0,
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "tie_embeddings": config.get("tie_word_embeddings", True),
        "bias": True,
    }
    return blueprint(shape, context=config.get("n_positions"), vocab_size=config.get("vocab_size"))


def _from_llama(config: Mapping[str, Any]) -> Blueprint:
    """Fields that are left out have the defaults of transformers' LlamaConfig."""
    width, heads = (
        count("hidden_size", config.get("hidden_size")),
        count("num_attention_heads", config.get("num_attention_heads")),
    )
    head_size = config.get("head_dim") or width // heads
    if head_size * heads != width:
        raise ValueError(
            f"head_dim: {seen(head_size)} is not supported, only hidden_size / num_attention_heads = {width / heads:g}"
        )
    shape = {
        **_FAMILIES["llama"].ours,
        "layers": config.get("num_hidden_layers"),
        "width": width,
        "heads": heads,
        "kv_heads": config.get("num_key_value_heads") or 0,
        "ffn": count("intermediate_size", config.get("intermediate_size")),
        "norm_eps": config.get("rms_norm_eps", 1e-6),
        "rope_base": _rope_base(config),
        "tie_embeddings": config.get("tie_word_embeddings", False),
    }
    return blueprint(shape, context=config.get("max_position_embeddings", 2048), vocab_size=config.get("vocab_size"))


def _rope_base(config: Mapping[str, Any]) -> Any:
    """From where transformers 4 (`rope_theta`) or 5 (`rope_parameters`) writes it."""
    tables = [table for key in ("rope_scaling", "rope_parameters") if isinstance(table := config.get(key), Mapping)]
    merged = {key: value for table in tables for key, value in table.items()}
    kind = merged.get("rope_type", merged.get("type", "default"))
    if kind != "default":
        raise ValueError(f'rope scaling: {seen(kind)} is not supported, only plain rotary positions ("default")')
    return merged.get("rope_theta", config.get("rope_theta", 10_000.0))
