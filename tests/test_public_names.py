"""The Python API: every public name is there, and none costs anything before it is used."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import plt_tui

API = Path(__file__).parents[1] / "docs" / "python-api.md"
CLIENT = API.with_name("python-client.md")
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


def test_names_of_the_client_library_are_public():
    """What docs/python-client.md writes behind `plt_tui.` exists, and the classes of its values and errors do."""
    text = CLIENT.read_text()
    written = set(re.findall(r"\bplt_tui\.([a-z_A-Z]+)", text))
    assert written >= {"connect", "read_run", "events", "PltTuiError"}
    assert written | {"History", "Evals", "RunState", "RunRecord", "Refused", "ConnectionLost"} <= set(plt_tui.__all__)


def test_type_checkers_see_the_same_names():
    """What is imported for them is what is loaded on use, from the same place."""
    tree = ast.parse(Path(plt_tui.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == {**plt_tui._HOMES, **{name: home.rpartition(".")[0] for name, home in plt_tui._MODULES.items()}}
