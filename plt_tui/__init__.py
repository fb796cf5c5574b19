"""Launch, watch, steer, rewind and prove a language-model training run from a terminal.

The names below are the Python API. They are loaded when they are first used: importing the package imports neither torch nor
anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plt_tui.config.load import load_config as load_config
    from plt_tui.config.schema import ModelSection as ModelSection
    from plt_tui.config.schema import RunConfig as RunConfig
    from plt_tui.data.prepare import Dataset as Dataset
    from plt_tui.data.prepare import prepare as prepare
    from plt_tui.errors import PltTuiError as PltTuiError
    from plt_tui.model.base import LanguageModel as LanguageModel
    from plt_tui.model.build import build_model as build_model
    from plt_tui.model.generate import generate as generate
    from plt_tui.model.transformer import TransformerLM as TransformerLM
    from plt_tui.plugins import Plugins as Plugins
    from plt_tui.training.evaluate import EvalResult as EvalResult
    from plt_tui.training.trainer import Trainer as Trainer

__version__ = "0.1.0"

_HOMES = {
    "Dataset": "plt_tui.data.prepare",
    "EvalResult": "plt_tui.training.evaluate",
    "LanguageModel": "plt_tui.model.base",
    "ModelSection": "plt_tui.config.schema",
    "PltTuiError": "plt_tui.errors",
    "Plugins": "plt_tui.plugins",
    "RunConfig": "plt_tui.config.schema",
    "Trainer": "plt_tui.training.trainer",
    "TransformerLM": "plt_tui.model.transformer",
    "build_model": "plt_tui.model.build",
    "generate": "plt_tui.model.generate",
    "load_config": "plt_tui.config.load",
    "prepare": "plt_tui.data.prepare",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> Any:
    """Load one of the public names (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
