"""Sparklines of the recent past: learning rate, gradient norm, tokens per second.

Keeps no history of its own. Invariant: it looks at the newest RECENT_STEPS rows only, so a draw costs the same at any run
length.
"""

from __future__ import annotations

import numpy as np
from textual.app import ComposeResult
from textual.containers import VerticalScroll

from plt_tui.views.formats import format_count, format_value
from plt_tui.views.model import StepTable
from plt_tui.views.tui.chart.raster import Mode
from plt_tui.views.tui.chart.sparkline import Sparkline

RECENT_STEPS = 1000
_COLUMNS = ("lr", "grad_norm", "tokens_per_s")


class Trends(VerticalScroll):
    """Three sparklines."""

    def __init__(self, mode: Mode) -> None:
        super().__init__(id="trends", classes="pane", can_focus=True)
        self._mode = mode
        self.border_title = f"trends · last {RECENT_STEPS:,} steps"

    def compose(self) -> ComposeResult:
        """One sparkline per column."""
        mode = self._mode
        yield Sparkline("rate", color="accent", value_format=format_value, mode=mode, id="spark-lr")
        yield Sparkline("gradient", color="secondary", value_format=format_value, mode=mode, id="spark-grad_norm")
        yield Sparkline("tokens/s", color="success", value_format=format_count, mode=mode, id="spark-tokens_per_s")

    def show(self, steps: StepTable) -> None:
        """Draw the newest rows of `steps`."""
        for name in _COLUMNS:
            recent = np.array(steps.columns[name][-RECENT_STEPS:], dtype=np.float64)
            self.query_one(f"#spark-{name}", Sparkline).set_values(recent)
