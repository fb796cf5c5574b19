"""What a program sends to a terminal, sorted into sequences that do something and text that is shown."""

from __future__ import annotations

import re

_SEQUENCE = re.compile(
    r"\x1b\[(?P<private>[<-?]*)(?P<numbers>[0-9;:]*)(?P<rest>[ -/]*[@-~])"
    r"|\x1b(?P<string>[\]P_^X])(?P<content>[^\x1b\x07]*)(?:\x07|\x1b\\)"
    r"|\x1b(?P<other>.?)",
    re.DOTALL,
)
_WITH_TEXT = ("]52", "]9")
"""Sequences that carry a text: what is copied, as base64, and notifications."""


def sequences(output: str) -> tuple[set[str], str]:
    """The kinds of sequences in `output`, each with what makes it do one thing and not another; and the text between them."""
    kinds = set()
    for match in _SEQUENCE.finditer(output):
        if match["rest"] == "m":
            kinds |= {f"SGR {code}" for code in attributes(match["numbers"])}
        elif match["rest"]:
            numbers = "" if match["rest"] == "H" and not match["private"] else match["numbers"]
            kinds.add(f"CSI {match['private']}{numbers}{match['rest']}")
        elif match["string"]:
            kind = f"{match['string']}{match['content'].partition(';')[0]}"
            kinds.add(kind if kind in _WITH_TEXT else f"{match['string']}{match['content']}")
        else:
            kinds.add(f"ESC {match['other']}")
    return kinds, _SEQUENCE.sub("", output)


def attributes(numbers: str) -> set[int]:
    """What an SGR sequence switches; the values of a 256-colour or RGB colour are left out."""
    parts, found = [int(part or 0) for part in re.split("[;:]", numbers)], set()
    while parts:
        code = parts.pop(0)
        if code in (38, 48) and parts:
            del parts[: 4 if parts[0] == 2 else 2]
        found.add(code)
    return found
