"""The one filter between untrusted text and a terminal.

Log lines, samples, names and exception texts can hold terminal escapes (ECMA-48 C0/C1 controls), bidirectional overrides or
markup. Text passes here where it enters the hub; every view may rely on it. Does not interpret markup: widgets take plain text.
"""

from __future__ import annotations

import unicodedata

MAX_LINE_CHARS = 4096


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
    return f"{line} … (+{hidden} characters)" if hidden > 0 else line


def _is_harmless(char: str) -> bool:
    """Printable, a tab, or a blank such as U+3000 (CJK) and U+00A0, which `isprintable` counts out."""
    return char.isprintable() or char == "\t" or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
