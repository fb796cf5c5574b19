"""A recorded line of a run, computed again and compared with its record, bit for bit.

What a step computes follows from the configuration and the edits alone, so pauses, evaluations, checkpoints, restarts and
branches need no repeating. Nothing is written but in a folder of the ranks' own. Invariant: the first difference ends the
replay, and every step before it has the recorded bits.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plt_tui.config.schema import RunConfig
from plt_tui.control.feed import Feed
from plt_tui.control.folder import RunFolder
from plt_tui.control.placement import Placement, place
from plt_tui.control.rerun import RERUN_ENTRY, Job, compute, newest_whole
from plt_tui.control.stretches import Line, Stretch
from plt_tui.errors import StorageError, UsageError
from plt_tui.protocol.events import Alert, Checkpoint, Event, Run, Step

COMPARED = ("loss", "lr", "grad_norm")
"""Columns of the record that every computed step is compared with."""
WEIGHTS = "weights_sha256"
_SIZES = {
    "params": "parameters",
    "train_tokens": "tokens to train on",
    "eval_tokens": "held-out tokens",
    "vocab_size": "vocabulary",
}

Columns = Mapping[str, Sequence[float]]
"""Values of STEP_COLUMNS, the steps growing."""
Report = Callable[[int, int], None]
"""Told how many steps of how many are computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first step whose bits are not the same."""

    step: int
    values: Mapping[str, tuple[Any, Any]]
    """What differs, the weights after the step among it: as it was, and as it was computed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a replay found."""

    first: int
    last: int
    """The last step that was computed: the one that differs, if one does."""
    num_recorded: int
    """Steps among them that the record holds numbers of."""
    weights_sha256: str
    """After `last`, where the record holds their hash too; else empty."""
    difference: Difference | None = None
    because: tuple[str, ...] = ()
    """What else is not as it was when the step that differs was computed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Where a replay begins: after `step` completed steps, with the checkpoint at `resume` ("never": none)."""

    step: int = 0
    resume: str = "never"


def beginning(line: Line, checkpoints: Mapping[int, Path], step: int) -> Begin:
    """The newest whole checkpoint of `line` at or before `step`; without one the line's own beginning.

    checkpoints: what lies on the disk, of any line. Raises: UsageError when there is nothing to compute from there.
    """
    if step >= line.last:
        raise UsageError(f"--from {step}: the record ends with step {line.last}; give a step before it")
    saved = newest_whole({at: folder for at, folder in checkpoints.items() if at <= step}, line.weights)
    if saved:
        return Begin(step=saved, resume=str(checkpoints[saved]))
    first = line.stretches[0].first
    if first > 1:
        raise UsageError(f"the record begins with step {first}; give --from a step at which the run has a checkpoint")
    return Begin()


def recorded_columns(feed: Feed, branch: int = 0) -> Columns:
    """What the record holds of the steps of a line, or of a branch with what it had in common with the run before it was left.

    Steps before a branch that were left later lie in the branches after it.
    """
    history, left = feed.history, feed.state.branches[branch - 1 :] if branch else ()
    rows: dict[str, list[float]] = {name: [] for name in ("step", *COMPARED)}
    first = math.inf
    for columns, begins in [*((history.branches[one.number], one.first) for one in left), (history.columns, 1)]:
        keep = bisect_left(columns["step"], first)
        rows = {name: [*columns[name][:keep], *values] for name, values in rows.items()}
        first = min(first, begins)
    return rows


async def replay(
    line: Line,
    recorded: Columns,
    begin: Begin,
    folder: RunFolder,
    *,
    gpus: Sequence[int] = (),
    plugins: Sequence[str] = (),
    report: Report = lambda _done, _total: None,
    entry: str = RERUN_ENTRY,
) -> Verdict:
    """Compute `line` again from `begin` on and compare every step with `recorded`, the weights with `line.weights`.

    folder: of this replay alone. gpus: ordinals of the visible GPUs. Call from the main thread. Raises: UsageError when the
    recorded devices are not there; StorageError when no step is recorded to compare with; what made a rank fail.
    """
    if not recorded["step"] or recorded["step"][-1] <= begin.step:
        raise StorageError(f"the record holds no step after {begin.step} (metrics.jsonl), so there is nothing to compare with")
    comparison = _Comparison(line=line, recorded=recorded, begin=begin, report=report)
    resume = begin.resume
    for stretch in line.stretches:
        if stretch.last <= begin.step:
            continue
        job = Job(
            config=stretch.config,
            placement=placement_of(stretch, gpus),
            until=stretch.last,
            edits=line.edits,
            resume=resume,
            save_every=stretch.last if stretch.last < line.last else 0,
            plugins=plugins,
            entry=entry,
        )
        done = await compute(job, folder, comparison.hear)
        if done is not None:
            comparison.check_weights(stretch.last, done.weights_sha256)
        if comparison.difference is not None:
            return comparison.verdict(because=(*comparison.doubts, *reasons(stretch, comparison.run)))
        resume = comparison.saved
    return comparison.verdict()


def placement_of(stretch: Stretch, gpus: Sequence[int]) -> Placement:
    """As many ranks on the same kind of device, with as many threads, as computed `stretch`. Raises: UsageError."""
    run, parallel = stretch.run, stretch.config.parallel
    threads = int(run.environment.get("threads", 1))
    device = "cpu" if run.device == "cpu" else parallel.device if parallel.device.startswith("cuda") else "cuda"
    wish = parallel.model_copy(update={"ranks": run.world_size, "threads": threads, "device": device})
    return place(wish, run.world_size, gpus)


def reasons(stretch: Stretch, now: Run | None) -> tuple[str, ...]:
    """What is not as it was when `stretch` was computed, and could be why its bits differ; `now`: the rerun's own word."""
    then = stretch.run
    if now is None:
        return ()
    old, new = then.environment, now.environment
    changed = [
        f"{key} was {old.get(key)}, is {new.get(key)}"
        for key in [*old, *sorted(new.keys() - old.keys())]
        if old.get(key) != new.get(key)
    ]
    sizes = [
        f"{words}: {getattr(then, name)}, now {getattr(now, name)}"
        for name, words in _SIZES.items()
        if getattr(then, name) != getattr(now, name)
    ]
    return (*changed, *sizes, *_unsteady(stretch.config, now))


def _unsteady(config: RunConfig, now: Run) -> list[str]:
    if now.device == "cpu" or config.train.deterministic:
        return []
    return ["train.deterministic is false, so a GPU adds in any order"]


def differing(step: Step, recorded: Mapping[str, float]) -> Difference | None:
    """Where `step` has other bits than its record; NaN is NaN."""
    pairs = {name: (recorded[name], float(getattr(step, name))) for name in COMPARED}
    values = {name: pair for name, pair in pairs.items() if pair[0].hex() != pair[1].hex()}
    return Difference(step=step.step, values=values) if values else None


@dataclass(slots=True, kw_only=True)
class _Comparison:
    """How far a replay has come."""

    line: Line
    recorded: Columns
    begin: Begin
    report: Report
    step: int = 0
    num_recorded: int = 0
    run: Run | None = None
    """What the ranks at work say of themselves."""
    saved: str = ""
    """Their newest checkpoint."""
    doubts: tuple[str, ...] = ()
    """Why the first of them do not go on from the run's checkpoint to the same bits, in their own words."""
    compared_weights: str = ""
    difference: Difference | None = None

    def hear(self, event: Event) -> bool:
        """Take in what rank 0 says; False at the first difference."""
        match event:
            case Run():
                self.run = event
            case Alert(topic="resume", text=text) if self.run is None and text and not self._is_as_recorded():
                self.doubts = (text,)
            case Checkpoint(path=path):
                self.saved = path
            case Step():
                self._compare(event)
        return self.difference is None

    def _is_as_recorded(self) -> bool:
        """True when a session of the run went on from the very same checkpoint, with whatever changed there."""
        return any(stretch.first == self.begin.step + 1 for stretch in self.line.stretches)

    def check_weights(self, step: int, sha256: str) -> None:
        """Compare the weights after `step` with the record, where it knows them."""
        known = self.line.weights.get(step, "")
        self.compared_weights = sha256 if known else ""
        if known and known != sha256:
            self.difference = Difference(step=step, values={WEIGHTS: (known, sha256)})

    def verdict(self, because: tuple[str, ...] = ()) -> Verdict:
        """What was found."""
        return Verdict(
            first=self.begin.step + 1,
            last=self.step,
            num_recorded=self.num_recorded,
            weights_sha256=self.compared_weights,
            difference=self.difference,
            because=because,
        )

    def _compare(self, step: Step) -> None:
        self.step = step.step
        steps = self.recorded["step"]
        row = bisect_left(steps, step.step)
        if row < len(steps) and steps[row] == step.step:
            self.num_recorded += 1
            self.difference = differing(step, {name: self.recorded[name][row] for name in COMPARED})
        self.report(step.step - self.begin.step, self.line.last - self.begin.step)
