"""The one filter between untrusted text and a terminal.

Log lines, samples, names and exception texts can hold terminal escapes (ECMA-48 C0/C1 controls), bidirectional overrides or
markup. Text passes here where it enters the hub; every view may rely on it. Does not interpret markup: widgets take plain text.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import groupby

MAX_LINE_CHARS = 4096
MAX_MARKS = 8
"""Combining marks on one character: twice what any script needs. More of them draw over the lines above and below."""

_MARKS = ("Mn", "Me")
_SUSPICIOUS = re.compile(rf"[^\w\s!-~]{{{MAX_MARKS + 1}}}")
"""Marks are no letters; what else is found here (box drawings, emoji) is looked at once more."""


def safe_text(text: str, max_line_chars: int = MAX_LINE_CHARS) -> str:
    """`text` with every unprintable character but newline and tab made visible, and each line cut at `max_line_chars`."""
    return "\n".join(_safe_line(line, max_line_chars) for line in text.split("\n"))


def safe_line(text: str, max_line_chars: int = MAX_LINE_CHARS) -> str:
    """Like `safe_text` for what must stay one line: newlines become visible too."""
    return _safe_line(text.replace("\n", "\\n"), max_line_chars)


def _safe_line(line: str, max_line_chars: int) -> str:
    hidden = len(line) - max_line_chars
    line = line[:max_line_chars]
    if not line.isprintable():
        line = "".join(char if _is_harmless(char) else _escaped(char) for char in line)
    if _SUSPICIOUS.search(line):
        line = "".join(_thinned(list(chars)) if is_mark else "".join(chars) for is_mark, chars in groupby(line, _is_mark))
    return f"{line} … (+{hidden} characters)" if hidden > 0 else line


def _is_harmless(char: str) -> bool:
    """Printable, a tab, or a blank such as U+3000 (CJK) and U+00A0, which `isprintable` counts out."""
    return char.isprintable() or char == "\t" or unicodedata.category(char) == "Zs"


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in _MARKS


def _thinned(marks: list[str]) -> str:
    """As many of the marks of one character as it can bear; the others become visible."""
    return "".join([*marks[:MAX_MARKS], *map(_escaped, marks[MAX_MARKS:])])


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
