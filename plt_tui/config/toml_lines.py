"""Where each key of a TOML text stands, which `tomli` does not tell.

Reads text that `tomli` has already accepted, so nothing is validated here and values are skipped, not interpreted. Invariant:
text inside a string or a comment is never taken for a key.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import tomli

KeyPath = tuple[str, ...]
"""Names from the outermost table inwards, such as ("train", "steps")."""

_TOKEN = re.compile(
    r"""
    \#[^\n]*                                            # comment
  | "{3}(?:\\.|[^\\])*?"{3,5} | '{3}.*?'{3,5}           # multi-line strings; up to two quotes may precede the closing three
  | "(?:\\.|[^"\\\n])*" | '[^'\n]*'                     # strings
  | [\n\[\]{}=,.]                                       # marks
  | [^\s\[\]{}=,.\#"']+                                 # bare keys, and pieces of numbers, dates and booleans
    """,
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    text: str
    line: int


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line, from 1, of the first mention of every table and key in `text`, valid TOML."""
    lines: dict[KeyPath, int] = {}
    tokens = _tokens(text)
    table: KeyPath = ()
    for token in tokens:
        if token.text == "[":
            table = _header(tokens)
            _record(lines, table, token.line)
        elif token.text != "\n":
            path = table + _key(token, tokens)
            _record(lines, path, token.line)
            _skip_value(path, tokens, lines, ends="\n")
    return lines


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        if not match[0].startswith("#"):
            yield _Token(match[0], line)
        line += match[0].count("\n")


def _header(tokens: Iterator[_Token]) -> KeyPath:
    """The path of a `[table]` or `[[array of tables]]` whose first bracket is consumed; consumes the line."""
    names: list[str] = []
    for token in tokens:
        if token.text == "\n":
            break
        if token.text not in "[].":
            names.append(_name(token))
    return tuple(names)


def _key(first: _Token, tokens: Iterator[_Token]) -> KeyPath:
    """The dotted key that begins with `first`; consumes the equals sign."""
    names = [_name(first)]
    for token in tokens:
        if token.text == "=":
            break
        if token.text != ".":
            names.append(_name(token))
    return tuple(names)


def _skip_value(path: KeyPath, tokens: Iterator[_Token], lines: dict[KeyPath, int], ends: str) -> str:
    """Consume the value of `path` and the mark after it, one of `ends`; return that mark, or "" at the end of the text."""
    open_arrays = 0
    for token in tokens:
        if token.text == "{":
            _inline_table(path, tokens, lines)
        elif token.text == "[":
            open_arrays += 1
        elif token.text == "]":
            open_arrays -= 1
        elif open_arrays == 0 and token.text in ends:
            return token.text
    return ""


def _inline_table(path: KeyPath, tokens: Iterator[_Token], lines: dict[KeyPath, int]) -> None:
    """Record the keys of an inline table whose opening brace is consumed; consumes the closing one."""
    for token in tokens:
        if token.text == "}":
            return
        if token.text in "\n,":
            continue
        inner = path + _key(token, tokens)
        _record(lines, inner, token.line)
        if _skip_value(inner, tokens, lines, ends=",}") == "}":
            return


def _record(lines: dict[KeyPath, int], path: KeyPath, line: int) -> None:
    """Note `path` and the tables that it implies; the first mention stands."""
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)


def _name(token: _Token) -> str:
    if token.text[0] in "\"'":
        return str(tomli.loads(f"name = {token.text}")["name"])
    return token.text
