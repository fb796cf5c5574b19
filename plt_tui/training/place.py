"""Where training is in the data, and which sequences the coming step gets.

Knows no ranks but their number, reads no tokens. Invariant: what a step is given depends only on (config, edits, step, world
size) and on what the steps before it were given.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plt_tui.config.edits import Edit, skipped_batches
from plt_tui.config.hyper import Layout, layout_at, value_at
from plt_tui.config.schema import DEFAULT_STEPS, RunConfig
from plt_tui.data.cursor import Batches


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalBatch:
    """The sequences of one step, all ranks and micro-steps together."""

    first: int
    """Global index of its first sequence."""
    size: int
    layout: Layout
    num_targets: int
    """Tokens that it predicts, padding left out."""

    def share(self, micro: int, rank: int, world_size: int) -> int:
        """Global index of the first of the `layout.batch_size` sequences that a rank gets in a micro-step."""
        return self.first + (micro * world_size + rank) * self.layout.batch_size


class Place:
    """The next sequence, the mixture in force, and what was trained on so far."""

    def __init__(self, batches: Batches, config: RunConfig, world_size: int) -> None:
        self.batches = batches
        self.sample_index = 0
        """Global index of the sequence after the last step's."""
        self.skipped = 0
        """Sequences before it that were left out."""
        self.tokens = 0
        """Tokens predicted since step 0, padding left out."""
        self._config = config
        self._world_size = world_size
        self._planned = batches
        """As the configuration mixes them."""

    @property
    def trained(self) -> int:
        """Sequences trained on since step 0."""
        return self.sample_index - self.skipped

    def global_batch(self, edits: Sequence[Edit], step: int) -> int:
        """Sequences of `step` over all ranks and micro-steps."""
        return layout_at(self._config, edits, step).sequences * self._world_size

    def target_step(self, edits: Sequence[Edit], step: int) -> int:
        """The last step that `[train]` asks for, once `step` steps are done and batches stay as they are after it."""
        train, size = self._config.train, self.global_batch(edits, step + 1)
        if train.steps:
            return train.steps
        left = DEFAULT_STEPS - step
        if train.epochs:
            left = math.ceil((train.epochs * self.batches.samples_per_epoch - self.trained) / size)
        elif train.tokens:
            # In tokens with padding on both sides: their ratio differs from step to step, and would move the target.
            context = self._config.data.context
            left = math.ceil((train.tokens - self.trained * context) / (size * context))
        return step + max(0, left)

    def enter(self, edits: Sequence[Edit], step: int) -> GlobalBatch:
        """The batch of `step`, which comes next. Harmless when repeated."""
        layout = layout_at(self._config, edits, step)
        size = layout.sequences * self._world_size
        first = self.sample_index + skipped_batches(edits, step) * size
        weights = value_at(self._config, edits, "weights", step)
        if weights != self._weights:
            self.batches = self.batches.reweighted(first, weights)
        return GlobalBatch(first=first, size=size, layout=layout, num_targets=self.batches.num_targets(first, size))

    def leave(self, batch: GlobalBatch) -> None:
        """The step of `batch` is complete."""
        self.skipped += batch.first - self.sample_index
        self.sample_index = batch.first + batch.size
        self.tokens += batch.num_targets

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON values."""
        return {
            "sample_index": self.sample_index,
            "skipped": self.skipped,
            "tokens": self.tokens,
            "mixture": [[first, list(weights)] for first, weights in self.batches.segments],
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to the place that `state` tells."""
        self.sample_index, self.tokens = int(state["sample_index"]), int(state["tokens"])
        self.skipped = int(state.get("skipped", 0))  # absent from the first version's checkpoints, as is the mixture
        self.batches = self._planned
        for first, weights in state.get("mixture", []):
            self.batches = self.batches.reweighted(first, tuple(weights))

    @property
    def _weights(self) -> tuple[float, ...]:
        segments = self.batches.segments
        return segments[-1][1] if segments else self._config.data.weights
