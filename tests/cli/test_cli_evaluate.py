"""Promises of `eval`: the numbers of the run's own evaluation, and the same measure on any other text."""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from plt_tui.config.load import from_toml
from plt_tui.control.folder import RunFolder
from plt_tui.data.prepare import prepare
from plt_tui.training.trainer import Trainer
from plt_tui.weights.write import convert
from tests.cli.commands import Call, Outcome
from tests.cli.conftest import TEXT, MakeRun

NUMBERS = ("loss", "perplexity", "bits_per_byte", "accuracy", "tokens")


def numbers(outcome: Outcome) -> dict[str, Any]:
    """What a command printed, but for the time it took."""
    assert outcome.exit_code == 0, outcome.err
    values = json.loads(outcome.out)
    assert list(values) == ["step", *NUMBERS, "seconds"]
    return {key: values[key] for key in NUMBERS}


@pytest.mark.parametrize("step", [2, 4])
def test_the_numbers_are_those_of_the_run(byte_run: RunFolder, call: Call, step: int) -> None:
    """To the last bit: the same windows in the same batches; by run and step, and by the checkpoint's folder."""
    folder = byte_run.checkpoints / f"step-{step:08d}"
    with Trainer(from_toml(byte_run.config.read_text())) as trainer:
        trainer.load_checkpoint(folder)
        own = asdict(trainer.evaluate())
    own.pop("seconds")
    assert numbers(call("eval", str(byte_run.path), "--step", str(step), "--json")) == own
    assert numbers(call("eval", str(folder), "--json")) == own


def test_people_get_aligned_lines(byte_run: RunFolder, call: Call) -> None:
    """With units; what was measured stands on stderr."""
    done = call("eval", str(byte_run.path))
    heads = [line[:14].strip() for line in done.out.splitlines()]
    assert heads == ["loss", "perplexity", "bits per byte", "accuracy", "tokens", "seconds"]
    assert "nats per token" in done.out
    assert "step 4 of" in done.err


def test_all_looks_at_every_window(byte_run: RunFolder, call: Call) -> None:
    """And fewer batches at fewer: batches x batch size x context tokens."""
    held_out = len(prepare(from_toml(byte_run.config.read_text()).data).eval)
    every = numbers(call("eval", str(byte_run.path), "--batches", "all", "--json"))
    assert every["tokens"] == (held_out - 1) // 16 * 16
    few = numbers(call("eval", str(byte_run.path), "--batches", "2", "--batch-size", "3", "--json"))
    assert few["tokens"] == 2 * 3 * 16


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
def test_another_corpus_is_read_in_the_runs_tokens(make_run: MakeRun, call: Call, tmp_path: Path, kind: str) -> None:
    """The held-out tail as a file of its own gives the run's numbers; prepared once, it is found again."""
    run = make_run(tmp_path / "run", f"data.tokenizer={kind}", "data.vocab_size=300", "data.eval_fraction=0.25")
    options = ("--batches", "all", "--batch-size", "64", "--json")
    (tmp_path / "tail.txt").write_text(TEXT[-len(TEXT) // 4 :], encoding="utf-8")
    first = call("eval", str(run.path), "--data", str(tmp_path / "tail.txt"), *options)
    own = numbers(call("eval", str(run.path), *options))
    assert numbers(first)["loss"] == pytest.approx(own["loss"], abs=0.05)
    assert numbers(first)["bits_per_byte"] == pytest.approx(own["bits_per_byte"], rel=0.05)
    assert "tokenising" in first.err
    again = call("eval", str(run.path), "--data", str(tmp_path / "tail.txt"), *options)
    assert "tokenising" not in again.err
    assert numbers(again) == numbers(first)


@pytest.mark.parametrize("form", ["safetensors", "hf"])
def test_an_export_is_measured_on_a_given_corpus(
    make_run: MakeRun, call: Call, corpora: Path, tmp_path: Path, form: str
) -> None:
    """As its run is; without a corpus there is nothing to measure it on."""
    run = make_run(tmp_path / "gpt", "model.preset=gpt2", "data.tokenizer=bpe", "data.vocab_size=300")
    convert(run.path, form, tmp_path / "out")
    options = ("--data", str(corpora / "text.txt"), "--batches", "3", "--batch-size", "4", "--json")
    of_run, of_export = (numbers(call("eval", str(path), *options)) for path in (run.path, tmp_path / "out"))
    assert of_export == pytest.approx(of_run, rel=1e-5)
    missing = call("eval", str(tmp_path / "out"))
    assert (missing.exit_code, missing.out) == (2, "")
    assert "give --data CORPUS" in missing.err


def test_ids_without_text_have_no_bits_per_byte(id_run: RunFolder, call: Call, corpora: Path) -> None:
    """In JSON the word nan, as everywhere; text cannot be measured with them."""
    assert numbers(call("eval", str(id_run.path), "--json"))["bits_per_byte"] == "nan"
    assert "unknown: these token ids have no text" in call("eval", str(id_run.path)).out
    assert numbers(call("eval", str(id_run.path), "--data", str(corpora / "ids.bin"), "--json"))["loss"] > 0
    text = call("eval", str(id_run.path), "--data", str(corpora / "text.txt"))
    assert (text.exit_code, text.out) == (7, "")
    assert "that is not the model's (ids, 300 ids)" in text.err


def test_a_tokenizer_whose_file_has_gone_comes_from_the_checkpoint(make_run: MakeRun, call: Call, tmp_path: Path) -> None:
    """A fine-tuned run whose first weights were deleted has the same numbers as before."""
    first = make_run(tmp_path / "first", "data.tokenizer=bpe", "data.vocab_size=300")
    convert(first.path, "safetensors", tmp_path / "out")
    run = make_run(tmp_path / "second", f"data.tokenizer={tmp_path / 'out' / 'tokenizer.json'}")
    before = numbers(call("eval", str(run.path), "--json"))
    shutil.rmtree(tmp_path / "out")
    again = call("eval", str(run.path), "--json")
    assert numbers(again) == before
    assert "has changed" not in again.err


def test_a_corpus_that_has_changed_is_noticed(make_run: MakeRun, call: Call, tmp_path: Path) -> None:
    """Other held-out text is said; another vocabulary is refused."""
    corpus = tmp_path / "t.txt"
    runs = []
    corpus.write_text(TEXT, encoding="utf-8")
    for kind in ("byte", "char"):
        runs.append(make_run(tmp_path / kind, f"data.train={corpus}", f"data.tokenizer={kind}"))
    corpus.write_text(TEXT + "§§§ and more of it " * 40, encoding="utf-8")
    said = call("eval", str(runs[0].path))
    assert said.exit_code == 0
    assert "the run's corpus has changed since this checkpoint" in said.err
    refused = call("eval", str(runs[1].path))
    assert (refused.exit_code, refused.out) == (7, "")
    assert "the run's corpus or tokenizer file has changed" in refused.err


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        (["--data", "none.txt"], 7, "--data: data.train (none.txt): no such file"),
        (["--data", "short.txt"], 7, "too short"),
        (["--data", "other.txt"], 7, "the character '§' (U+00A7)"),
        (["--batches", "0"], 2, "--batches: eval.batches: expected a whole number >= 1"),
        (["--batches", "some"], 2, "--batches: eval.batches: expected a whole number >= 1"),
        (["--batch-size", "0"], 2, "--batch-size: train.batch_size: expected a whole number >= 1"),
        (["--step", "3"], 2, "--step 3: no such checkpoint"),
    ],
)
def test_what_cannot_be_measured_is_a_sentence(
    char_run: RunFolder,
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    exit_code: int,
    said: str,
) -> None:
    """With its exit code, and nothing on stdout."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.txt").write_text("the dog")
    (tmp_path / "other.txt").write_text("§" * 100, encoding="utf-8")
    done = call("eval", str(char_run.path), *options)
    assert (done.exit_code, done.out) == (exit_code, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_a_run_with_its_checkpoints_elsewhere(make_run: MakeRun, call: Call, tmp_path: Path) -> None:
    """A checkpoint there knows its run by the name that the run left beside it."""
    run = make_run(tmp_path / "runs" / "away", f"checkpoint.dir={tmp_path / 'disk'}")
    root = tmp_path / "disk" / "away"
    root.parent.mkdir()
    shutil.move(run.checkpoints, root)
    os.close(run.claim(root))
    by_run = numbers(call("eval", str(run.path), "--json"))
    assert math.isfinite(by_run["loss"])
    assert numbers(call("eval", str(root / "step-00000004"), "--json")) == by_run
