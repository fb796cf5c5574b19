"""How much sooner `configs/fast-cpu.toml` is where `configs/char-nanogpt-cpu.toml` ends.

Both recipes are run as a user runs them, whole commands with start-up, evaluation and last checkpoint, on the same corpus and
the same cores, one after the other; then both models are measured on all of the held-out text. Each starts with empty caches.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import Row, row
from benchmarks.workplace import DEADLINE_S, PLT_TUI, Workplace, workplace

CONFIGS = Path(__file__).parents[1] / "configs"
REFERENCE, FAST = "char-nanogpt-cpu", "fast-cpu"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A recipe's whole command."""

    wall_s: float
    loss: float
    """Nats per character over all of the held-out text."""


def measure(*, quick: bool) -> list[Row]:
    """Walls, losses and the ratio of the walls; the fast recipe runs before and after the other one."""
    before = _run(FAST, quick=quick)
    reference = _run(REFERENCE, quick=quick)
    fast = [before, _run(FAST, quick=quick)]
    return [
        row(f"`{REFERENCE}.toml`: whole command", [reference.wall_s], "s"),
        row(f"`{FAST}.toml`: whole command", [outcome.wall_s for outcome in fast], "s"),
        row(
            f"`{FAST}` over `{REFERENCE}`, whole commands",
            [outcome.wall_s / reference.wall_s for outcome in fast],
            at_most=0.2,
        ),
        row(f"(held-out loss of `{REFERENCE}`, nats per character)", [reference.loss]),
        row(
            f"held-out loss of `{FAST}` less that of `{REFERENCE}`",
            [outcome.loss - reference.loss for outcome in fast],
            at_most=0.0,
        ),
    ]


def _run(recipe: str, *, quick: bool) -> Outcome:
    with workplace() as place:
        words = ["run", str(CONFIGS / f"{recipe}.toml"), "--name", recipe, "--no-ui", "--json"]
        started_s = time.perf_counter()
        place.execute([PLT_TUI, *words, *(("--set", "train.steps=10") if quick else ())])
        wall_s = time.perf_counter() - started_s
        return Outcome(wall_s, _loss(place, recipe))


def _loss(place: Workplace, name: str) -> float:
    command = [PLT_TUI, "eval", name, "--batches", "all", "--device", "cpu", "--json"]
    done = subprocess.run(
        command, cwd=place.folder, env=place.environment, stdout=subprocess.PIPE, timeout=DEADLINE_S, check=True
    )
    loss: float = json.loads(done.stdout)["loss"]
    return loss
