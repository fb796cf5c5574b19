"""What the keys P, E and Y take out of a view: a picture of the screen, all numbers, a line for the clipboard.

Writes no file: the function that does is given. Invariant: nothing that is taken away makes whoever opens it ask the network.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from textual.app import App

from plt_tui.errors import PltTuiError
from plt_tui.protocol.text import safe_line
from plt_tui.views.export import clipped, step_line, summary_line
from plt_tui.views.model import RunModel
from plt_tui.views.tui.alerts import passed_through
from plt_tui.views.tui.marks import pointed_branch
from plt_tui.views.tui.session import RunSession
from plt_tui.views.tui.words import Word

_WEB_FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)


def picture(app: App[Any]) -> str:
    """The screen as SVG, with the fonts of whoever looks at it."""
    return offline(app.export_screenshot())


def offline(svg: str) -> str:
    """`svg` without the fonts that Rich would have fetched from the web; it names a local one first."""
    return _WEB_FONTS.sub("", svg)


def to_copy(session: RunSession, selected: str, pointed: int | None, now: float) -> tuple[str, str]:
    """The text that matters most here, and what it is in words: what is selected, the step pointed at, or the run in a line."""
    model = session.model
    if selected.strip():
        return as_copied(selected, "the selected text")
    line = _pointed_line(session.name, model, pointed) if pointed is not None else ""
    line = line or summary_line(session.name, model.state, now)
    return line, line


def _pointed_line(name: str, model: RunModel, step: int) -> str:
    """The numbers of the step that `step` points at; empty where there are none."""
    branch = pointed_branch(model, step)
    steps = model.line(branch)
    return step_line(name, steps, model.evals_of(branch), step, branch=branch) if steps is not None else ""


def as_copied(text: str, name: str) -> tuple[str, str]:
    """As much of `text` as a clipboard takes, and what it is in words, where the whole is called `name`."""
    kept = clipped(text)
    if len(kept) < len(text):
        return kept, f"the first {len(kept):,} characters of {name}"
    return kept, f"{name}, {len(kept):,} characters"


def copy(app: App[Any], text: str, environ: Mapping[str, str]) -> None:
    """Give `text` to the clipboard of the terminal (OSC 52), and inside of tmux also to that of the terminal around it."""
    app.copy_to_clipboard(text)
    if environ.get("TMUX") and app._driver is not None and not app.is_headless:
        app._driver.write(passed_through(osc52(text)))


def osc52(text: str) -> str:
    """What puts `text` into the clipboard (xterm's control sequences, "Manipulate Selection Data")."""
    return f"\x1b]52;c;{b64encode(text.encode()).decode()}\x07"


async def written(what: str, write: Callable[[], Path]) -> Word:
    """Let a thread write a file, and tell in words where it is or why it is not."""
    try:
        path = await asyncio.to_thread(write)
    except PltTuiError as error:
        return Word("✖", f"{what} not kept: {safe_line(str(error))}", "bad")
    return Word("✔", f"{what} kept: {safe_line(str(path))}", "good")
