"""Commands called as a shell does, in this process: arguments in, exit code, stdout and stderr out."""

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from plt_tui.cli.main import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    exit_code: int
    out: str
    err: str


Call = Callable[..., Outcome]
"""`call("generate", "abc", stdin=b"...")`."""


def caller(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The function that calls commands."""

    def call(*arguments: str, stdin: bytes = b"") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["plt-tui", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), out, err)

    return call
