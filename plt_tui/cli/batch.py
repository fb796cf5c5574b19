"""`plt-tui show RUN --batch STEP`: the sequences that a step trained on, and the steps that the guard found out of line.

Computed again from the record and the prepared corpora; trains nothing, imports no torch, and reads weights from nowhere.
Invariant: the sequences are those that the ranks took, in whichever session and on whichever branch the step was computed.
"""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from plt_tui.cli.data import marked_text
from plt_tui.cli.echo import echo, echo_json
from plt_tui.cli.progress import shown_progress
from plt_tui.errors import DataError, UsageError

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.control.folder import RunFolder
    from plt_tui.control.stretches import Line, Stretch
    from plt_tui.data.cursor import Batches
    from plt_tui.data.prepare import Dataset
    from plt_tui.data.progress import Report
    from plt_tui.data.tokenizer import Tokenizer
    from plt_tui.plugins import Plugins
    from plt_tui.protocol.events import Event, Spike
    from plt_tui.training.place import GlobalBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedOn:
    """One sequence of a step."""

    rank: int
    micro_step: int
    """Counted from 0, as ranks and samples are."""
    sample: int
    """Its global index."""
    corpus: str
    """As the configuration names it."""
    ids: tuple[int, ...]
    """Tokens, without padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one step trained on."""

    rows: list[TrainedOn]
    """By sample."""
    spikes: list[Spike]
    """What the guard said about the step."""
    dataset: Dataset


def show_batch(folder: RunFolder, step: int, branch: int, plugins: Plugins, *, as_json: bool) -> None:
    """Print the sequences of `step`; `branch`: 0 for the line that the run is on. Raises: as `read_batch`."""
    with shown_progress() as report:
        batch = read_batch(folder, step, branch, plugins, report)
    if as_json:
        echo_json([_facts(row, batch.dataset.tokenizer) for row in batch.rows])
    else:
        _print(batch.rows, batch.spikes, step, batch.dataset)


def read_batch(folder: RunFolder, step: int, branch: int, plugins: Plugins, report: Report) -> Batch:
    """What `step` trained on; `branch`: 0 for the line that the run is on; `report`: hears of corpora that are prepared again.

    Raises: UsageError for a branch or a step that there is not; StorageError for a record that cannot be read; DataError when
    the corpora are gone or changed.
    """
    from plt_tui.control.record import read_journal, read_overview
    from plt_tui.control.stretches import stretches

    events = read_journal(folder)
    lines = spikes_by_branch(events)
    if branch >= len(lines):
        raise _unknown_branch(folder, branch)
    spikes = [spike for spike in lines[branch] if spike.step == step]
    # Of a step that is so far out of line that the guard stopped the run, the record has no more than that.
    last = max([read_overview(folder).step, *(spike.step for spike in spikes)])
    line = stretches(events, branch, last=last)
    stretch = _stretch_at(line, step, branch)
    dataset = _dataset(stretch, folder, plugins, report)
    return Batch(rows=sequences(line, step, stretch.config, dataset), spikes=spikes, dataset=dataset)


def sequences(line: Line, step: int, config: RunConfig, dataset: Dataset) -> list[TrainedOn]:
    """What the ranks trained on in `step`, by sample; `config`: of the session that computed it."""
    from plt_tui.data.cursor import train_batches
    from plt_tui.training.seeds import stream_seed

    batches = train_batches(dataset, config.data, stream_seed(config.run.seed, "data"))
    batch, batches = batch_of(line, step, batches)
    ids, sources = batches.batch(batch.first, batch.size), batches.sources(batch.first, batch.size)
    world_size = batch.size // batch.layout.sequences
    # Which rank has a sequence, and when: what `GlobalBatch.share` says, the other way round.
    turns = [divmod(place // batch.layout.batch_size, world_size) for place in range(batch.size)]
    samples = range(batch.first, batch.first + batch.size)
    return [
        TrainedOn(
            rank=rank,
            micro_step=micro,
            sample=sample,
            corpus=config.data.corpora[source],
            ids=tuple(token for token in tokens if token >= 0),
        )
        for sample, (micro, rank), source, tokens in zip(samples, turns, sources, ids.tolist(), strict=True)
    ]


def batch_of(line: Line, step: int, batches: Batches) -> tuple[GlobalBatch, Batches]:
    """Where the batch of `step` lies, and the samples as they are mixed there; `batches`: as the configuration mixes them."""
    from plt_tui.config.edits import UNDO
    from plt_tui.training.place import Place

    remixed = {edit.step for edit in line.edits if edit.name in ("weights", UNDO) and 0 < edit.step < step}
    for mark in (*sorted(remixed), step):
        stretch = next(stretch for stretch in line.stretches if stretch.first <= mark <= stretch.last)
        place = Place(batches, stretch.config, stretch.run.world_size)
        place.sample_index = _sequences_before(line, mark)
        batch = place.enter(line.edits, mark)
        batches = place.batches
    return batch, batches


def spikes_by_branch(events: Iterable[Event]) -> list[list[Spike]]:
    """The spikes on every line of a run: first on the one that it is on, then on its branches, what they share included."""
    from plt_tui.protocol.events import CommandStatus, Spike

    branches: list[list[Spike]] = []
    spikes: list[Spike] = []
    for event in events:
        match event:
            case Spike():
                spikes.append(event)
            case CommandStatus(name="rewind", status="applied", step=step, before=int(before)) if before > step:
                branches.append(spikes)
                spikes = [spike for spike in spikes if spike.step <= step]
    return [spikes, *branches]


def spike_text(spike: Spike) -> str:
    """A spike in one line."""
    from plt_tui.protocol.text import safe_line

    how_far = "" if math.isnan(spike.z) else f", {spike.z:.1f} standard deviations above the mean"
    reason = f" ({safe_line(spike.reason)})" if spike.reason else ""
    return f"step {spike.step}: {spike.what} {spike.value:.4g}{how_far}; guard: {spike.act}{reason}"


def _unknown_branch(folder: RunFolder, branch: int) -> UsageError:
    from plt_tui.control.record import read_feed

    left = read_feed(folder).state.branches
    known = ", ".join(f"{one.number} (steps {one.first} to {one.last})" for one in left) or "none"
    return UsageError(f"branch {branch}: {folder.name} has no such branch; branches: {known}")


def _stretch_at(line: Line, step: int, branch: int) -> Stretch:
    """Raises: UsageError when the line has no such step."""
    for stretch in line.stretches:
        if stretch.first <= step <= stretch.last:
            return stretch
    where = f"branch {branch}" if branch else "this run"
    has = f"has steps 1 to {line.last}" if line.last else "has computed no step yet"
    raise UsageError(f"step {step}: {where} {has}; give one of them")


def _sequences_before(line: Line, step: int) -> int:
    """Sequences trained on or left out up to the step before `step`; not what is left out right before `step`."""
    from plt_tui.config.hyper import samples_taken

    return sum(
        samples_taken(stretch.config, line.edits, stretch.run.world_size, stretch.first, min(step, stretch.last + 1))
        for stretch in line.stretches
        if stretch.first < step
    )


def _dataset(stretch: Stretch, folder: RunFolder, plugins: Plugins, report: Report) -> Dataset:
    """The tokens that the ranks of `stretch` trained on. Raises: DataError when the corpora hold others now."""
    from plt_tui.cli.run import with_kept_tokenizer
    from plt_tui.data.prepare import prepare

    dataset = prepare(with_kept_tokenizer(stretch.config, folder).data, plugins=plugins, on_progress=report)
    if stretch.run.environment.get("data", dataset.fingerprint) != dataset.fingerprint:
        corpora = ", ".join(stretch.config.data.corpora)
        raise DataError(f"{corpora}: changed since {folder.name} trained on it; bring the old files back to see its batches")
    return dataset


def _facts(row: TrainedOn, tokenizer: Tokenizer) -> dict[str, Any]:
    """A sequence as JSON values: the text in place of the tokens."""
    facts = asdict(row)
    return {**facts, "text": tokenizer.decode(facts.pop("ids"))}


def _print(rows: Sequence[TrainedOn], spikes: Sequence[Spike], step: int, dataset: Dataset) -> None:
    """The texts for people, each under a line that says whose it was."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a corpus may hold what this terminal cannot show
    for spike in spikes:
        echo(f"{spike_text(spike)}\n")
    for row in rows:
        text = marked_text(dataset.tokenizer, row.ids).removesuffix("\n").replace("\n", "\n  ")
        echo(f"{_head(row, step, with_corpus=len(dataset.train) > 1)}\n  {text}\n")


def _head(row: TrainedOn, step: int, *, with_corpus: bool) -> str:
    from plt_tui.protocol.text import safe_line

    parts = [f"step {step}", f"rank {row.rank}", f"micro-step {row.micro_step}", f"sample {row.sample}"]
    return " · ".join([*parts, f"corpus {safe_line(row.corpus)}"] if with_corpus else parts)
