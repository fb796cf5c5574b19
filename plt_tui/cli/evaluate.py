"""`plt-tui eval`: how well a trained model predicts held-out text, its run's own or another.

Changes nothing of the run. Invariant: with nothing but the run given, the numbers are those of the run's own evaluation at
that step.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plt_tui.cli.attach import DEFAULT_DIR, DirOption
from plt_tui.cli.config import named_plugins
from plt_tui.cli.echo import echo, echo_json
from plt_tui.cli.progress import shown_progress
from plt_tui.cli.run import PluginsOption
from plt_tui.cli.trained import (
    DeviceOption,
    StepOption,
    TargetArgument,
    open_trained,
    refuse_wrong,
    with_options,
)
from plt_tui.errors import DataError, StorageError, UsageError

if TYPE_CHECKING:
    from plt_tui.cli.trained import Trained
    from plt_tui.config.schema import DataSection
    from plt_tui.data.prepare import Dataset
    from plt_tui.data.tokenizer import Tokenizer
    from plt_tui.plugins import Plugins
    from plt_tui.training.evaluate import EvalResult

ALL = "all"


def eval_(
    target: TargetArgument,
    data: Annotated[str | None, typer.Option(metavar="CORPUS", help="Text to predict. Left out: the run's held-out.")] = None,
    batches: Annotated[
        str | None,
        typer.Option(metavar="N|all", help="Batches, spread evenly over the text. Left out: the run's eval.batches."),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences in a batch. Left out: the run's train.batch_size.")] = None,
    step: StepOption = None,
    device: DeviceOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    plugins: PluginsOption = None,
    directory: DirOption = DEFAULT_DIR,
) -> None:
    """Measure a trained model on held-out text.

    Loss, perplexity, bits per byte and accuracy of the next token: of the run's own evaluation, or on any corpus.
    """
    wishes = {"eval.batches": None if batches == ALL else batches, "train.batch_size": batch_size}
    refuse_wrong(wishes)
    found = named_plugins(plugins)
    trained = open_trained(target, directory, step=step, device=device, plugins=found)
    echo(trained.described, err=True)
    config = with_options(trained.config, wishes)
    dataset = _dataset(trained, data, found)

    from plt_tui.training.inference import measure

    result = measure(trained.ready, dataset, config, is_whole=batches == ALL)
    if as_json:
        values = {"step": trained.step, **asdict(result)}
        echo_json({key: repr(value) if _is_no_number(value) else value for key, value in values.items()})
    else:
        echo(result_text(result, len(dataset.eval)))


def result_text(result: EvalResult, num_tokens: int) -> str:
    """The numbers in lines for people. num_tokens: of the whole text."""
    lines = {
        "loss": f"{result.loss:.4f} nats per token",
        "perplexity": f"{result.perplexity:,.2f}",
        "bits per byte": "unknown: these token ids have no text"
        if math.isnan(result.bits_per_byte)
        else f"{result.bits_per_byte:.4f}",
        "accuracy": f"{result.accuracy:.2%} of next tokens",
        "tokens": f"{result.tokens:,} of {num_tokens:,}",
        "seconds": f"{result.seconds:.2f}",
    }
    return "\n".join(f"{key:<14} {value}" for key, value in lines.items())


def _dataset(trained: Trained, corpus: str | None, plugins: Plugins) -> Dataset:
    """The run's data, or `corpus` in the run's tokens. Raises: UsageError, DataError, StorageError."""
    from plt_tui.data.prepare import prepare

    if corpus is None and trained.run is None:
        raise UsageError(f"{trained.path} belongs to no run, so it has no held-out text of its own; give --data CORPUS")
    section = _own_data(trained) if corpus is None else _other_data(trained, corpus)
    try:
        with shown_progress() as report:
            dataset = prepare(section, plugins=plugins, on_progress=report)
    except DataError as error:
        raise error if corpus is None else DataError(f"--data: {error}") from None
    if dataset.tokenizer.to_json() != trained.ready.tokenizer.to_json():
        what = corpus or "the run's corpus or tokenizer file has changed: it"
        raise DataError(
            f"{what} gives a vocabulary ({dataset.tokenizer.kind}, {dataset.tokenizer.vocab_size} ids) that is not the model's "
            f"({trained.ready.tokenizer.kind}, {trained.ready.tokenizer.vocab_size} ids); give other text with --data"
        )
    if corpus is None and trained.checkpoint.get("data_fingerprint") != dataset.fingerprint:
        echo("the run's corpus has changed since this checkpoint: other held-out text than the run's own", err=True)
    return dataset


def _own_data(trained: Trained) -> DataSection:
    """The run's `[data]`; where the tokenizer's file has gone, with the checkpoint's copy of it."""
    from plt_tui.data.sources import TRAINED_TOKENIZERS

    data = trained.config.data
    if data.tokenizer in TRAINED_TOKENIZERS or Path(data.tokenizer).is_file():
        return data
    return data.model_copy(update={"tokenizer": _tokenizer_key(trained.ready.tokenizer)})


def _other_data(trained: Trained, corpus: str) -> DataSection:
    """A `[data]` section whose held-out text is `corpus`, in the tokens that the model knows."""
    changes = {
        "train": corpus,
        "eval": corpus,
        "weights": (),
        "format": "auto",
        "packing": "concatenate",
        "tokenizer": _tokenizer_key(trained.ready.tokenizer),
        "vocab_size": trained.ready.tokenizer.vocab_size,
        "context": trained.ready.model.context,
    }
    return trained.config.data.model_copy(update=changes)


def _tokenizer_key(tokenizer: Tokenizer) -> str:
    """A value of `data.tokenizer` that stands for `tokenizer`: a word, or a file in the cache, one for each vocabulary.

    The same file each time, so that what was prepared with it is found again. Raises: StorageError.
    """
    from plt_tui.data.cache import default_cache_dir
    from plt_tui.protocol.durable import replace_file

    if tokenizer.kind in ("byte", "ids"):
        return "byte"
    content = json.dumps(tokenizer.to_json()).encode()
    path = default_cache_dir().absolute() / "tokenizers" / f"{hashlib.sha256(content).hexdigest()[:32]}.json"
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(path, content)
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}; set PLT_TUI_CACHE to a folder with space") from None
    return str(path)


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
