"""What a run was started with, by section, for tools that show a table of parameters beside curves.

Pure. Invariant: built-in values only, as they stand in the record; the record holds no secret (`config.separate`).
"""

from __future__ import annotations

from typing import Any

from plt_tui.protocol.events import Run

FACTS = ("params", "world_size", "device", "target_step", "tokens_per_step", "train_tokens", "eval_tokens", "vocab_size")
"""Fields of `Run` that follow from the configuration, and that people sort runs by."""


def described(run: Run) -> dict[str, dict[str, Any]]:
    """The session's configuration by section, and two sections more: "facts", and "environment" (versions, device, commit)."""
    facts = {name: getattr(run, name) for name in FACTS}
    return {**run.config, "facts": facts, "environment": dict(run.environment)}
