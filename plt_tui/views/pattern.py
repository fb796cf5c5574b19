"""A regular expression that a person types to look for lines, and that can never hold the program up.

An expression such as (a+)+$ takes longer than the universe has on some lines, and holds the interpreter all the while. So each
search runs against the process's own CPU clock: its signal (SIGVTALRM) interrupts the engine, which looks for signals as it
goes. Knows no log. Invariant: no text that is typed raises anything but UsageError and TooSlow, and none takes longer than
LIMIT_S at a time. Main thread only: signals are its business.
"""

from __future__ import annotations

import re
import signal
import warnings
from collections.abc import Callable, Sequence
from itertools import islice
from typing import TypeVar

from plt_tui.errors import UsageError

MAX_PATTERN_CHARS = 200
MATCHED_CHARS = 2_000
"""What is looked at of a line: expressions such as a.*b take time by the square of it."""
LIMIT_S = 0.15
"""CPU seconds of one search; of 128 lines of a log it takes a hundredth of that."""
MAX_SPANS = 100
"""Most places in one line that are found for show."""

_ESCAPE = re.compile(r"\\.", re.DOTALL)
_ANYTHING = re.compile(r"^(?:\.\*\??)+(?![+*?{])")
"""In front of an expression it finds the same lines as without, but in time by the square of their length."""
_ResultT = TypeVar("_ResultT")


class TooSlow(Exception):
    """The expression takes longer than LIMIT_S."""


class Pattern:
    """One expression. Case counts where the expression holds a capital letter (smart case)."""

    def __init__(self, text: str) -> None:
        """Raises: UsageError saying what is wrong with `text`."""
        self.text = text
        has_capitals = any(char.isupper() for char in _ESCAPE.sub("", text))  # \S and \W are no capitals
        flags = re.RegexFlag(0) if has_capitals else re.IGNORECASE
        try:
            self._compiled = within(LIMIT_S, lambda: _compile(text, flags))
        except re.error as error:
            raise UsageError(str(error)) from None
        except (OverflowError, RecursionError, TooSlow):
            raise UsageError("the expression is too large to be searched for") from None

    def find(self, texts: Sequence[str]) -> list[int]:
        """Places of the texts that match somewhere. Raises: TooSlow."""
        search = self._compiled.search
        return within(LIMIT_S, lambda: [place for place, text in enumerate(texts) if search(text, 0, MATCHED_CHARS)])

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where in `text` it matches, at most MAX_SPANS places, none empty. Raises: TooSlow."""
        found = self._compiled.finditer(text, 0, MATCHED_CHARS)
        return within(LIMIT_S, lambda: [match.span() for match in islice(found, MAX_SPANS) if match.end() > match.start()])


def within(limit_s: float, work: Callable[[], _ResultT]) -> _ResultT:
    """The result of `work`. Raises: TooSlow once it has taken `limit_s` seconds of this process's CPU time."""
    is_working = True

    def ring(_signal: int, _frame: object) -> None:
        if is_working:  # a bell that rings just after the work was done disturbs nobody
            raise TooSlow

    before = signal.signal(signal.SIGVTALRM, ring)
    try:
        try:
            signal.setitimer(signal.ITIMER_VIRTUAL, limit_s)
            return work()
        finally:
            is_working = False
    finally:  # reached also when the bell rings within the inner one; it rings once
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _compile(text: str, flags: re.RegexFlag) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Python may read otherwise one day
        whole = re.compile(text, flags)  # first, so that an error tells its right place
        return re.compile(_ANYTHING.sub("", text), flags) if _ANYTHING.match(text) else whole
