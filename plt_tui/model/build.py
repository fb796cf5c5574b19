"""From a shape to a model: the transformer of this package, or a plug-in's.

Does not train or load weights. Invariant: the same shape and seed give the same bits in every process, and the global random
streams are left as they were.
"""

from __future__ import annotations

import torch
from torch import Generator

from plt_tui.config.schema import ModelSection
from plt_tui.errors import UsageError
from plt_tui.model.base import LanguageModel
from plt_tui.model.init import initialise
from plt_tui.model.transformer import TransformerLM
from plt_tui.plugins import Plugins, split_name

OURS = "transformer"
"""What `model.arch` calls the model of this package."""
NO_FILES = Plugins()
"""Plug-ins of installed packages only."""


def build_model(shape: ModelSection, *, vocab_size: int, context: int, seed: int, plugins: Plugins = NO_FILES) -> LanguageModel:
    """The float32 model on the CPU that `shape.arch` names, ready to train.

    A plug-in's model is a callable `build(shape, *, vocab_size, context, argument) -> LanguageModel`, with the text after the
    colon of `NAME:ARGUMENT` as its argument. It is called with torch's global CPU generator seeded, so that torch's own initial
    values do as they are.

    Raises: UsageError when there is no such plug-in, or when it returns something else.
    """
    if shape.arch == OURS:
        return _transformer(shape, vocab_size=vocab_size, context=context, seed=seed)
    name, argument = split_name(shape.arch)
    build = plugins.find("models", name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build(shape, vocab_size=vocab_size, context=context, argument=argument)
    if not isinstance(model, LanguageModel):
        raise UsageError(
            f"model.arch = {shape.arch!r}: the plug-in returned a {type(model).__name__}; it must return a model derived from "
            "plt_tui.model.base.LanguageModel"
        )
    return model


def _transformer(shape: ModelSection, *, vocab_size: int, context: int, seed: int) -> TransformerLM:
    with torch.device("meta"):  # no memory and no draw from the global stream for values that are replaced anyway
        model = TransformerLM(shape, vocab_size=vocab_size, context=context)
    model.to_empty(device="cpu")
    initialise(model, Generator().manual_seed(seed))
    return model
