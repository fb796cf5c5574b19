"""Named starting points: values used for every key that the user leaves out.

A preset is a function of its name alone, and gives "section.key" values. Shapes are those that were published; `depth:N` is one
dial that sets the shape, the batch and the rates together. Invariant: the values of every preset pass the schema.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_GPT2: Mapping[str, Any] = {
    "norm": "layernorm",
    "position": "learned",
    "activation": "gelu",
    "qk_norm": False,
    "tie_embeddings": True,
    "bias": True,
}
_LLAMA: Mapping[str, Any] = {"norm": "rmsnorm", "position": "rope", "activation": "swiglu", "qk_norm": False}
_MODERN: Mapping[str, Any] = {"norm": "rmsnorm", "position": "rope", "activation": "relu2", "qk_norm": True, "softcap": 15.0}

_SHAPES: Mapping[str, Mapping[str, Any]] = {
    # Radford et al. 2019, table 2; parameters as published since: 124M, 355M, 774M, 1.5B.
    "gpt2": {**_GPT2, "layers": 12, "heads": 12, "width": 768},
    "gpt2-medium": {**_GPT2, "layers": 24, "heads": 16, "width": 1024},
    "gpt2-large": {**_GPT2, "layers": 36, "heads": 20, "width": 1280},
    "gpt2-xl": {**_GPT2, "layers": 48, "heads": 25, "width": 1600},
    # llama-1b: TinyLlama, arXiv 2401.02385. llama-7b: Touvron et al. 2023, arXiv 2302.13971, table 2. llama-8b: Llama 3,
    # arXiv 2407.21783, table 3. llama-160m has GPT-2's size in Llama's form.
    "llama-160m": {**_LLAMA, "layers": 12, "heads": 12, "width": 768},
    "llama-1b": {**_LLAMA, "layers": 22, "heads": 32, "kv_heads": 4, "width": 2048, "ffn": 5632},
    "llama-7b": {**_LLAMA, "layers": 32, "heads": 32, "width": 4096, "ffn": 11008},
    "llama-8b": {**_LLAMA, "layers": 32, "heads": 32, "kv_heads": 8, "width": 4096, "ffn": 14336, "rope_base": 500_000.0},
    # Named by their parameters with bytes (1m, 10m) and with GPT-2's vocabulary of 50257.
    "modern-1m": {**_MODERN, "layers": 4, "heads": 4, "width": 128},
    "modern-10m": {**_MODERN, "layers": 6, "heads": 6, "width": 384},
    "modern-162m": {**_MODERN, "layers": 12, "heads": 12, "width": 768},
    "modern-405m": {**_MODERN, "layers": 24, "heads": 16, "width": 1024},
}

PRESETS = (*_SHAPES, "depth:N")
"""What a user can name; N stands for a number."""
_DIAL = re.compile(r"depth:([1-9][0-9]?)")


def preset(name: str) -> Mapping[str, Any]:
    """The values of `name` by "section.key"; none for the empty name. Raises: ValueError when there is no such preset."""
    if not name:
        return {}
    if dial := _DIAL.fullmatch(name):
        return _by_depth(int(dial[1]))
    if name not in _SHAPES:
        raise ValueError(f"unknown preset {name!r}; known: {', '.join(PRESETS)}, with N from 1 to 99")
    return {f"model.{key}": value for key, value in _SHAPES[name].items()}


def model_preset(name: str) -> dict[str, Any]:
    """The values of `name` for `[model]` alone, by key. Raises: ValueError when there is no such preset."""
    return {key.removeprefix("model."): value for key, value in preset(name).items() if key.startswith("model.")}


def _by_depth(depth: int) -> Mapping[str, Any]:
    """Shape, batch and rates of a model of `depth` layers, in nanochat's manner: width grows in step with depth, heads of 64.

    The rate falls with the root of the width: muon's update has the size 0.2 lr per element here, and nanochat's, which it
    reuses at all depths, has lr / sqrt(width). Half of what was best in 200 steps at width 128 (docs/LOG.md), for longer runs.
    """
    width = 64 * depth
    lr = round(0.01 * (width / 128) ** -0.5, 6)
    shape = {**_MODERN, "layers": depth, "heads": depth, "width": width}
    return {
        **{f"model.{key}": value for key, value in shape.items()},
        "train.batch_size": 8 if depth <= 8 else 32,
        "optim.name": "muon",
        "optim.lr": lr,
        "optim.schedule": "wsd",
        "optim.decay_fraction": 0.4,
    }
