"""Promises of the made-up corpus in `data/`."""

from __future__ import annotations

import runpy
from pathlib import Path

DATA = Path(__file__).parents[2] / "data"


def test_script_writes_the_file_in_the_repository():
    """`make_corpus.py` makes `tiny.txt` again, byte for byte, on every Python."""
    corpus = runpy.run_path(str(DATA / "make_corpus.py"))["corpus"]()
    assert corpus.encode() == (DATA / "tiny.txt").read_bytes()
    assert 60_000 < len(corpus) < 120_000
