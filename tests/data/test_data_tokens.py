"""Promises of token files: what cannot be what it is said to be is refused before its ids are used."""

from __future__ import annotations

import numpy as np
import pytest

from plt_tui.config.schema import DataSection
from plt_tui.data.sources import resolve
from plt_tui.data.tokens import TokenFile, adopt_tokens
from plt_tui.errors import DataError


def adopt(path, vocab_size, token_dtype="uint16") -> TokenFile:
    """The ids in `path`, checked against a tokenizer of `vocab_size`."""
    config = DataSection(train=str(path), token_dtype=token_dtype, tokenizer=__file__)
    return adopt_tokens(resolve(config).train[0], token_dtype, vocab_size, path.with_name("copy"), lambda num_bytes: None)


def test_type_too_small_for_the_tokenizer_is_refused(tmp_path):
    """A tokenizer of 65537 ids cannot have written a file of uint16; one of 65536 can, and uint32 holds both."""
    path = tmp_path / "a.bin"
    np.arange(100, dtype="<u4").tofile(path)
    with pytest.raises(
        DataError, match=r"vocabulary of 65537 ids does not fit into data.token_dtype uint16, which holds 65536"
    ):
        adopt(path, 65_537)
    assert adopt(path, 65_536).count == 200
    assert adopt(path, 65_537, "uint32").count == 100


def test_npy_says_its_own_type(tmp_path):
    """`data.token_dtype` is about .bin files only."""
    np.save(tmp_path / "a.npy", np.arange(100, dtype="u4"))
    assert adopt(tmp_path / "a.npy", 100_000).count == 100
