"""What a view may ask of a run's files beside what its source tells, as functions that who opens the view makes.

Opens nothing itself. Invariant: every text in a value from here has passed the escape filter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from plt_tui.control.state import RunState
from plt_tui.errors import UsageError
from plt_tui.protocol.events import Event

Tell = Callable[[str], None]
"""Takes words about work that goes on, such as "tokenising 43 %". May raise GaveUp."""


class GaveUp(Exception):
    """Nobody waits for the result any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedText:
    """One sequence of a step."""

    rank: int
    micro_step: int
    """Counted from 0, as ranks and samples are."""
    sample: int
    """Its global index."""
    corpus: str
    """As the configuration names it; empty where there is one only."""
    num_tokens: int
    """Without padding."""
    text: str
    """With a mark where a document ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTexts:
    """What one step trained on."""

    step: int
    branch: int
    """0: the line that the run is on."""
    spikes: tuple[str, ...]
    """What the guard said about the step, a sentence each."""
    sequences: tuple[TrainedText, ...]


def nowhere(place: str, pieces: Iterable[str]) -> Path:
    """Write nothing: of a view that is given no place. Raises: UsageError always."""
    raise UsageError(f"{place} is not written: this view has no place for files")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFiles:
    """The functions. Each of them blocks: it is called in a thread."""

    last_words: Callable[[RunState, int, bool], Sequence[Event] | None]
    """Given what a view knows (the state, the number of the newest event, whether it had all history): what the record of a run
    says beyond that, and that its hub is dead; None while somebody holds the run. Raises: PltTuiError, OSError."""
    texts: Callable[[int, int, Tell], StepTexts]
    """What a step of a branch (0: the line that the run is on) trained on. Raises: PltTuiError, OSError, GaveUp."""
    keep: Callable[[str, Iterable[str]], Path] = nowhere
    """Writes pieces of text into a new file of this name, or one like it, beside the run. Raises: PltTuiError."""
    save_as: Callable[[str, Iterable[str]], Path] = nowhere
    """Writes them into a new file at a path that somebody typed. Raises: PltTuiError, also when there is such a file."""
