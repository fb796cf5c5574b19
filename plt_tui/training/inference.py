"""A trained model in use: built from saved weights, on one device, to write text or to be measured. One process, no training.

Does not look for weights. Invariant: a `ReadyModel` that exists has finite weights, and a tokenizer whose ids are its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from plt_tui.config.schema import RunConfig, SampleSection
from plt_tui.data.cursor import EvalWindows
from plt_tui.data.prepare import Dataset
from plt_tui.data.tokenizer import IdTokenizer, Tokenizer, from_json
from plt_tui.errors import UsageError
from plt_tui.model.base import LanguageModel
from plt_tui.model.build import build_model
from plt_tui.model.generate import stream
from plt_tui.plugins import Plugins
from plt_tui.training.evaluate import EvalResult, evaluate
from plt_tui.training.precision import set_math_modes
from plt_tui.training.ranks import Ranks
from plt_tui.weights.bundle import Weights, load_into


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadyModel:
    """A model in evaluation mode on its device."""

    model: LanguageModel
    tokenizer: Tokenizer
    device: torch.device


def ready_model(weights: Weights, device: torch.device, plugins: Plugins) -> ReadyModel:
    """The model of `weights`, which stay as they are; without a tokenizer its ids are its text.

    Raises: UsageError when their shape is unknown, when they belong to a plug-in that is not there, are not finite or do not go
    with their tokenizer, and when the device has no room; DataError for a tokenizer that is none.
    """
    of = weights.blueprint
    if of is None:
        raise UsageError(
            f"{weights.source}: tensors without the shape of their model; give a folder that plt-tui or Hugging Face's "
            "transformers wrote"
        )
    for name, tensor in weights.tensors.items():
        if not torch.isfinite(tensor).all():
            raise UsageError(f"{weights.source}: {name} has values that are no finite numbers; choose other weights")
    tokenizer = IdTokenizer(of.vocab_size) if weights.tokenizer is None else from_json(dict(weights.tokenizer))
    if tokenizer.vocab_size != of.vocab_size:
        raise UsageError(
            f"{weights.source}: its tokenizer has {tokenizer.vocab_size} ids, but the model {of.vocab_size}; "
            "they do not belong together"
        )
    model = build_model(of.shape, vocab_size=of.vocab_size, context=of.context, seed=0, plugins=plugins)
    load_into(weights, model)
    with _sentence_when_full():
        model.to(device)
    return ReadyModel(model=model.eval(), tokenizer=tokenizer, device=device)


def write_tokens(ready: ReadyModel, prompt_ids: Sequence[int], sample: SampleSection, seed: int) -> Iterator[int]:
    """Ids that continue `prompt_ids`, at least one; at most `sample.tokens`, fewer where the model ends the document.

    Raises: UsageError when the device has no room.
    """
    with _sentence_when_full():
        yield from stream(
            ready.model,
            torch.tensor(prompt_ids, dtype=torch.int64),
            tokens=sample.tokens,
            temperature=sample.temperature,
            top_k=sample.top_k,
            top_p=sample.top_p,
            seed=seed,
            stop_id=ready.tokenizer.end_of_text,
        )


def measure(ready: ReadyModel, dataset: Dataset, config: RunConfig, *, is_whole: bool) -> EvalResult:
    """The evaluation that a run of `config` would make of this model on the held-out text of `dataset`, or on all of that text.

    Chooses kernels for the whole process, as training does. Raises: UsageError when the device has no room.
    """
    windows = EvalWindows(dataset.eval, ready.model.context)
    set_math_modes(config.train, ready.device)
    with _sentence_when_full():
        return evaluate(
            ready.model,
            windows,
            Ranks(0, 1, ready.device),
            batch_size=config.train.batch_size,
            batches=windows.num_windows if is_whole else config.eval.batches,
            bytes_per_token=dataset.bytes_per_token,
            precision=config.train.precision,
        )


def device_named(name: str) -> torch.device:
    """The device that `--device` names; auto: a GPU if there is one. Raises: UsageError when torch cannot use it."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise UsageError(f"--device {name}: expected auto, cpu, cuda or cuda:N")
    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        name = "cuda" if num_gpus else "cpu"
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= num_gpus:
        raise UsageError(f"--device {name}: torch {torch.__version__} can use {num_gpus} GPUs here; use --device cpu")
    return device


@contextmanager
def _sentence_when_full() -> Iterator[None]:
    """A GPU may be full, perhaps with the very run whose checkpoint this is."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UsageError(f"the GPU's memory is full ({reason}); use --device cpu") from None
