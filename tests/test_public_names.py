"""The Python API: every public name is there, and none costs anything before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import plt_tui

API = Path(__file__).parents[1] / "docs" / "python-api.md"
HEAVY = {"torch", "numpy", "pydantic", "textual", "typer", "tokenizers"}


@pytest.mark.parametrize("name", plt_tui.__all__)
def test_every_public_name_is_there(name):
    """What `__all__` promises can be imported, and is listed by `dir`."""
    assert getattr(plt_tui, name) is not None
    assert name in dir(plt_tui)


def test_an_unknown_name_is_an_attribute_error():
    """As of any module."""
    with pytest.raises(AttributeError, match="no attribute 'Trainr'"):
        _ = plt_tui.Trainr


def test_importing_the_package_loads_nothing_heavy():
    """Neither torch nor anything else, until a name is used."""
    code = f"import sys, plt_tui; print(sorted({HEAVY!r} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_documented_names_are_public():
    """Every capitalised name and function in the table of docs/python-api.md exists."""
    documented = set(re.findall(r"^\| `([A-Za-z_]\w*)", API.read_text(), re.MULTILINE))
    assert documented >= {"Trainer", "load_config", "RunConfig", "TransformerLM", "generate", "prepare"}
    assert documented <= set(plt_tui.__all__)
