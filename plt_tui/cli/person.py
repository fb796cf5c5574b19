"""The files of the person at the terminal: their settings, and what the views remember of them.

Asks nobody. Invariant: whatever is in these files, or cannot be read or written, a view opens and closes all the same.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from plt_tui.cli.echo import echo

if TYPE_CHECKING:
    from plt_tui.views.tui.layout import Layout
    from plt_tui.views.tui.person import Person

LAYOUT, HISTORY = "layout.json", "history"
MAX_BYTES = 1 << 20
"""Ours are far smaller: a larger file is somebody else's."""


@contextlib.contextmanager
def at_terminal(environ: Mapping[str, str] = os.environ) -> Iterator[Person]:
    """The person whose environment `environ` is; what has changed of them is kept at the end, also when a view was killed."""
    from plt_tui.config.settings import read_settings, state_folder
    from plt_tui.views.tui.layout import from_json
    from plt_tui.views.tui.person import Person

    folder = state_folder(environ)
    layout = from_json(_json(_read(folder, LAYOUT)))
    person = Person(settings=read_settings(environ), layout=layout, earlier=_lines(folder))
    try:
        yield person
    finally:
        _keep(folder, person, layout)


def _keep(folder: Path | None, person: Person, before: Layout) -> None:
    """Write what is other than before. Sessions run side by side: each adds its lines to those of the others."""
    from plt_tui.protocol.durable import replace_file
    from plt_tui.views.completion import remembered
    from plt_tui.views.tui.layout import to_json

    files: dict[str, str] = {}
    if person.layout != before:
        files[LAYOUT] = json.dumps(to_json(person.layout), indent=1) + "\n"
    if person.lines:
        files[HISTORY] = "".join(f"{line}\n" for line in remembered(_lines(folder), person.lines))
    if folder is None or not files:
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, text in files.items():
            replace_file(folder / name, text.encode())
    except OSError as error:
        echo(f"{folder}: layout and command lines are not remembered ({error.strerror})", err=True)


def _lines(folder: Path | None) -> tuple[str, ...]:
    from plt_tui.views.completion import remembered

    return remembered((), _read(folder, HISTORY).split("\n"))


def _json(text: str) -> object:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(text)
    return None


def _read(folder: Path | None, name: str) -> str:
    """The text of a file of ours; empty where there is none that could be."""
    path = folder / name if folder is not None else None
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path is not None and path.is_file() and path.stat().st_size <= MAX_BYTES:
            return path.read_text(encoding="utf-8")
    return ""
