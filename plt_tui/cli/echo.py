"""What commands say: text for people through the escape filter, JSON for scripts, and no complaint once the reader has left.

Records and logs may come from another machine, so nothing of them reaches a terminal but through here. Knows no command.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from collections.abc import Callable
from typing import Any, ParamSpec

import typer

_P = ParamSpec("_P")


def echo(text: str, *, nl: bool = True, err: bool = False) -> None:
    """Print `text`, whole, with everything in it that a terminal would act on made visible."""
    from plt_tui.protocol.text import safe_text

    typer.echo(safe_text(text, max_line_chars=len(text)), nl=nl, err=err)


def echo_json(value: Any) -> None:
    """Print `value` as one line of JSON in ASCII; DEL, the one control character that JSON leaves as it is, as an escape."""
    typer.echo(json.dumps(value, allow_nan=False).replace("\x7f", "\\u007f"))


def open_missing_streams() -> None:
    """Point those of stdin, stdout and stderr that were closed (`>&-`) at nothing: the next open file would take their place.

    Python sets them to None, which whoever prints does not expect.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))


def drop_stdout() -> None:
    """Send what is still to be written to stdout nowhere: its reader is gone, and Python would complain about it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def until_the_reader_leaves(command: Callable[_P, None]) -> Callable[_P, None]:
    """`command`, for which `plt-tui ... | head` is a success: whoever closes the pipe has seen enough."""

    @functools.wraps(command)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            sys.stdout.flush()
        except BrokenPipeError:
            drop_stdout()
            raise typer.Exit(0) from None

    return guarded
