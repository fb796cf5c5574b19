"""Promises of `data prepare` and `data inspect`: the numbers of a corpus, and the samples that a run would train on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plt_tui.cli.data import END_OF_TEXT, marked_text
from plt_tui.data.cursor import train_batches
from plt_tui.data.prepare import prepare
from plt_tui.data.tokenizer import ByteTokenizer, IdTokenizer
from plt_tui.training.seeds import stream_seed
from tests.cli.commands import Call
from tests.cli.conftest import config_of


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder and cache, and three documents as JSON lines."""
    monkeypatch.setenv("PLT_TUI_CACHE", str(tmp_path / "cache"))
    for variable in ("TRAIN_DATA_PATH", "EVAL_DATA_PATH"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    texts = ["one", "two \x1b[2J", "three and more"] * 20
    (tmp_path / "docs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path


DOCS = ("--train-path", "docs.jsonl", "--set", "data.context=20")


def test_prepare_says_what_there_is(call: Call) -> None:
    """Corpora, tokens on both sides, vocabulary, samples per epoch, and where it is kept."""
    done = call("data", "prepare", *DOCS)
    assert done.exit_code == 0
    lines = [line.split(maxsplit=1) for line in done.out.splitlines()]
    assert [words[0] for words in lines] == ["corpus", "to", "held", "tokens", "epoch", "kept"]
    assert "docs.jsonl: 532 tokens" in done.out
    assert "27 tokens (the last 5 % of each corpus)" in done.out
    assert "byte, 257 ids" in done.out
    assert "25 samples of 20 tokens (concatenate)" in done.out
    assert Path(done.out.splitlines()[-1].split(maxsplit=2)[2]).is_file()


def test_what_is_prepared_is_found_again(call: Call) -> None:
    """Progress is shown once, on stderr."""
    first, second = (call("data", "prepare", *DOCS) for _ in range(2))
    assert "tokenising  100%" in first.err
    assert (second.err, second.out) == ("", first.out)


def test_inspect_shows_the_samples_of_a_run(call: Call) -> None:
    """Bit for bit those that it trains on, of the same seed, from the wanted index on."""
    done = call("data", "inspect", *DOCS, "--sample", "30", "--count", "5", "--set", "run.seed=7", "--json")
    config = config_of("data.train=docs.jsonl", "data.context=20", "run.seed=7")
    batches = train_batches(prepare(config.data), config.data, stream_seed(7, "data"))
    shown = json.loads(done.out)
    assert [sample["ids"] for sample in shown["samples"]] == batches.batch(30, 5).tolist()
    assert [sample["index"] for sample in shown["samples"]] == [30, 31, 32, 33, 34]
    assert {sample["epoch"] for sample in shown["samples"]} == {30 // batches.samples_per_epoch}
    assert shown["samples_per_epoch"] == batches.samples_per_epoch


def test_inspect_marks_the_ends_of_documents_and_hides_what_a_terminal_acts_on(call: Call) -> None:
    """A corpus may come from anywhere."""
    done = call("data", "inspect", *DOCS, "--count", "20")
    assert done.exit_code == 0
    assert f"one{END_OF_TEXT}two" in done.out
    assert "\\x1b[2J" in done.out
    assert "\x1b" not in done.out
    assert done.out.count("--- sample ") == 20


def test_packed_rows_come_with_their_padding_and_fill_rate(call: Call) -> None:
    """In numbers and in words; the ids of padding are -1, and their text is empty."""
    options = (*DOCS, "--set", "data.packing=best_fit", "--count", "60")
    shown = json.loads(call("data", "inspect", *options, "--json").out)
    rows = [sample["ids"] for sample in shown["samples"][: shown["samples_per_epoch"]]]
    assert shown["fill"] == sum(token >= 0 for row in rows for token in row) / (len(rows) * 21)
    assert 0.5 < shown["fill"] < 1
    text = call("data", "inspect", *options).out
    assert f"rows {shown['fill']:.1%} filled" in text
    assert "of padding ---" in text


def test_a_mixture_is_shown_by_corpus_and_weight(own_folder: Path, call: Call) -> None:
    """And its JSON has the same."""
    (own_folder / "b.txt").write_text("letters " * 50)
    options = ("--set", 'data.train=["docs.jsonl", "b.txt"]', "--set", "data.weights=[1, 3]", "--set", "data.context=8")
    text = call("data", "prepare", *options).out
    assert "b.txt: 380 tokens, weight 3" in text
    facts = json.loads(call("data", "prepare", *options, "--json").out)
    assert [corpus["name"] for corpus in facts["corpora"]] == ["docs.jsonl", "b.txt"]
    assert sum(corpus["tokens"] for corpus in facts["corpora"]) == facts["train_tokens"]


def test_ids_without_text_are_shown_as_ids(corpora: Path, call: Call) -> None:
    """Their bytes per token are unknown: null in JSON, not said in words."""
    options = ("--train-path", str(corpora / "ids.bin"), "--set", "data.vocab_size=300", "--set", "data.context=4")
    shown = json.loads(call("data", "inspect", *options, "--json").out)
    assert shown["bytes_per_token"] is None
    assert shown["samples"][0]["text"] == " ".join(f"<{token}>" for token in shown["samples"][0]["ids"])
    assert "bytes per token" not in call("data", "prepare", *options).out


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        (["--train-path", "none.txt"], 7, "data.train (none.txt): no such file"),
        (["--set", "data.contxt=3"], 2, "data.contxt"),
        (["--train-path", "docs.jsonl", "--set", "data.context=5000"], 7, "too short"),
        (["--set", "data.train=plugin:none"], 2, "no plug-in of the kind datasets is called 'none'"),
        (["missing.toml"], 2, "missing.toml: no such file"),
    ],
)
@pytest.mark.parametrize("command", ["prepare", "inspect"])
def test_what_cannot_be_prepared_is_a_sentence(call: Call, command: str, options: list[str], exit_code: int, said: str) -> None:
    """With the exit code that `run` would have, and nothing on stdout."""
    done = call("data", command, *options)
    assert (done.exit_code, done.out) == (exit_code, "")
    assert said in done.err
    assert "Traceback" not in done.err


def test_documents_are_marked_where_they_end() -> None:
    """Empty ones too; a vocabulary without end-of-text has no marks."""
    assert marked_text(ByteTokenizer(), [*b"a", 256, 256, *b"bc", 256]) == f"a{END_OF_TEXT}{END_OF_TEXT}bc{END_OF_TEXT}"
    assert marked_text(IdTokenizer(300), [1, 2]) == "<1> <2>"
