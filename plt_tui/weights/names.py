"""Our names and layouts of tensors, and those of Hugging Face's GPT-2 and Llama: pure maps in both directions.

Only renames, transposes, joins, cuts and permutes, so no bit of a number changes. Invariant: `from_x(to_x(t)) == t`, and the
other way round; GPT-2 without biases comes back with zeros for them. Reads no files.

Sizes: C width, D head size, H query heads, K key-value heads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from plt_tui.config.hf import Family
from plt_tui.config.schema import ModelSection

Tensors = Mapping[str, Tensor]

_PREFIXES: Mapping[Family, str] = {"gpt2": "transformer.", "llama": "model."}
"""Left out where a model was saved without its output layer."""
_HEAD = "lm_head.weight"
_IGNORED = (".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq")
"""Endings of names of constants that older versions of transformers saved."""

_GPT2_TOP = {"embedding": "wte", "positions": "wpe", "norm": "ln_f"}
_GPT2_NORMS = {"attention_norm": "ln_1", "ffn_norm": "ln_2"}
_GPT2_LINEAR = {
    "attention.qkv": "attn.c_attn",
    "attention.project": "attn.c_proj",
    "ffn.up": "mlp.c_fc",
    "ffn.down": "mlp.c_proj",
}
_LLAMA_TOP = {"embedding": "embed_tokens", "norm": "norm"}
_LLAMA_SAME = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.project": "self_attn.o_proj",
    "ffn.down": "mlp.down_proj",
}


def to_hf(family: Family, tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    """Hugging Face's tensors of ours, each with memory of its own."""
    theirs = _to_gpt2(tensors, shape) if family == "gpt2" else _to_llama(tensors, shape)
    return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in theirs.items()}


def from_hf(family: Family, tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    """Our tensors of Hugging Face's, which have the names and sizes that `to_hf` gives a model of `shape`."""
    ours = _from_gpt2(tensors, shape) if family == "gpt2" else _from_llama(tensors, shape)
    return {name: tensor.contiguous() for name, tensor in ours.items()}


def cleaned(family: Family, tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    """Hugging Face's tensors with the family's prefix, without constants, and without an output layer that is the embedding."""
    prefix = _PREFIXES[family]
    if not any(name.startswith(prefix) for name in tensors):
        tensors = {name if name == _HEAD else prefix + name: tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in tensors.items() if not name.endswith(_IGNORED)}
    if shape.tie_embeddings:
        kept.pop(_HEAD, None)
    return kept


def _gpt2_pairs(shape: ModelSection) -> Iterator[tuple[str, str]]:
    """Our name and theirs of every tensor of a GPT-2 with biases."""
    for ours, theirs in _GPT2_TOP.items():
        for part in ("weight", "bias") if ours == "norm" else ("weight",):
            yield f"{ours}.{part}", f"transformer.{theirs}.{part}"
    if not shape.tie_embeddings:
        yield "head.weight", _HEAD
    for index in range(shape.layers):
        for ours, theirs in {**_GPT2_NORMS, **_GPT2_LINEAR}.items():
            for part in ("weight", "bias"):
                yield f"blocks.{index}.{ours}.{part}", f"transformer.h.{index}.{theirs}.{part}"


def _is_conv1d(ours: str) -> bool:
    """True for the matrices that GPT-2 keeps as (inputs, outputs), the transpose of a linear layer's."""
    return ours.endswith(".weight") and any(f".{name}." in ours for name in _GPT2_LINEAR)


def _to_gpt2(tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    out = {}
    for ours, theirs in _gpt2_pairs(shape):
        if ours in tensors:
            out[theirs] = tensors[ours].t() if _is_conv1d(ours) else tensors[ours]
        else:
            out[theirs] = torch.zeros(tensors[ours.removesuffix("bias") + "weight"].shape[0])
    return out


def _from_gpt2(tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    return {ours: tensors[theirs].t() if _is_conv1d(ours) else tensors[theirs] for ours, theirs in _gpt2_pairs(shape)}


def _llama_pairs(shape: ModelSection) -> Iterator[tuple[str, str]]:
    """Our name and theirs of the tensors of a Llama that are the same on both sides."""
    for ours, theirs in _LLAMA_TOP.items():
        yield f"{ours}.weight", f"model.{theirs}.weight"
    if not shape.tie_embeddings:
        yield "head.weight", _HEAD
    for index in range(shape.layers):
        for ours, theirs in _LLAMA_SAME.items():
            yield f"blocks.{index}.{ours}.weight", f"model.layers.{index}.{theirs}.weight"


def _attention_names(index: int) -> tuple[str, str, str]:
    q, k, v = (f"model.layers.{index}.self_attn.{part}_proj.weight" for part in "qkv")
    return q, k, v


def _ffn_names(index: int) -> tuple[str, str]:
    return f"model.layers.{index}.mlp.gate_proj.weight", f"model.layers.{index}.mlp.up_proj.weight"


def _to_llama(tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    out = {theirs: tensors[ours] for ours, theirs in _llama_pairs(shape)}
    head_size = shape.width // shape.heads
    rows = [head_size * heads for heads in (shape.heads, shape.kv_heads or shape.heads, shape.kv_heads or shape.heads)]
    for index in range(shape.layers):
        q, k, v = torch.split(tensors[f"blocks.{index}.attention.qkv.weight"], rows)
        out |= zip(_attention_names(index), (_halves(q, head_size), _halves(k, head_size), v), strict=True)
        out |= zip(_ffn_names(index), tensors[f"blocks.{index}.ffn.up.weight"].chunk(2), strict=True)
    return out


def _from_llama(tensors: Tensors, shape: ModelSection) -> dict[str, Tensor]:
    out = {ours: tensors[theirs] for ours, theirs in _llama_pairs(shape)}
    head_size = shape.width // shape.heads
    for index in range(shape.layers):
        q, k, v = (tensors[name] for name in _attention_names(index))
        out[f"blocks.{index}.attention.qkv.weight"] = torch.cat([_pairs(q, head_size), _pairs(k, head_size), v])
        out[f"blocks.{index}.ffn.up.weight"] = torch.cat([tensors[name] for name in _ffn_names(index)])
    return out


def _halves(weight: Tensor, head_size: int) -> Tensor:
    """Rows of rotary pairs (2i, 2i + 1), as `model.layers.rotate` wants them, reordered to (i, i + D / 2). (H D, C)."""
    return torch.unflatten(weight, 0, (-1, head_size // 2, 2)).transpose(1, 2).flatten(0, 2)


def _pairs(weight: Tensor, head_size: int) -> Tensor:
    """The inverse of `_halves`."""
    return torch.unflatten(weight, 0, (-1, 2, head_size // 2)).transpose(1, 2).flatten(0, 2)
