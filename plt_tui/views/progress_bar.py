"""Progress bars in log lines: which lines are one, and which are the next state of the bar before them.

Knows a bar by its drawing (tqdm, Keras, rich, pip, click and their like); a line of mere numbers, "step 3/100", is none.
Pure. Invariant: a finished bar is never taken for the start of another one, so no bar's last word is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_DRAWING = re.compile(
    r"%\s?\|[^|]{1,300}\|\s*[\d.]+\s?[kMGTP]?i?B?/"  # tqdm, progressbar2: 10%|█   | 10/100
    r"|\d(?:it|B) \[\d+:\d\d"  # tqdm without a known end: 123it [00:01, 99.1it/s]
    r"|\[[=#>*.\- ]{8,300}\]"  # Keras 2, click, wget: [====>.....]
    r"|[━╸╺█▉▊▋▌▍▎▏░▒▓■□▰▱▮▯⣿]{4}"  # rich, pip, Keras 3
)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d+)?)\s?%")
_COUNT = re.compile(r"(\d+(?:\.\d+)?)\s?[kMGTP]?i?B?\s?/\s?(\d+(?:\.\d+)?)")
_OPEN = re.compile(r"(\d+)(?:it|B) \[")
_TIMER = re.compile(r"\[\d+:\d\d(?::\d\d)?\]")
_FULL = 100.0


@dataclass(frozen=True, slots=True)
class Bar:
    """One state of a progress bar."""

    what: str
    """The words before it."""
    done: float
    """Percent, or where the end is not known the number of rounds."""
    has_end: bool


def bar_of(text: str) -> Bar | None:
    """The bar that the line `text` draws; None for any other line."""
    # Every line of a flood comes through here: four looks for one character spare nearly all of them the expressions.
    if not ("%" in text or "/" in text or "it [" in text) or not ("|" in text or "[" in text or not text.isascii()):
        return None
    drawing = _DRAWING.search(text)
    if drawing is None:
        return None
    percent, count, rounds = _PERCENT.search(text), _COUNT.search(text), _OPEN.search(text)
    number = percent or count or rounds
    if number is None:
        return None
    what = _TIMER.sub("", text[: min(drawing.start(), number.start())]).strip()
    if percent is not None:
        return Bar(what, float(percent[1]), has_end=True)
    if count is not None and float(count[2]) > 0:
        return Bar(what, _FULL * float(count[1]) / float(count[2]), has_end=True)
    return Bar(what, float(rounds[1]), has_end=False) if rounds is not None else None


def continues(before: Bar, after: Bar) -> bool:
    """True when `after` is a later state of the bar `before`: the same words, not further back, and not yet full before."""
    is_full = before.has_end and before.done >= _FULL
    return (before.what, before.has_end) == (after.what, after.has_end) and not is_full and after.done >= before.done
