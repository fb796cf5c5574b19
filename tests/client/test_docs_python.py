"""What docs/python-client.md tells people to type works, and what it lists is there."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import re
from collections.abc import Coroutine
from inspect import CO_COROUTINE
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import plt_tui
from plt_tui.client.history import Evals, History
from plt_tui.control.folder import RunFolder
from plt_tui.control.state import RunState
from plt_tui.errors import PltTuiError
from plt_tui.protocol.commands import VERBS
from tests.client.hubs import NAME, WordyHub, served_apart

TEXT = (Path(__file__).parents[2] / "docs" / "python-client.md").read_text()
SCRIPT, *CELLS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def hub(folder: RunFolder) -> WordyHub:
    """A hub with three steps behind it."""
    found = WordyHub()
    found.begin()
    found.train(1, 3)
    return found


def test_the_script_runs(hub: WordyHub, folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """From a plain interpreter, with `asyncio.run`."""
    with served_apart(folder, hub):
        exec(compile(SCRIPT, "python-client.md", "exec"), {})
    assert capsys.readouterr().out.splitlines() == [
        "<Connection quickstart: starting, step 3 of 600, loss 2.5>",
        "2.5",
        "0.003 -> 0.0003 from step 4 on",
    ]


async def test_the_cells_run(hub: WordyHub, folder: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, with `await` outside of functions, as in a notebook; the one that closes comes last."""
    cells = sorted(CELLS, key=lambda cell: "close()" in cell)
    names: dict[str, Any] = {"__builtins__": builtins}
    with served_apart(folder, hub):
        for cell in cells:
            code = compile(cell, "python-client.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            result = FunctionType(code, names)()
            if code.co_flags & CO_COROUTINE:
                assert isinstance(result, Coroutine)
                await result
    assert capsys.readouterr().out == "3 2.0\n"
    assert [(command.name, command.args) for command in hub.commands] == [
        ("set", {"name": "lr", "value": 1.5e-3}),
        ("eval", {}),
        ("eval", {}),
    ]


def test_every_method_and_property_is_listed() -> None:
    """Of the connection, in the tables; and nothing that is not there."""
    listed = set(re.findall(r"`\.(\w+)", "".join(re.findall(r"^\| (`.*?) \|", TEXT, re.MULTILINE))))
    public = {name for name in vars(plt_tui.Connection) if not name.startswith("_")} | {"name", "actor", "readonly"}
    assert listed == public - {"events", "close"}
    assert all(f"run.{name}(" in TEXT for name in ("events", "close"))
    assert {f".{'evaluate' if verb == 'eval' else verb}(" in TEXT for verb in VERBS} == {True}


@pytest.mark.parametrize("kind", [History, Evals])
def test_every_array_is_listed(kind: type) -> None:
    """With its name, in the part about it."""
    part = TEXT.split(f"\n`{kind.__name__}`, one value")[1].split("\n\n`")[0].split("\n\nOf `")[0]
    assert {field.name for field in dataclasses.fields(kind)} <= set(re.findall(r"`(\w+)`", part))


def test_what_is_named_is_there() -> None:
    """Fields of the state, classes of events, errors."""
    part = TEXT.split("Of `RunState` the most used")[1].split("\n\n")[0].split("(`target_step`")
    named = re.findall(r"`(\w+)`", part[0] + part[1].split("begins);")[1])
    assert [name for name in named if not hasattr(RunState(), name)] == []
    classes = re.findall(r"`(\w+)`", TEXT.split("in `plt_tui.events`:")[1].split("and others")[0])
    assert [name for name in classes if not hasattr(plt_tui.events, name)] == []
    for name in set(re.findall(r"`(\w+Error|Refused|ConnectionLost|HubUnreachable)`", TEXT)):
        assert issubclass(getattr(plt_tui.errors, name), PltTuiError)


def test_a_run_by_its_name() -> None:
    """The name that the text uses is that of the tests."""
    assert f'"{NAME}"' in SCRIPT
