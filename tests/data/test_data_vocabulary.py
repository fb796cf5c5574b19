"""Promises of `data.vocabulary`: what is said of a vocabulary before the corpora are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plt_tui.config.schema import DataSection
from plt_tui.data.sources import resolve
from plt_tui.data.tokenizer import train_char
from plt_tui.data.vocabulary import make_tokenizer, vocab_size_ahead
from plt_tui.errors import DataError
from plt_tui.plugins import Plugins

TEXT = "the quick brown fox jumps over the lazy dog\n" * 40


def _config(folder: Path, **keys: object) -> DataSection:
    (folder / "t.txt").write_text(TEXT)
    return DataSection.model_validate({"train": str(folder / "t.txt"), **keys})


@pytest.mark.parametrize("tokenizer", ["byte", "char", "bpe", "file"])
def test_a_size_told_ahead_is_the_one_that_is_made(tokenizer: str, tmp_path: Path) -> None:
    """For bytes and files the same, for byte pairs the most it can be; of characters only the text tells."""
    if tokenizer == "file":
        tokenizer = str(tmp_path / "tokenizer.json")
        Path(tokenizer).write_text(json.dumps(train_char([TEXT]).to_json()))
    config = _config(tmp_path, tokenizer=tokenizer, vocab_size=400)
    ahead = vocab_size_ahead(config, resolve(config))
    made = make_tokenizer(config, resolve(config), Plugins(), lambda *_: None).vocab_size
    assert ahead == {"char": None, "bpe": 400}.get(tokenizer, made)
    assert made <= (ahead or made)


def test_token_ids_have_the_size_that_is_configured(tmp_path: Path) -> None:
    """Nothing in the file tells it."""
    (tmp_path / "ids.bin").write_bytes(bytes(2000))
    config = DataSection(train=str(tmp_path / "ids.bin"), vocab_size=300)
    assert vocab_size_ahead(config, resolve(config)) == 300


def test_a_file_that_is_no_tokenizer_is_said(tmp_path: Path) -> None:
    """Before anything is trained."""
    (tmp_path / "no.json").write_text("[]")
    config = _config(tmp_path, tokenizer=str(tmp_path / "no.json"))
    with pytest.raises(DataError, match="not a tokenizer"):
        vocab_size_ahead(config, resolve(config))
