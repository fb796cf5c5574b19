"""What this process lent to torch's threads, and waits for before it ends.

A thread of gloo holds a collective, with its tensors and the context of the backward pass that posted it, until some time after
the collective was waited for. To let go of a thing of Python takes the interpreter's lock, and a thread that asks for the lock
of an interpreter which is shutting down is ended in a way that C++ does not survive: SIGABRT, "terminate called without an
active exception". So nobody may be late. Main thread only. Invariant: what is added here is seen without being kept alive.
"""

from __future__ import annotations

import math
import time
import weakref
from contextvars import ContextVar

LOOK_EVERY_S = 1e-3


class _Stay:
    """Lies in the context of a process: whoever copies that, as autograd does for each backward pass, keeps this alive."""


_STAY: ContextVar[_Stay | None] = ContextVar("plt_tui.stay", default=None)


class Loans:
    """Things that other threads may hold."""

    def __init__(self) -> None:
        self._refs: list[weakref.ref[object]] = []
        self._has_contexts = False

    def add(self, *things: object) -> None:
        """Each of `things` goes to a collective."""
        self._refs = [ref for ref in self._refs if ref() is not None] + [weakref.ref(thing) for thing in things]

    def add_contexts(self) -> None:
        """From now on the contexts of backward passes go to collectives, until `settle`."""
        stay = _Stay()
        self.add(stay)
        _STAY.set(stay)
        self._has_contexts = True

    def settle(self, patience_s: float) -> None:
        """Return once nothing is held any more, or after `patience_s`; the caller must not hold anything of it either.

        Looks are counted and not timed: whoever was stopped meanwhile gives the other threads their time all the same.
        """
        if self._has_contexts:
            _STAY.set(None)
        for _ in range(math.ceil(patience_s / LOOK_EVERY_S)):
            if all(ref() is None for ref in self._refs):
                return
            time.sleep(LOOK_EVERY_S)
