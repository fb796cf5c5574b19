"""The strip of key numbers under the header: one label and one value per card.

Invariant: cards are of one width and whole; where they do not all fit, the least important are left out.
"""

from __future__ import annotations

from textual.content import Content

from plt_tui.control.state import RunState
from plt_tui.views.formats import format_count, format_value
from plt_tui.views.tui.panes.block import Block
from plt_tui.views.tui.words import STYLES

MIN_CARD = 10


class Numbers(Block):
    """Loss, rates and scores of this moment."""

    DEFAULT_CSS = """
    Numbers { height: 2; padding: 0 1; }
    """

    def show(self, state: RunState) -> None:
        """Draw the newest values of `state`."""
        width = self.content_size.width
        cards = _cards(state)[: max(1, width // MIN_CARD)]
        card = width // len(cards)
        labels = "".join(label.ljust(card) for label, _ in cards)
        values = "".join(value.ljust(card) for _, value in cards)
        self.put([Content.styled(labels, STYLES["muted"]), Content.styled(values, "bold $foreground")])


def _cards(state: RunState) -> list[tuple[str, str]]:
    step, scores = state.last_step, state.last_eval
    nothing = "–"
    utilisation = state.utilisation
    return [
        ("loss", f"{step.loss:.4f}" if step else nothing),
        ("eval loss", f"{scores.loss:.4f}" if scores else nothing),
        ("rate", format_value(step.lr) if step else nothing),
        ("tokens/s", format_count(step.tokens_per_s) if step else nothing),
        ("MFU", f"{utilisation:.1%}" if utilisation is not None else nothing),
        ("perplexity", f"{scores.perplexity:.2f}" if scores else nothing),
        ("bits/byte", f"{scores.bits_per_byte:.3f}" if scores else nothing),
        ("accuracy", f"{scores.accuracy:.1%}" if scores else nothing),
        ("gradient", format_value(step.grad_norm) if step else nothing),
    ]
