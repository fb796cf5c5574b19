"""Words and tables in Markdown, out of texts that nobody can trust.

Knows no run. Invariant: whatever a text holds, a reader of Markdown (CommonMark, GitHub's tables) shows its characters: it
starts no tag, link, emphasis or code, and ends no cell; and no terminal that prints the document acts on it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from plt_tui.protocol.text import safe_text

_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_ACTIVE = re.compile(r"[\\`*\[|~]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|(?<=:)//|(?<=www)\.|@(?=[\w-]+\.)")
"""What marks up inside a line (`_` does not within a word), and what GitHub makes a link of by itself."""
_CODE = re.compile(r"[A-Za-z0-9_./:,+ =-]+")


def plain(text: str) -> str:
    """`text` as it stands, in one line, for any place but the beginning of one; its own lines are kept apart by `<br>`."""
    lines = safe_text(text, max_line_chars=len(text)).strip().split("\n")
    return "<br>".join(_ACTIVE.sub(r"\\\g<0>", line.strip().translate(_ENTITIES)) for line in lines)


def code(text: str) -> str:
    """A name, path, version or hash in type of its own; what is none of these comes as `plain` text."""
    return f"`{text}`" if _CODE.fullmatch(text) and text == text.strip() else plain(text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of cells that are Markdown already, and an empty line after it; nothing without rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines, ""] if lines else []
