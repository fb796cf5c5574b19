"""`plt-tui data`: tokenise ahead of a run, and look at what a model is going to see.

Imports no torch. Invariant: the samples shown are those that a run of the same configuration trains on, in its order.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plt_tui.cli.config import named_plugins, tail_text
from plt_tui.cli.echo import echo, echo_json, until_the_reader_leaves
from plt_tui.cli.progress import shown_progress
from plt_tui.cli.run import PluginsOption, SetsOption

if TYPE_CHECKING:
    from plt_tui.config.schema import RunConfig
    from plt_tui.data.cursor import Batches
    from plt_tui.data.prepare import Dataset
    from plt_tui.data.tokenizer import Tokenizer

END_OF_TEXT = "[end of text]\n"
"""How the end of a document is shown."""

ConfigArgument = Annotated[Path | None, typer.Argument(help="TOML file; left out: the built-in quick start.")]
TrainPathOption = Annotated[str | None, typer.Option(help="Training corpus (data.train).")]
EvalPathOption = Annotated[str | None, typer.Option(help="Held-out corpus (data.eval).")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]

app = typer.Typer(name="data", help="Tokenise corpora ahead of a run, and look at them.", no_args_is_help=True)


def prepare(
    config: ConfigArgument = None,
    train_path: TrainPathOption = None,
    eval_path: EvalPathOption = None,
    sets: SetsOption = None,
    plugins: PluginsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tokenise the corpora of a config.

    So that its runs start at once; what is prepared is found again as long as the files stay the same.
    """
    prepared = _prepared(config, {"--train-path": train_path, "--eval-path": eval_path}, sets, plugins)
    facts = prepared.facts()
    if as_json:
        echo_json(facts)
    else:
        echo(facts_text(facts))


def inspect(
    config: ConfigArgument = None,
    train_path: TrainPathOption = None,
    eval_path: EvalPathOption = None,
    sets: SetsOption = None,
    plugins: PluginsOption = None,
    sample: Annotated[int, typer.Option(min=0, max=2**53, help="First training sample to show, counted from 0.")] = 0,
    count: Annotated[int, typer.Option(min=0, max=10_000, help="Training samples to show.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Show a corpus as a run sees it.

    Its numbers, and training samples in the run's order with a mark where a document ends.
    """
    prepared = _prepared(config, {"--train-path": train_path, "--eval-path": eval_path}, sets, plugins)
    facts, rows = prepared.facts(), prepared.samples(sample, count)
    if as_json:
        tokenizer = prepared.dataset.tokenizer
        echo_json({**facts, "samples": [{**row, "text": tokenizer.decode(_tokens(row["ids"]))} for row in rows]})
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a corpus may hold what this terminal cannot show
    echo(facts_text(facts))
    for row in rows:
        tokens = _tokens(row["ids"])
        padding = f" and {len(row['ids']) - len(tokens)} of padding" if len(tokens) < len(row["ids"]) else ""
        echo(f"\n--- sample {row['index']}, epoch {row['epoch']}: {len(tokens)} tokens{padding} ---")
        echo(marked_text(prepared.dataset.tokenizer, tokens))


for _command in (prepare, inspect):
    app.command(_command.__name__)(until_the_reader_leaves(_command))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prepared:
    """A dataset, and the order in which a run goes through it."""

    config: RunConfig
    dataset: Dataset
    batches: Batches

    def samples(self, first: int, count: int) -> list[dict[str, Any]]:
        """Training samples as the run counts them: index, epoch, and C + 1 ids, -1 for padding."""
        rows = self.batches.batch(first, count).tolist() if count else []
        per_epoch = self.batches.samples_per_epoch
        return [{"index": index, "epoch": index // per_epoch, "ids": ids} for index, ids in enumerate(rows, start=first)]

    def facts(self) -> dict[str, Any]:
        """What there is, as JSON values."""
        data, dataset = self.config.data, self.dataset
        return {
            "corpora": [
                {"name": name, "tokens": len(tokens)} for name, tokens in zip(data.corpora, dataset.train, strict=True)
            ],
            "weights": list(data.weights),
            "train_tokens": dataset.num_train_tokens,
            "held_out": data.eval or tail_text(data),
            "eval_tokens": len(dataset.eval),
            "tokenizer": dataset.tokenizer.kind,
            "vocab_size": dataset.tokenizer.vocab_size,
            "bytes_per_token": dataset.bytes_per_token if dataset.bytes_per_token > 0 else None,  # NaN: unknown
            "context": data.context,
            "samples_per_epoch": self.batches.samples_per_epoch,
            "packing": data.packing,
            "fill": fill_rate(dataset, data.context),
            "fingerprint": dataset.fingerprint,
            "files": _files(dataset),
        }


def facts_text(facts: dict[str, Any]) -> str:
    """The facts in lines for people."""
    per_token = facts["bytes_per_token"]
    known = f", {per_token:.2f} bytes per token" if per_token is not None else ""
    fill = f", rows {facts['fill']:.1%} filled" if facts["fill"] is not None else ""
    shares = [f", weight {weight:g}" for weight in facts["weights"]] or [""] * len(facts["corpora"])
    lines = [
        *(
            ("corpus", f"{corpus['name']}: {corpus['tokens']:,} tokens{share}")
            for corpus, share in zip(facts["corpora"], shares, strict=True)
        ),
        ("to train", f"{facts['train_tokens']:,} tokens"),
        ("held out", f"{facts['eval_tokens']:,} tokens ({facts['held_out']})"),
        ("tokens", f"{facts['tokenizer']}, {facts['vocab_size']:,} ids{known}"),
        ("epoch", f"{facts['samples_per_epoch']:,} samples of {facts['context']:,} tokens ({facts['packing']}{fill})"),
        *(("kept in", file) for file in facts["files"]),
    ]
    return "\n".join(f"{key:<9} {value}" for key, value in lines)


def marked_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """The text of `ids`, with a mark where a document ends."""
    runs = groupby(ids, key=lambda token: token == tokenizer.end_of_text)
    return "".join(END_OF_TEXT * len(list(run)) if is_end else tokenizer.decode(list(run)) for is_end, run in runs)


def fill_rate(dataset: Dataset, context: int) -> float | None:
    """Of packed rows the share that is no padding; None when nothing is packed."""
    num_rows = sum(packing.num_rows for packing in dataset.packed)
    num_tokens = sum(int(packing.token_offsets[-1]) for packing in dataset.packed)
    return num_tokens / (num_rows * (context + 1)) if num_rows else None


def _tokens(ids: Sequence[int]) -> list[int]:
    """A sample without its padding."""
    return [token for token in ids if token >= 0]


def _files(dataset: Dataset) -> list[str]:
    """The files whose tokens are mapped into memory: in the cache, or the corpus itself if it holds tokens."""
    return list(dict.fromkeys(str(getattr(tokens, "filename", "")) for tokens in (*dataset.train, dataset.eval)))


def _prepared(path: Path | None, named: dict[str, str | None], sets: list[str] | None, plugins: list[Path] | None) -> _Prepared:
    """What `plt-tui run` with these options would train on, prepared if it is not yet. Raises: UsageError, DataError."""
    from plt_tui.config.load import load
    from plt_tui.config.sources import OPTIONS, Assignment
    from plt_tui.data.cursor import train_batches
    from plt_tui.data.prepare import prepare as prepare_data
    from plt_tui.training.seeds import stream_seed

    options = [Assignment(key=OPTIONS[flag], value=value, origin=flag) for flag, value in named.items() if value is not None]
    config = load(path, options=options, sets=sets or (), environ=os.environ, dotenv=Path(".env")).config
    with shown_progress() as report:
        dataset = prepare_data(config.data, plugins=named_plugins(plugins), on_progress=report)
    return _Prepared(
        config=config,
        dataset=dataset,
        batches=train_batches(dataset, config.data, stream_seed(config.run.seed, "data")),
    )
