"""Promises of `config.pretrained`: what lies at a path is recognised without torch, or refused in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from plt_tui.config.blueprint import FORMAT, Blueprint, from_header, header
from plt_tui.config.pretrained import PRETRAINED_KEYS, checkpoints, locate, pretrained_values, refuse_unfit
from plt_tui.config.schema import DataSection, ModelSection, RunConfig, TrainSection
from plt_tui.errors import PltTuiError, UsageError
from tests.another_user import shared_folder, without_rights

HEADER = header(Blueprint(shape=ModelSection(layers=3), context=32, vocab_size=99), "byte")
SHAPE = {**HEADER["shape"], "context": 32, "vocab_size": 99}


def write(path: Path, value: Any) -> None:
    """JSON, or text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))


def safetensors(metadata: dict[str, Any]) -> bytes:
    """A file of no tensors."""
    text = json.dumps({"__metadata__": metadata}).encode()
    return len(text).to_bytes(8, "little") + text


def test_the_header_there_and_back() -> None:
    """Shape, context and vocabulary."""
    of = Blueprint(shape=ModelSection(layers=7, kv_heads=2, softcap=3.0), context=5, vocab_size=6)
    assert from_header(json.loads(json.dumps(header(of, "ids")))) == of


def test_every_kind_of_place_gives_the_shape(tmp_path: Path) -> None:
    """A folder of ours, its file, a safetensors file's metadata, a checkpoint."""
    write(tmp_path / "ours" / "model.json", HEADER)
    (tmp_path / "a.safetensors").write_bytes(safetensors({"plt_tui": json.dumps(HEADER)}))
    write(tmp_path / "step-00000001" / "manifest.json", {})
    write(tmp_path / "step-00000001" / "state.json", {"shape": SHAPE, "tokenizer": {"kind": "byte"}})
    for name in ("ours", "ours/model.json", "a.safetensors", "step-00000001"):
        values = pretrained_values(str(tmp_path / name))
        assert (values["model.layers"], values["data.context"], values["data.tokenizer"]) == (3, 32, "byte")
        assert "model.dropout" not in values
        assert "data.vocab_size" not in values


@pytest.mark.parametrize("kind", ["char", "bpe", "file"])
def test_the_tokenizer_of_a_checkpoint_is_in_its_state(kind: str, tmp_path: Path) -> None:
    """`data.tokenizer` names that file."""
    write(tmp_path / "manifest.json", {})
    write(tmp_path / "state.json", {"shape": SHAPE, "tokenizer": {"kind": kind}})
    assert pretrained_values(str(tmp_path))["data.tokenizer"] == str(tmp_path / "state.json")


def test_token_ids_and_missing_tokenizers_give_the_size_of_the_vocabulary(tmp_path: Path) -> None:
    """And no `data.tokenizer`."""
    for kind in ("ids", "bpe", None):
        write(tmp_path / "model.json", {**HEADER, "tokenizer": kind})
        values = pretrained_values(str(tmp_path))
        assert values["data.vocab_size"] == 99
        assert "data.tokenizer" not in values


def test_files_that_do_not_say_their_shape_fix_nothing(tmp_path: Path) -> None:
    """A pickle is not even opened."""
    (tmp_path / "a.pt").write_bytes(b"whatever")
    (tmp_path / "a.safetensors").write_bytes(safetensors({"format": "pt"}))
    assert pretrained_values(str(tmp_path / "a.pt")) == {}
    assert pretrained_values(str(tmp_path / "a.safetensors")) == {}


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("nothing", None, "nothing: there is nothing; give a file or folder on this machine"),
        ("a.onnx", "", r"a\.onnx: weights are read from files ending in \.safetensors, \.pt, \.pth, \.json, or from folders"),
        ("empty/file", "", "empty: no weights: neither model.json"),
        ("a.json", "{", r"a\.json: not valid JSON"),
        ("a.json", "[" * 100_000, r"a\.json: not valid JSON"),
        ("a.json", [], r"a\.json: expected a JSON object, found a list"),
        ("a.json", {"version": "1.0"}, f'not weights of plt-tui: format: expected text "{FORMAT}", found null'),
        ("a.json", {**HEADER, "format": "plt-tui weights 9"}, 'found text "plt-tui weights 9"'),
        ("a.json", {**HEADER, "shape": 4}, "shape: expected a table, found 4"),
        ("a.json", {**HEADER, "shape": {"heads": 3}}, "model.heads = 3: 3 heads do not divide width 128"),
        ("a.json", {**HEADER, "shape": {"later": 3}}, "model.later = 3: "),
        ("a.json", {**HEADER, "context": 0}, "context: expected a whole number >= 1, found 0"),
        ("a.json", {**HEADER, "vocab_size": True}, "vocab_size: expected a whole number >= 1, found true"),
        ("a.safetensors", "short", r"a\.safetensors: not a safetensors file"),
        ("a.safetensors", "\x7f" * 16, r"a\.safetensors: not a safetensors file \(a header of \d+ bytes\)"),
        ("hf/config.json", {"model_type": "bert"}, r'config\.json: model_type: text "bert" is not supported'),
        ("step/state.json", {}, "state.json: not the state of a checkpoint"),
        ("step/state.json", {"shape": {**SHAPE, "heads": 3}, "tokenizer": {}}, "3 heads do not divide width 128"),
        ("a\x1b[2J.onnx", "", r"a\\x1b\[2J\.onnx: weights are read"),
    ],
)
def test_what_holds_no_weights_is_one_sentence(name: str, content: Any, said: str, tmp_path: Path) -> None:
    """What was found, and never a terminal's control character."""
    path = tmp_path / name
    if content is not None:
        write(path, content)
    if path.parent != tmp_path:
        path = path.parent
    if path.name == "step":
        write(path / "manifest.json", {})
    with pytest.raises(PltTuiError, match=said) as caught:
        pretrained_values(str(path))
    assert str(caught.value).isprintable()


def test_all_that_weights_can_fix_is_known_without_them(tmp_path: Path) -> None:
    """Whatever kind of tokenizer they have."""
    found = set()
    for kind in ("byte", None):
        write(tmp_path / "model.json", {**HEADER, "tokenizer": kind})
        found |= pretrained_values(str(tmp_path)).keys()
    assert found == PRETRAINED_KEYS


@pytest.mark.parametrize(
    ("saved", "asked", "context", "said"),
    [
        ({}, {}, 64, None),
        ({"position": "learned"}, {"position": "learned"}, 16, None),
        (
            {},
            {"softcap": 3.0, "window": 9, "norm_eps": 1e-3, "rope_base": 5.0, "dropout": 0.5, "kv_heads": 4, "ffn": 512},
            32,
            None,
        ),
        ({}, {"heads": 2, "tie_embeddings": True}, 32, r"model\.heads is 2 instead of 4, model\.tie_embeddings is true"),
        ({}, {"kv_heads": 2}, 32, r"model\.kv_heads is 2 instead of 4; leave these keys out"),
        ({"ffn": 64}, {"ffn": 128}, 32, r"model\.ffn is 128 instead of 64"),
        ({"position": "learned"}, {"position": "learned"}, 64, r"data\.context is 64 instead of 32"),
        ({"arch": "mine"}, {"arch": "mine", "width": 64}, 32, None),
        ({"arch": "mine"}, {}, 32, 'model.arch is text "transformer" instead of text "mine"'),
    ],
)
def test_a_shape_that_weights_do_not_have_is_found_before_they_are_read(
    saved: dict[str, Any], asked: dict[str, Any], context: int, said: str | None, tmp_path: Path
) -> None:
    """With both values; what may be changed for fine-tuning is let through."""
    shape = ModelSection(layers=3, **saved)
    write(tmp_path / "model.json", header(Blueprint(shape=shape, context=32, vocab_size=99), "byte"))
    config = RunConfig(
        train=TrainSection(init_from=str(tmp_path)),
        data=DataSection(context=context),
        model=ModelSection(**{"layers": 3, **asked}),
    )
    if said is None:
        refuse_unfit(config)
        return
    with pytest.raises(UsageError, match=said):
        refuse_unfit(config)


@pytest.mark.parametrize("config", ["", "not toml", "checkpoint = 3", "[checkpoint]\ndir = 4"])
def test_a_folder_that_is_no_run_has_no_checkpoints(config: str, tmp_path: Path) -> None:
    """Whatever its config.toml says."""
    (tmp_path / "config.toml").write_text(config)
    assert checkpoints(tmp_path) == {}
    with pytest.raises(UsageError, match="nor a run's saved checkpoint"):
        locate(tmp_path)


def test_no_torch_is_needed() -> None:
    """The command line reads headers, and must start at once."""
    code = "import sys, plt_tui.config.pretrained; print(*(name for name in ('torch', 'numpy') if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("place", ["x" * 300, "closed/model"])
def test_where_one_may_not_look_there_are_no_weights(place: str) -> None:
    """A name that no file can have, a folder that is closed to us: one sentence."""
    with shared_folder() as folder:
        (folder / "closed" / "model").mkdir(parents=True)
        (folder / "closed").chmod(0)
        with without_rights(), pytest.raises(UsageError, match=r"cannot be looked at: (File name|Permission)"):
            locate(folder / place)
