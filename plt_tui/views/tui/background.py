"""The terminal's own background colour: the question, and its answer among what a person types.

Pure; writes to no terminal. Invariants: an answer never comes out as keys, however late it comes and however it is cut into
pieces, but for an escape where it is cut after its first character; and nothing else is taken away: what looks like the
beginning of an answer is given back by `release`.
"""

from __future__ import annotations

import re

ASK = "\x1b]11;?\x1b\\"
"""OSC 11 with a question mark asks for the background (xterm's control sequences, "Operating System Commands")."""

_COLOR = r"[^\x07\x1b]{0,64}"
_ANSWER = re.compile(rf"\x1b\]11;({_COLOR})(?:\x07|\x1b\\)")
_BEGUN = re.compile(rf"\x1b\](?:1(?:1(?:;{_COLOR}\x1b?)?)?)?\Z")
_RGB = re.compile(r"rgba?:([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})/([0-9a-fA-F]{1,4})")
_WEIGHTS = (0.2126, 0.7152, 0.0722)
"""Of red, green and blue in the luminance (ITU-R BT.709)."""


class Answers:
    """Takes answers out of a stream of input."""

    def __init__(self) -> None:
        self._held = ""
        self._num_given = 0
        """How many characters at the beginning of `_held` have been given already: an escape, which nobody should wait for."""

    def feed(self, text: str) -> tuple[str, bool | None]:
        """What of `text` is a person's, and whether the background is dark, None where `text` does not tell."""
        text = self._held + text
        told = [is_dark for color in _ANSWER.findall(text) if (is_dark := reads_dark(color)) is not None]
        start = 0 if _ANSWER.match(text) else self._num_given
        text = _ANSWER.sub("", text)
        begun = _BEGUN.search(text)
        end = begun.start() if begun is not None else len(text)
        self._held = text[end:]
        self._num_given = start if end == 0 else 0
        if text.endswith("\x1b") and not self._held:
            self._held, self._num_given = "\x1b", 1
        return text[start:end], told[-1] if told else None

    def release(self) -> str:
        """What was held and is no answer after all, once nothing has come for a while."""
        held, self._held = self._held[self._num_given :], ""
        self._num_given = 0
        return held


def reads_dark(color: str) -> bool | None:
    """Whether an X11 colour such as "rgb:1e1e/1e1e/1e1e" is dark; None when it is no such colour."""
    match = _RGB.match(color)
    if match is None:
        return None
    shares = [int(part, 16) / float(16 ** len(part) - 1) for part in match.groups()]
    return sum(weight * share for weight, share in zip(_WEIGHTS, shares, strict=True)) < 0.5
