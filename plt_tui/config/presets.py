"""Named model shapes: values of `[model]` used for every key that the user leaves out.

GPT-2 sizes: Radford et al. 2019, table 2. Llama sizes: Touvron et al. 2023
(arXiv 2302.13971) and the TinyLlama report (arXiv 2401.02385).
"""

from __future__ import annotations

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

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "gpt2": {**_GPT2, "layers": 12, "heads": 12, "width": 768},
    "gpt2-medium": {**_GPT2, "layers": 24, "heads": 16, "width": 1024},
    "gpt2-large": {**_GPT2, "layers": 36, "heads": 20, "width": 1280},
    "gpt2-xl": {**_GPT2, "layers": 48, "heads": 25, "width": 1600},
    "llama-160m": {**_LLAMA, "layers": 12, "heads": 12, "width": 768},
    "llama-1b": {**_LLAMA, "layers": 22, "heads": 32, "kv_heads": 4, "width": 2048, "ffn": 5632},
}
