"""Texts that the model wrote, newest first: the step, the prompt dimmed, the continuation.

Interprets nothing in a text. Invariant: shows what the model's sample ring holds, no more.
"""

from __future__ import annotations

from collections.abc import Iterable

from textual.content import Content

from plt_tui.protocol.events import Sample
from plt_tui.views.tui.panes.block import ScrollBlock
from plt_tui.views.tui.words import STYLES, clock_words


class Samples(ScrollBlock):
    """The samples of a run."""

    def __init__(self) -> None:
        super().__init__("samples", id="samples")

    def show(self, samples: Iterable[Sample]) -> None:
        """Draw `samples`, given oldest first."""
        newest_first = [_entry(sample) for sample in reversed(list(samples))]
        self.put(newest_first or [Content.styled("no sample yet: g writes one now", STYLES["muted"])])


def _entry(sample: Sample) -> Content:
    return Content.assemble(
        (f"step {sample.step:,}", f"bold {STYLES['accent']}"),
        (f"  {clock_words(sample.time)}\n", STYLES["muted"]),
        (sample.prompt.expandtabs(4), STYLES["muted"]),
        sample.text.expandtabs(4),
        "\n",
    )
