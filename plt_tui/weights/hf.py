"""Folders of Hugging Face: `config.json`, `model.safetensors` and the tokenizer, as `transformers` reads and writes them.

Does not import transformers and downloads nothing. Invariant: the same weights give the same logits on both sides.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from plt_tui.config.blueprint import Blueprint
from plt_tui.config.fields import printable
from plt_tui.config.hf import family_of, to_hf
from plt_tui.config.pretrained import HF_CONFIG, TOKENIZER, read_json
from plt_tui.data.tokenizer import Tokenizer
from plt_tui.errors import UsageError
from plt_tui.weights import names
from plt_tui.weights.bundle import Weights, mismatches, parameters_of, some, tokenizer_of
from plt_tui.weights.formats import as_float32, only_tensors, read_safetensors, read_torch, write_safetensors
from plt_tui.weights.tokenizers import library_json, token_text

MODEL, INDEX, PICKLE = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_ACTION = "take both from the same model"


def read_tensors(folder: Path, of: Blueprint) -> dict[str, Tensor]:
    """Our tensors of the weights in `folder`, whose `config.json` says `of`.

    Raises: UsageError naming what is missing, unknown, of another size or type; StorageError for a file that is not whole.
    """
    family = family_of(of.shape)
    found = as_float32(names.cleaned(family, _stored(folder), of.shape), folder)
    if of.shape.layers > len(found):  # said before a model of that many layers is laid out
        raise UsageError(
            f"{_text(folder)}: {len(found)} tensors cannot be the {of.shape.layers} layers of its {HF_CONFIG}; {_ACTION}"
        )
    problems = mismatches(found, names.to_hf(family, parameters_of(of), of.shape))
    if problems:
        raise UsageError(f"{_text(folder)}: not the tensors that its {HF_CONFIG} describes: {some(problems)}; {_ACTION}")
    return names.from_hf(family, found, of.shape)


def without_padding(tensors: Mapping[str, Tensor], vocab_size: int) -> dict[str, Tensor]:
    """`tensors` without the rows of ids that no token has: vocabularies are often padded to a round number."""
    tables = ("embedding.weight", "head.weight")
    return {name: tensor[:vocab_size].clone() if name in tables else tensor for name, tensor in tensors.items()}


def write_folder(weights: Weights, of: Blueprint, folder: Path) -> list[str]:
    """Write what `transformers` loads into the empty `folder`. Returns what a user should know of it.

    Raises: UsageError naming the keys of [model] that Hugging Face cannot express; OSError, SafetensorError.
    """
    family = family_of(of.shape)
    tokenizer = tokenizer_of(weights, of)
    ffn = weights.tensors["blocks.0.ffn.down.weight"].shape[1]
    config = to_hf(of, ffn=ffn, end_of_text=tokenizer.end_of_text)
    _write_json(folder / HF_CONFIG, config)
    _write_json(folder / "generation_config.json", {key: config[key] for key in ("bos_token_id", "eos_token_id")})
    write_safetensors(folder / MODEL, names.to_hf(family, weights.tensors, of.shape), {})
    _write_tokenizer(tokenizer, of.context, folder)
    if family == "gpt2" and not of.shape.bias:
        return ["GPT-2 has biases: they were written as zeros, which gives the same logits"]
    return []


def _stored(folder: Path) -> dict[str, Tensor]:
    """The tensors of `folder` by Hugging Face's names, out of one file or several."""
    if (folder / MODEL).is_file():
        return read_safetensors(folder / MODEL)
    if (folder / INDEX).is_file():
        shards = [read_safetensors(folder / name) for name in _shard_names(folder / INDEX)]
        return {name: tensor for shard in shards for name, tensor in shard.items()}
    if (folder / PICKLE).is_file():
        return only_tensors(read_torch(folder / PICKLE), folder / PICKLE)
    raise UsageError(f"{_text(folder)}: no weights beside its {HF_CONFIG}: neither {MODEL}, {INDEX} nor {PICKLE}; add them")


def _shard_names(index: Path) -> list[str]:
    """The files that an index names, each once. Raises: UsageError when one lies elsewhere: an index opens no other files."""
    table = read_json(index).get("weight_map")
    shards = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    if not shards or any(Path(name).name != name for name in shards):
        raise UsageError(f"{_text(index)}: weight_map must name files of the same folder")
    return shards


def _write_tokenizer(tokenizer: Tokenizer, context: int, folder: Path) -> None:
    """What `AutoTokenizer` loads; nothing for ids without text."""
    library = library_json(tokenizer)
    if library is None:
        return
    _write_json(folder / TOKENIZER, library)
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }
    if tokenizer.end_of_text is not None:
        config |= dict.fromkeys(("bos_token", "eos_token"), token_text(library, tokenizer.end_of_text))
    _write_json(folder / "tokenizer_config.json", config)


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _text(path: Path) -> str:
    return printable(str(path))
