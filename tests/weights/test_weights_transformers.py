"""Promises about Hugging Face's `transformers`, held against the library itself: the same logits and the same token ids."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_models import CONTEXT, GPT2, LLAMA, VOCAB_SIZE, make_model, weights_of

from plt_tui.config.pretrained import pretrained_values
from plt_tui.config.schema import ModelSection
from plt_tui.data.tokenizer import ByteTokenizer, CharTokenizer, from_json, load_file, train_bpe
from plt_tui.errors import UsageError
from plt_tui.model.build import build_model
from plt_tui.model.transformer import TransformerLM
from plt_tui.weights.bundle import Weights, load_into
from plt_tui.weights.read import load
from plt_tui.weights.tokenizers import library_json
from plt_tui.weights.write import convert

TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}
TEXT = "the cat's 3 hats, naïve 漢字\n\t\x00 \U0001f600 sat  on the mat"


@pytest.fixture(scope="module")
def library() -> Iterator[ModuleType]:
    """The real `transformers`, which may not look for anything on a network."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("HF_HUB_OFFLINE", "1")
        environment.setenv("TRANSFORMERS_VERBOSITY", "error")
        import transformers

        transformers.logging.disable_progress_bar()
        yield transformers


def gpt2(library: ModuleType, **keys: Any) -> Any:
    """A random GPT-2 of transformers."""
    sizes = {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": CONTEXT, "vocab_size": VOCAB_SIZE}
    special = {"bos_token_id": 256, "eos_token_id": 256}
    return randomised(library.GPT2LMHeadModel(library.GPT2Config(**{**sizes, **special, **keys})))


def llama(library: ModuleType, **keys: Any) -> Any:
    """A random Llama of transformers."""
    sizes = {"hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 48}
    table = {"max_position_embeddings": CONTEXT, "vocab_size": VOCAB_SIZE}
    return randomised(library.LlamaForCausalLM(library.LlamaConfig(**{**sizes, **table, **keys})))


def randomised(model: Any) -> Any:
    """No bias is zero and no gain one."""
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


def ids() -> torch.Tensor:
    """int64 (2, CONTEXT)."""
    return torch.randint(VOCAB_SIZE, (2, CONTEXT), generator=torch.Generator().manual_seed(5))


def imported(path: Path) -> TransformerLM:
    """A model of ours made from what the path's header says, filled with its weights."""
    values = pretrained_values(str(path))
    shape = {key.removeprefix("model."): value for key, value in values.items() if key.startswith("model.")}
    weights = load(path)
    assert weights.blueprint is not None
    model = build_model(
        ModelSection.model_validate(shape),
        vocab_size=weights.blueprint.vocab_size,
        context=values["data.context"],
        seed=0,
    )
    load_into(weights, model)
    assert isinstance(model, TransformerLM)
    return model.eval()


def exported(weights: Weights, folder: Path) -> Path:
    """An `hf` folder of `weights`."""
    convert("", "hf", folder, read=lambda _: weights)
    return folder


@torch.no_grad()
def same_logits(theirs: Any, ours: TransformerLM) -> None:
    """Both models agree on the same ids."""
    expected = theirs(ids()).logits
    assert expected.abs().max() > 0.1  # not a comparison of zeros
    torch.testing.assert_close(ours(ids()), expected, **TOLERANCE)


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        (gpt2, {}),
        (gpt2, {"tie_word_embeddings": False, "n_inner": 48, "layer_norm_epsilon": 1e-3}),
        (llama, {}),
        (llama, {"num_key_value_heads": 2, "rms_norm_eps": 1e-3}),
        (llama, {"num_key_value_heads": 1, "tie_word_embeddings": True}),
        (llama, {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}),
    ],
)
def test_a_model_of_transformers_is_imported(make: Any, keys: dict[str, Any], library: ModuleType, tmp_path: Path) -> None:
    """Its folder directly, and the folder that `plt-tui import` makes of it, give its logits."""
    theirs = make(library, **keys)
    theirs.save_pretrained(tmp_path / "hf")
    same_logits(theirs, imported(tmp_path / "hf"))
    convert(tmp_path / "hf", "safetensors", tmp_path / "ours")
    same_logits(theirs, imported(tmp_path / "ours"))


@pytest.mark.parametrize("form", ["shards", "pickle", "half"])
def test_other_ways_to_save_are_read(form: str, library: ModuleType, tmp_path: Path) -> None:
    """Several files with an index, torch's format with the constants of old versions, and half precision."""
    theirs = llama(library)
    if form == "half":
        theirs.to(torch.bfloat16).save_pretrained(tmp_path)
        theirs = library.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    else:
        theirs.save_pretrained(tmp_path, max_shard_size="10KB" if form == "shards" else "1GB")
    if form == "shards":
        assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    if form == "pickle":
        (tmp_path / "model.safetensors").unlink()
        constants = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4, dtype=torch.float64)}
        torch.save({**theirs.state_dict(), **constants}, tmp_path / "pytorch_model.bin")
    same_logits(theirs, imported(tmp_path))


@pytest.mark.parametrize(
    "keys",
    [
        GPT2,
        {**GPT2, "tie_embeddings": False, "norm_eps": 1e-3, "ffn": 40},
        {**GPT2, "bias": False},
        LLAMA,
        {**LLAMA, "kv_heads": 2, "tie_embeddings": True, "norm_eps": 1e-3, "rope_base": 500.0, "ffn": 40},
    ],
)
def test_a_model_of_ours_is_loaded_by_transformers(keys: dict[str, Any], library: ModuleType, tmp_path: Path) -> None:
    """It finds every weight, gives our logits, and ends a text where we do."""
    ours = make_model(**keys)
    exported(weights_of(ours), tmp_path / "hf")
    theirs, report = library.AutoModelForCausalLM.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    same_logits(theirs, ours)
    assert theirs.generation_config.eos_token_id == theirs.config.eos_token_id == 256
    same_logits(theirs, imported(tmp_path / "hf"))


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@pytest.mark.parametrize("keys", [GPT2, LLAMA], ids=["gpt2", "llama"])
def test_the_tokenizer_is_loaded_by_transformers(kind: str, keys: dict[str, Any], library: ModuleType, tmp_path: Path) -> None:
    """The same ids for the same text, the same text for the same ids, and the same end of text."""
    characters = "".join(sorted(set(TEXT)))
    ours = {
        "byte": ByteTokenizer(),
        "char": CharTokenizer(characters),
        "bpe": train_bpe([TEXT] * 5, 300),
    }[kind]
    exported(weights_of(make_model(vocab_size=ours.vocab_size, **keys), ours.to_json()), tmp_path / "hf")
    theirs = library.AutoTokenizer.from_pretrained(tmp_path / "hf")
    encoded = ours.encode(TEXT).tolist()
    assert theirs(TEXT)["input_ids"] == encoded
    assert theirs.decode(encoded) == TEXT
    assert (theirs.eos_token_id, len(theirs)) == (ours.end_of_text, ours.vocab_size)
    again = load_file(tmp_path / "hf" / "tokenizer.json")
    assert (again.encode(TEXT).tolist(), again.end_of_text) == (encoded, ours.end_of_text)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_bytes_as_the_library_reads_them(text: str) -> None:
    """Any text, and any cut through its characters."""
    described = library_json(ByteTokenizer())
    assert described is not None
    theirs, ours = from_json({"kind": "file", "tokenizer": described}), ByteTokenizer()
    ids = ours.encode(text)
    assert theirs.encode(text).tolist() == ids.tolist()
    assert theirs.decode(ids[1:]) == ours.decode(ids[1:])


@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
def test_characters_as_the_library_reads_them(text: str) -> None:
    """Whatever the characters of a corpus are; others are left out."""
    ours = CharTokenizer("".join(sorted(set(text))))
    described = library_json(ours)
    assert described is not None
    theirs = from_json({"kind": "file", "tokenizer": described})
    assert theirs.encode(text).tolist() == ours.encode(text).tolist()
    assert theirs.decode(ours.encode(text)) == text
    assert theirs.encode_prompt(text + "\u4e01").tolist() == ours.encode_prompt(text + "\u4e01").tolist()


def test_a_model_on_token_ids_has_no_tokenizer_files(tmp_path: Path) -> None:
    """And no end of text; the note says so."""
    weights = weights_of(make_model(**GPT2), {"kind": "ids", "vocab_size": VOCAB_SIZE})
    exported(weights, tmp_path / "hf")
    assert sorted(path.name for path in (tmp_path / "hf").iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
    ]
    assert json.loads((tmp_path / "hf" / "config.json").read_text())["eos_token_id"] is None


def test_a_padded_vocabulary_is_cut_to_the_tokenizers(library: ModuleType, tmp_path: Path) -> None:
    """Rows of ids that no token has are left out; the logits of all others stay."""
    theirs = llama(library, vocab_size=320)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps(library_json(ByteTokenizer())))
    ours = imported(tmp_path)
    assert ours.vocab_size == 257
    with torch.no_grad():
        torch.testing.assert_close(ours(ids()), theirs(ids()).logits[..., :257], **TOLERANCE)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("missing", "model.norm.weight is missing"),
        ("unknown", "model.layers.0.extra.weight is unknown"),
        ("size", "model.layers.0.self_attn.q_proj.weight is 7 x 32 instead of 32 x 32"),
        ("outside", "weight_map must name files of the same folder"),
        ("none", "no weights beside its config.json: neither model.safetensors"),
        ("layers", "21 tensors cannot be the 1000000000 layers"),
    ],
)
def test_a_folder_that_is_not_what_it_says(change: str, said: str, library: ModuleType, tmp_path: Path) -> None:
    """One sentence with the names of the family."""
    theirs = llama(library)
    theirs.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    tensors = theirs.state_dict()
    if change == "missing":
        del tensors["model.norm.weight"]
    if change == "unknown":
        tensors["model.layers.0.extra.weight"] = torch.ones(1)
    if change == "size":
        tensors["model.layers.0.self_attn.q_proj.weight"] = torch.ones(7, 32)
    if change == "layers":
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 10**9}))
    if change == "outside":
        index = {"weight_map": {"a": f"..{os.sep}secret.safetensors"}}
        (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    elif change != "none":
        torch.save(tensors, tmp_path / "pytorch_model.bin")
    with pytest.raises(UsageError, match=said):
        load(tmp_path)
