"""Promises of `weights.write`, `read` and `bundle`: what is written is loaded again, fits its model, or says what does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import CONTEXT, GPT2, LLAMA, make_model, same_bits, weights_of

from plt_tui.config.load import to_toml
from plt_tui.config.pretrained import pretrained_values
from plt_tui.config.schema import CheckpointSection, RunConfig
from plt_tui.data.tokenizer import SubwordTokenizer, load_file, train_bpe
from plt_tui.errors import StorageError, UsageError
from plt_tui.weights import formats, write
from plt_tui.weights.bundle import Weights, load_into
from plt_tui.weights.digest import weights_sha256
from plt_tui.weights.read import load
from plt_tui.weights.write import convert

OUR_FORMATS = ("safetensors", "torch", "json")
MODERN = {"kv_heads": 2, "softcap": 15.0, "window": 4}
CHARACTERS = {"kind": "char", "characters": "\n !abcdeé漢"}


@pytest.fixture
def save(tmp_path: Path) -> Any:
    """Writes weights to a new folder as `convert` does what it has loaded."""

    def save_as(weights: Weights, form: str, name: str = "out") -> Path:
        convert("", form, tmp_path / name, read=lambda _: weights)
        return tmp_path / name

    return save_as


def bpe() -> SubwordTokenizer:
    """A small vocabulary with merges."""
    return train_bpe(["the cat sat on the mat, the cat sat"] * 3, 270)


def save_checkpoint(folder: Path, weights: Weights) -> Path:
    """The files of a checkpoint that loading looks at."""
    of = weights.blueprint
    assert of is not None
    folder.mkdir(parents=True)
    formats.write_safetensors(folder / "model.safetensors", weights.tensors, {})
    shape = {**of.shape.model_dump(exclude={"preset", "dropout"}), "context": of.context, "vocab_size": of.vocab_size}
    (folder / "state.json").write_text(json.dumps({"shape": shape, "tokenizer": weights.tokenizer}))
    (folder / "manifest.json").write_text(json.dumps({"weights_sha256": weights_sha256(weights.tensors)}))
    return folder


@pytest.mark.parametrize("form", OUR_FORMATS)
@pytest.mark.parametrize("keys", [MODERN, GPT2, LLAMA], ids=["modern", "gpt2", "llama"])
def test_our_formats_give_back_everything(form: str, keys: dict[str, Any], save: Any) -> None:
    """Numbers to the bit, shape, context, vocabulary and tokenizer."""
    before = weights_of(make_model(**keys))
    after = load(save(before, form))
    assert same_bits(dict(after.tensors), dict(before.tensors))
    assert (after.blueprint, after.tokenizer) == (before.blueprint, before.tokenizer)


@pytest.mark.parametrize("form", OUR_FORMATS)
def test_a_file_out_of_a_folder_can_be_named_itself(form: str, save: Any) -> None:
    """It says its own shape."""
    before = weights_of(make_model())
    folder = save(before, form)
    file = folder / {"safetensors": "model.safetensors", "torch": "model.pt", "json": "model.json"}[form]
    after = load(file)
    assert same_bits(dict(after.tensors), dict(before.tensors))
    assert after.blueprint == before.blueprint


@pytest.mark.parametrize("form", OUR_FORMATS)
@pytest.mark.parametrize("kind", ["char", "bpe", "ids"])
def test_the_tokenizer_goes_along(kind: str, form: str, save: Any, tmp_path: Path) -> None:
    """As a file that `data.tokenizer` accepts, with the same ids; token ids need none."""
    tokenizer = {"char": CHARACTERS, "bpe": bpe().to_json(), "ids": {"kind": "ids", "vocab_size": 99}}[kind]
    vocab_size = {"char": len(CHARACTERS["characters"]) + 1, "bpe": bpe().vocab_size, "ids": 99}[kind]
    folder = save(weights_of(make_model(vocab_size=vocab_size), tokenizer), form)
    values = pretrained_values(str(folder))
    if kind == "ids":
        assert values["data.vocab_size"] == 99
        assert "data.tokenizer" not in values
        assert load(folder).tokenizer == tokenizer
    else:
        text = "abe" if kind == "char" else "the cat sat"
        wanted = load_file(save_json(tokenizer, tmp_path / "wanted.json")).encode(text)
        assert values["data.tokenizer"] == str(folder / "tokenizer.json")
        assert "data.vocab_size" not in values
        assert load_file(Path(values["data.tokenizer"])).encode(text).tolist() == wanted.tolist()


@pytest.mark.parametrize("form", [*OUR_FORMATS, "hf"])
def test_a_tokenizer_of_other_ids_is_refused(form: str, save: Any) -> None:
    """Before anything is made of weights that could not be used: text would become ids that the model does not have."""
    folder = save(weights_of(make_model(**GPT2, vocab_size=260), bpe().to_json()), form)
    with pytest.raises(UsageError, match=r"its tokenizer has \d+ ids, but the model 260; .*; take both from the same"):
        load(folder)


def save_json(value: Any, path: Path) -> Path:
    """A file of JSON."""
    path.write_text(json.dumps(value))
    return path


@pytest.mark.parametrize("form", OUR_FORMATS)
def test_the_values_of_a_folder_are_those_of_its_shape(form: str, save: Any) -> None:
    """Every key of the shape, none that says nothing about weights, and not one tensor is read."""
    model = make_model(**MODERN)
    values = pretrained_values(str(save(weights_of(model), form)))
    shape = model.shape.model_dump(exclude={"preset", "dropout", "init"})
    expected = {f"model.{key}": value for key, value in shape.items()}
    assert values == {**expected, "data.context": CONTEXT, "data.tokenizer": "byte"}


def test_a_checkpoint_and_a_run_are_loaded(tmp_path: Path) -> None:
    """Of a run, the newest checkpoint that was completely saved."""
    run = tmp_path / "run"
    old, new = weights_of(make_model()), weights_of(make_model(heads=2))
    save_checkpoint(run / "checkpoints" / "step-00000002", old)
    newest = save_checkpoint(run / "checkpoints" / "step-00000010", new)
    save_checkpoint(run / "checkpoints" / "step-00000011", old).joinpath("manifest.json").unlink()
    save_checkpoint(run / "checkpoints" / "step-00000012.aside-1", old)
    (run / "config.toml").write_text(to_toml(RunConfig()))
    loaded = load(run)
    assert loaded.source == str(newest)
    assert same_bits(dict(loaded.tensors), dict(new.tensors))
    assert load(newest).blueprint == new.blueprint
    assert pretrained_values(str(run))["model.heads"] == 2


def test_a_run_with_a_checkpoint_folder_of_its_own(tmp_path: Path) -> None:
    """`checkpoint.dir` of its configuration is where its weights lie."""
    run = tmp_path / "run"
    run.mkdir()
    section = CheckpointSection(dir=str(tmp_path / "elsewhere"))
    (run / "config.toml").write_text(to_toml(RunConfig(checkpoint=section)))
    folder = save_checkpoint(tmp_path / "elsewhere" / "run" / "step-00000003", weights_of(make_model()))
    assert load(run).source == str(folder)


def test_damaged_weights_of_a_checkpoint_are_found(tmp_path: Path) -> None:
    """By their hash, even when every size is right."""
    weights = weights_of(make_model())
    folder = save_checkpoint(tmp_path / "step-00000003", weights)
    changed = {name: tensor + 1 for name, tensor in weights.tensors.items()}
    formats.write_safetensors(folder / "model.safetensors", changed, {})
    with pytest.raises(StorageError, match=r"not the weights that were saved.*choose an older checkpoint"):
        load(folder)
    (folder / "state.json").write_text("{}")
    with pytest.raises(StorageError, match=r"state\.json: not the state of a checkpoint"):
        pretrained_values(str(folder))


def test_weights_fit_the_model_they_came_from() -> None:
    """Every parameter becomes theirs."""
    model, other = make_model(), make_model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    load_into(weights_of(model), other)
    assert same_bits(
        {name: value.detach() for name, value in model.named_parameters()},
        {name: value.detach() for name, value in other.named_parameters()},
    )


def test_tensors_alone_fit_a_model_of_the_same_sizes(tmp_path: Path) -> None:
    """A state dict without a shape: the configuration gives it."""
    model = make_model()
    torch.save(model.state_dict(), tmp_path / "bare.pt")
    formats.write_safetensors(tmp_path / "bare.safetensors", dict(model.named_parameters()), {})
    for name in ("bare.pt", "bare.safetensors"):
        assert pretrained_values(str(tmp_path / name)) == {}
        other = make_model()
        with torch.no_grad():
            other.norm.weight.zero_()  # type: ignore[union-attr, operator]
        load_into(load(tmp_path / name), other)
        assert torch.equal(model.norm.weight, other.norm.weight)  # type: ignore[arg-type]
        with pytest.raises(UsageError, match=r"tensors without their shape; name the file in train\.init_from"):
            convert(tmp_path / name, "safetensors", tmp_path / "out")


def test_a_shorter_context_takes_the_first_positions() -> None:
    """Learned positions of later tokens are left out; a longer context has none to take."""
    long, short = make_model(**GPT2, context=12), make_model(**GPT2, context=5)
    load_into(weights_of(long), short)
    ids = torch.arange(5).unsqueeze(0)
    torch.testing.assert_close(short(ids), long(ids))
    with pytest.raises(UsageError, match=r"positions\.weight is 5 x 32 instead of 12 x 32"):
        load_into(weights_of(short), long)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"width": 64}, "embedding.weight is 257 x 32 instead of 257 x 64, .* and 10 more;"),
        ({"heads": 2}, "model.heads is 4 instead of 2"),
        ({"norm": "layernorm"}, 'model.norm is text "rmsnorm" instead of text "layernorm"'),
        ({"tie_embeddings": True}, "head.weight is unknown"),
        ({"layers": 3}, "blocks.2.attention_norm.weight is missing"),
        ({"kv_heads": 1}, "model.kv_heads is 4 instead of 1"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(keys: dict[str, Any], said: str) -> None:
    """Each size with both values, the first few of many, and the model as it was."""
    model = make_model(**keys)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with pytest.raises(UsageError, match=said):
        load_into(weights_of(make_model()), model)
    assert same_bits({name: value.detach() for name, value in model.named_parameters()}, before)


def test_a_shape_inside_a_pickle_is_no_surprise(save: Any, tmp_path: Path) -> None:
    """A configuration reads the header that our export puts beside it; for the file alone the message names the way."""
    made = make_model(**GPT2)
    folder = save(weights_of(made), "torch")
    assert pretrained_values(str(folder / "model.pt")) == pretrained_values(str(folder))
    (folder / "model.pt").rename(tmp_path / "alone.pt")
    assert pretrained_values(str(tmp_path / "alone.pt")) == {}
    with pytest.raises(UsageError, match=r"gives its shape: plt-tui import .*alone\.pt -o DIR$"):
        load_into(load(tmp_path / "alone.pt"), make_model())


def test_what_may_be_changed_for_fine_tuning() -> None:
    """Soft cap, window, epsilon, rotary base and dropout do not keep weights out."""
    source = make_model(kv_heads=4)
    tuned = make_model(softcap=10.0, window=4, norm_eps=1e-6, rope_base=5e5, dropout=0.1, kv_heads=0)
    with torch.no_grad():
        tuned.norm.weight.fill_(7.0)
    load_into(weights_of(source), tuned)
    assert weights_sha256(dict(tuned.named_parameters())) == weights_sha256(dict(source.named_parameters()))


def test_a_shape_that_the_tensors_do_not_have_is_refused(save: Any) -> None:
    """A header from elsewhere is not believed."""
    folder = save(weights_of(make_model()), "safetensors")
    header = json.loads((folder / "model.json").read_text())
    for key, value, said in [("width", 64, "instead of 257 x 64"), ("layers", 10**9, "layers are missing")]:
        (folder / "model.json").write_text(json.dumps({**header, "shape": {**header["shape"], key: value}}))
        with pytest.raises(UsageError, match=f"not the tensors of the shape that it names: .*{said}"):
            load(folder)


def test_weights_of_a_plug_in_are_only_judged_by_its_model(save: Any) -> None:
    """Nobody else knows which tensors it has."""
    before = weights_of(make_model())
    assert before.blueprint is not None
    of = replace(before.blueprint, shape=before.blueprint.shape.model_copy(update={"arch": "mine"}))
    plugged = replace(before, blueprint=of, tensors={"x": torch.ones(2)})
    assert load(save(plugged, "json")).tensors["x"].tolist() == [1.0, 1.0]
    with pytest.raises(UsageError, match=r'model\.arch = text "mine"'):
        save(plugged, "hf", "hf")


def test_nothing_is_overwritten_and_nothing_half_written(save: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A taken folder is refused before anything is read; a failed write leaves no trace; an empty folder may be used."""
    weights = weights_of(make_model())
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="taken exists already; choose another folder"):
        convert("nowhere", "safetensors", tmp_path / "taken")
    assert (save(weights, "safetensors", "empty") / "model.json").is_file()
    monkeypatch.setattr(formats, "MAX_JSON_NUMBERS", 5)
    with pytest.raises(UsageError, match="too many"):
        save(weights, "json", "failed")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "write_torch", full)
    with pytest.raises(StorageError, match=r"failed: cannot be written: .*No space left"):
        save(weights, "torch", "failed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "taken"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    """The message lists those that are known."""
    with pytest.raises(UsageError, match='--format text "onnx": unknown; known: hf, safetensors, torch, json'):
        convert("nowhere", "onnx", tmp_path / "out")


def test_a_foreign_torch_file_is_refused(tmp_path: Path) -> None:
    """Such as a checkpoint of another trainer, which keeps its own things beside the model."""
    torch.save({"model": {"wte": torch.ones(1)}, "iter_num": 3}, tmp_path / "ckpt.pt")
    with pytest.raises(UsageError, match=r"ckpt\.pt: not weights of plt-tui: format: expected"):
        load(tmp_path / "ckpt.pt")
