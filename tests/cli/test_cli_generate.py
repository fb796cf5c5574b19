"""Promises of `generate`: the model's text alone on stdout, the same again for the same seed, errors as sentences."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plt_tui.cli.generate import SEPARATOR, encode_typed, text_pieces
from plt_tui.control.folder import RunFolder
from plt_tui.data.tokenizer import ByteTokenizer, CharTokenizer, IdTokenizer, SubwordTokenizer, Tokenizer, train_bpe
from plt_tui.errors import UsageError
from plt_tui.model import generate as model_generate
from plt_tui.model.build import build_model
from plt_tui.training import inference
from plt_tui.weights.bundle import load_into
from plt_tui.weights.read import load
from plt_tui.weights.write import convert
from tests.cli.commands import Call
from tests.cli.conftest import TEXT, MakeRun

PLUGIN = """
import torch
from plt_tui.model.base import LanguageModel

class Same(LanguageModel):
    def __init__(self, shape, *, vocab_size, context, argument):
        super().__init__(shape, vocab_size=vocab_size, context=context)
        self.row = torch.nn.Parameter(torch.zeros(vocab_size))

    def logits(self, ids):
        return self.row.expand(*ids.shape, -1)

MODELS = {"same": Same}
"""


def expected(run: RunFolder, step: int, prompt: str, **wishes: Any) -> list[int]:
    """What the model of a checkpoint writes, asked directly."""
    weights = load(run.checkpoints / f"step-{step:08d}")
    assert weights.blueprint is not None
    of = weights.blueprint
    model = build_model(of.shape, vocab_size=of.vocab_size, context=of.context, seed=1)
    load_into(weights, model)
    return list(model_generate.generate(model, torch.tensor(list(prompt.encode())), stop_id=256, **wishes))


def damage(folder: Path) -> None:
    """Change one byte of a checkpoint's weights."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_json_has_the_models_text(byte_run: RunFolder, call: Call) -> None:
    """Of the newest checkpoint; prompt, length and temperature are the run's unless an option says otherwise."""
    done = call("generate", str(byte_run.path), "--seed", "5", "--json")
    written = json.loads(done.out)
    tokens = expected(byte_run, 4, "the fox ", tokens=12, temperature=1.0, seed=5)
    assert list(written) == ["prompt", "text", "tokens", "seconds", "seed"]
    assert (written["prompt"], written["tokens"], written["seed"]) == ("the fox ", len(tokens), 5)
    assert written["text"] == ByteTokenizer().decode(tokens)
    assert "step 4 of" in done.err


def test_options_win_over_the_runs_settings(byte_run: RunFolder, call: Call) -> None:
    """Prompt, tokens, temperature, top-k, top-p and the checkpoint."""
    options = ("--prompt", "dog", "--tokens", "9", "--temperature", "0.5", "--top-k", "20", "--top-p", "0.9", "--step", "2")
    done = call("generate", str(byte_run.path), "--seed", "0", "--json", *options)
    tokens = expected(byte_run, 2, "dog", tokens=9, temperature=0.5, top_k=20, top_p=0.9, seed=0)
    assert json.loads(done.out)["text"] == ByteTokenizer().decode(tokens)
    assert "step 2 of" in done.err


def test_plain_text_is_the_prompt_and_its_continuation(char_run: RunFolder, call: Call) -> None:
    """And a line break at the end; each further text has the next seed and stands behind a line of its own."""
    texts = [json.loads(call("generate", str(char_run.path), "--json", "--seed", str(seed)).out)["text"] for seed in (8, 9)]
    done = call("generate", str(char_run.path), "--seed", "8", "--num", "2")
    assert done.out == f"the fox {texts[0]}\n{SEPARATOR}\nthe fox {texts[1]}\n"


def test_a_seed_that_was_not_given_is_told(char_run: RunFolder, call: Call) -> None:
    """With it the same text comes again."""
    first = call("generate", str(char_run.path))
    seed = first.err.rpartition("seed ")[2].strip()
    assert call("generate", str(char_run.path), "--seed", seed).out == first.out


def test_the_prompt_can_come_from_stdin(char_run: RunFolder, call: Call) -> None:
    """Without its last line break."""
    done = call("generate", str(char_run.path), "--prompt", "-", "--json", stdin="café\nlà\n".encode())
    assert json.loads(done.out)["prompt"] == "café\nlà"
    wrong = call("generate", str(char_run.path), "--prompt", "-", stdin=b"ab\xff")
    assert (wrong.exit_code, wrong.out) == (2, "")
    assert "stdin is not UTF-8 text (byte 2)" in wrong.err


def test_a_run_that_goes_on_is_only_read(byte_run: RunFolder, call: Call) -> None:
    """Its lock is held by its hub, and nothing in its folder changes."""
    before = {path: path.stat().st_mtime_ns for path in byte_run.path.rglob("*")}
    lock = byte_run.lock()
    try:
        assert call("generate", "byt", "--dir", str(byte_run.path.parent)).exit_code == 0
    finally:
        os.close(lock)
    after = {path: path.stat().st_mtime_ns for path in byte_run.path.rglob("*") if path.name != "lock"}
    assert {path for path in after if before.get(path) != after[path]} <= {byte_run.path}


def test_a_damaged_checkpoint_is_passed_over(byte_run: RunFolder, call: Call, tmp_path: Path) -> None:
    """And said so; when none is left, that is a storage error, and so it is when the damaged one was chosen."""
    run = RunFolder(tmp_path / "copy")
    shutil.copytree(byte_run.path, run.path)
    damage(run.checkpoints / "step-00000004")
    done = call("generate", str(run.path), "--tokens", "1")
    assert done.exit_code == 0
    assert "passed over: " in done.err
    assert "step 2 of" in done.err
    assert call("generate", str(run.path), "--step", "4").exit_code == 5
    damage(run.checkpoints / "step-00000002")
    none_left = call("generate", str(run.path))
    assert (none_left.exit_code, none_left.out) == (5, "")
    assert "none of its checkpoints can be read" in none_left.err
    shutil.rmtree(run.checkpoints)
    nothing = call("generate", str(run.path))
    assert nothing.exit_code == 2
    assert "copy has saved no checkpoint yet" in nothing.err


def test_a_checkpoint_that_makes_room_for_a_newer_one_is_no_damage(
    byte_run: RunFolder, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on while the command looks: then the newer one is taken, and nothing is said."""
    run = RunFolder(tmp_path / "copy")
    shutil.copytree(byte_run.path, run.path)

    def late(path: Path) -> Any:
        if path.name == "step-00000004" and path.exists():
            path.rename(path.with_name("step-00000006"))
        return load(path)

    monkeypatch.setattr("plt_tui.weights.read.load", late)
    done = call("generate", str(run.path), "--tokens", "1")
    assert done.exit_code == 0
    assert len(done.err.splitlines()) == 1
    assert "step 4 of" in done.err  # the content that was moved


@pytest.mark.parametrize("form", ["safetensors", "hf"])
def test_an_export_writes_what_its_run_writes(make_run: MakeRun, call: Call, tmp_path: Path, form: str) -> None:
    """From its folder alone, with the tokenizer that lies there."""
    run = make_run(tmp_path / "gpt", "model.preset=gpt2", "data.tokenizer=char")
    convert(run.path, form, tmp_path / "out")
    options = ("--prompt", "the ", "--tokens", "8", "--temperature", "1", "--seed", "3", "--json")
    texts = [json.loads(call("generate", str(path), *options).out)["text"] for path in (run.path, tmp_path / "out")]
    assert texts[0] == texts[1]


def test_a_checkpoint_folder_keeps_the_settings_of_its_run(byte_run: RunFolder, call: Call) -> None:
    """Wherever the run keeps its checkpoints."""
    done = call("generate", str(byte_run.checkpoints / "step-00000002"), "--json")
    assert json.loads(done.out)["prompt"] == "the fox "
    assert "step 2 of" in done.err


def test_token_ids_without_text(id_run: RunFolder, call: Call) -> None:
    """Numbers in, numbers out; what is no id is refused."""
    done = call("generate", str(id_run.path), "--prompt", "17 4", "--tokens", "3")
    words = done.out.split()
    assert (words[:2], len(words)) == (["17", "4"], 5)
    assert all(word[0] == "<" and int(word[1:-1]) < 300 for word in words[2:])
    for prompt in ("17 300", "the", "99999999999"):
        wrong = call("generate", str(id_run.path), "--prompt", prompt)
        assert (wrong.exit_code, wrong.out) == (2, "")
        assert "is no id below 300" in wrong.err


def test_a_plugins_model_needs_its_file(make_run: MakeRun, call: Call, tmp_path: Path) -> None:
    """Without `--plugin` the sentence says what to add."""
    (tmp_path / "p.py").write_text(PLUGIN)
    run = make_run(tmp_path / "same", "model.arch=same", plugins=(str(tmp_path / "p.py"),))
    missing = call("generate", str(run.path))
    assert (missing.exit_code, missing.out) == (2, "")
    assert "add --plugin FILE" in missing.err
    assert call("generate", str(run.path), "--plugin", str(tmp_path / "p.py"), "--tokens", "3").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["none"], "no run 'none' under"),
        (["some/where"], "some/where: there is nothing"),
        (["RUN", "--step", "3"], "--step 3: no such checkpoint of"),
        (["RUN", "--temperature", "11"], "--temperature: sample.temperature: expected a number >= 0 and <= 10, found 11.0"),
        (["RUN", "--top-p", "0"], "--top-p: "),
        (["RUN", "--tokens", "0"], "--tokens: "),
        (["RUN", "--seed", "-1"], "--seed"),
        (["RUN", "--device", "tpu"], "--device tpu: expected auto, cpu, cuda or cuda:N"),
        (["RUN", "--device", "cuda:88"], "--device cuda:88: "),
        (["RUN", "--prompt", "a§b"], "--prompt: the character '§' (U+00A7) is none of the"),
        (["RUN", "--prompt", "a\udcffb"], "--prompt: not valid UTF-8"),
        (["RUN", "--plugin", "no.py"], "--plugin no.py: no such file"),
    ],
)
def test_a_wrong_request_is_a_sentence(char_run: RunFolder, call: Call, arguments: list[str], said: str) -> None:
    """Exit code 2, nothing on stdout."""
    done = call("generate", *(str(char_run.path) if word == "RUN" else word for word in arguments))
    assert (done.exit_code, done.out) == (2, "")
    assert said in " ".join(done.err.split())
    assert "Traceback" not in done.err


def test_a_prompt_longer_than_the_context_is_said(char_run: RunFolder, call: Call) -> None:
    """The model sees its end."""
    done = call("generate", str(char_run.path), "--prompt", "the lazy dog " * 3, "--tokens", "2")
    assert done.exit_code == 0
    assert "the prompt has 39 tokens; the model sees the last 16 of them" in done.err


def test_weights_that_are_no_numbers_are_refused(char_run: RunFolder, call: Call, tmp_path: Path) -> None:
    """Rather than text drawn from nothing."""
    convert(char_run.path, "torch", tmp_path / "out")
    content = torch.load(tmp_path / "out" / "model.pt", weights_only=True)
    next(iter(content["model"].values())).view(-1)[0] = float("nan")
    torch.save(content, tmp_path / "out" / "model.pt")
    done = call("generate", str(tmp_path / "out"))
    assert (done.exit_code, done.out) == (2, "")
    assert "no finite numbers" in done.err


def test_ctrl_c_ends_the_line_and_the_command(char_run: RunFolder, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the exit code of SIGINT; JSON on stdout stays JSON."""

    def interrupted(*_: object, **__: object) -> list[int]:
        raise KeyboardInterrupt

    monkeypatch.setattr(inference, "stream", interrupted)
    done = call("generate", str(char_run.path))
    assert (done.exit_code, done.out) == (130, "the fox \n")
    assert (call("generate", str(char_run.path), "--json").out) == ""


def test_nothing_that_a_terminal_acts_on(byte_run: RunFolder, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model may write any bytes."""
    monkeypatch.setattr(inference, "stream", lambda *_, **__: list(b"\x1b[2Jx\x7f"))
    assert call("generate", str(byte_run.path)).out == "the fox \\x1b[2Jx\\x7f\n"
    assert "\x7f" not in call("generate", str(byte_run.path), "--json").out


BPE = train_bpe([TEXT], 300)


def metaspace() -> Tokenizer:
    """A tokenizer that drops the space of the first word, as Llama's does."""
    from tokenizers import Tokenizer as Library
    from tokenizers import decoders, models, pre_tokenizers

    words = {"▁the": 0, "▁dog": 1, "s": 2, "▁": 3}
    library = Library(models.WordLevel(words, unk_token="s"))
    library.pre_tokenizer = pre_tokenizers.Metaspace()
    library.decoder = decoders.Metaspace()
    return SubwordTokenizer("file", library)


@pytest.mark.parametrize(
    "tokenizer",
    [ByteTokenizer(), CharTokenizer("".join(sorted(set(TEXT)))), BPE, IdTokenizer(300), metaspace()],
    ids=["byte", "char", "bpe", "ids", "metaspace"],
)
@given(data=st.data())
def test_pieces_join_to_the_whole_text(tokenizer: Tokenizer, data: st.DataObject) -> None:
    """Whatever the model writes, for every tokenizer: as if it were decoded behind the prompt at once."""
    token = st.integers(0, min(tokenizer.vocab_size, 300) - 1)
    before: Sequence[int] = tokenizer.encode_prompt("the dog" if tokenizer.kind != "ids" else "17 4").tolist()
    written = data.draw(st.lists(token, max_size=30))
    whole = tokenizer.decode([*before, *written])
    assert tokenizer.decode(before) + "".join(text_pieces(tokenizer, before, written)) == whole


def test_no_piece_cuts_a_character() -> None:
    """Its bytes wait until all are there; what never becomes a character comes at the end."""
    written = [*"aé€".encode(), *"😀".encode(), 0xE2, 0x82]
    assert list(text_pieces(ByteTokenizer(), list(b"x"), written)) == ["a", "é", "€", "😀", "\ufffd"]


def test_a_text_is_written_token_by_token() -> None:
    """A piece is there before the next token is asked for."""
    asked: list[int] = []

    def tokens() -> Any:
        for token in b"abc":
            asked.append(token)
            yield token

    pieces = text_pieces(ByteTokenizer(), [], tokens())
    assert (next(pieces), len(asked)) == ("a", 1)


def test_an_empty_prompt_begins_a_document() -> None:
    """Its only token is end-of-text, or the first one where there is none."""
    assert encode_typed(ByteTokenizer(), "") == [256]
    assert encode_typed(IdTokenizer(300), " ") == [0]
    with pytest.raises(UsageError, match="is no id below 300"):
        encode_typed(IdTokenizer(300), "<17> -4")
