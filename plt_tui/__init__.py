"""Launch, watch, steer, rewind and prove a language-model training run from a terminal.

The names below are the Python API. They are loaded when they are first used: importing the package imports neither torch nor
anything else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plt_tui.client.connection import Connection as Connection
    from plt_tui.client.connection import connect as connect
    from plt_tui.client.history import Evals as Evals
    from plt_tui.client.history import History as History
    from plt_tui.client.record import RunRecord as RunRecord
    from plt_tui.client.record import read_run as read_run
    from plt_tui.config.load import load_config as load_config
    from plt_tui.config.schema import ModelSection as ModelSection
    from plt_tui.config.schema import RunConfig as RunConfig
    from plt_tui.control.state import RunState as RunState
    from plt_tui.data.prepare import Dataset as Dataset
    from plt_tui.data.prepare import prepare as prepare
    from plt_tui.errors import ConnectionLost as ConnectionLost
    from plt_tui.errors import HubUnreachable as HubUnreachable
    from plt_tui.errors import PltTuiError as PltTuiError
    from plt_tui.errors import Refused as Refused
    from plt_tui.model.base import LanguageModel as LanguageModel
    from plt_tui.model.build import build_model as build_model
    from plt_tui.model.generate import generate as generate
    from plt_tui.model.transformer import TransformerLM as TransformerLM
    from plt_tui.plugins import Plugins as Plugins
    from plt_tui.protocol import events as events
    from plt_tui.training.evaluate import EvalResult as EvalResult
    from plt_tui.training.trainer import Trainer as Trainer

__version__ = "0.1.0"

_HOMES = {
    "Connection": "plt_tui.client.connection",
    "ConnectionLost": "plt_tui.errors",
    "Dataset": "plt_tui.data.prepare",
    "EvalResult": "plt_tui.training.evaluate",
    "Evals": "plt_tui.client.history",
    "History": "plt_tui.client.history",
    "HubUnreachable": "plt_tui.errors",
    "LanguageModel": "plt_tui.model.base",
    "ModelSection": "plt_tui.config.schema",
    "PltTuiError": "plt_tui.errors",
    "Plugins": "plt_tui.plugins",
    "Refused": "plt_tui.errors",
    "RunConfig": "plt_tui.config.schema",
    "RunRecord": "plt_tui.client.record",
    "RunState": "plt_tui.control.state",
    "Trainer": "plt_tui.training.trainer",
    "TransformerLM": "plt_tui.model.transformer",
    "build_model": "plt_tui.model.build",
    "connect": "plt_tui.client.connection",
    "generate": "plt_tui.model.generate",
    "load_config": "plt_tui.config.load",
    "prepare": "plt_tui.data.prepare",
    "read_run": "plt_tui.client.record",
}

_MODULES = {"events": "plt_tui.protocol.events"}
"""Public names that are whole modules."""

__all__ = ["__version__", *_HOMES, *_MODULES]


def __getattr__(name: str) -> Any:
    """Load one of the public names (PEP 562)."""
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
