"""Code from elsewhere: models, datasets and exporters of installed packages, or of files that a user named on the command line.

A configuration only *names* a plug-in; it never says where code lies. Code comes from packages that somebody installed (entry
points of the groups `plt_tui.models`, `plt_tui.datasets` and `plt_tui.exporters`) and from files given as `--plugin FILE`,
which win. Invariant: nothing of a plug-in is imported before it is asked for by name.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from plt_tui.errors import UsageError

Kind = Literal["models", "datasets", "exporters"]


@dataclass(frozen=True, slots=True)
class Plugins:
    """Where to look for plug-ins: `files` first, then installed packages.

    A file is a Python module with a dict `MODELS`, `DATASETS` or `EXPORTERS` (or several) from name to callable. What a
    callable must do stands at its user: `model.build.build_model`, `data.plugin.documents` and `exporters.base.Exporter`.
    """

    files: tuple[str, ...] = ()

    def find(self, kind: Kind, name: str) -> Callable[..., Any]:
        """The callable that `name` stands for. Raises: UsageError when there is none, or when its code cannot be imported."""
        for path in self.files:
            if name in (table := _table(path, kind)):
                return table[name]
        for entry in entry_points(group=f"plt_tui.{kind}"):
            if entry.name == name:
                return _loaded(entry)
        raise self._unknown(kind, name)

    def refuse_unknown(self, kind: Kind, name: str) -> None:
        """Raise UsageError when nothing is called `name`. A file is imported only where no installed package has the name."""
        is_installed = any(entry.name == name for entry in entry_points(group=f"plt_tui.{kind}"))
        if not is_installed and not any(name in _table(path, kind) for path in self.files):
            raise self._unknown(kind, name)

    def identity(self, kind: Kind, name: str) -> str:
        """Changes when the plug-in's code does: the hash of its file, or the version of its package. Raises: UsageError."""
        for path in self.files:
            if name in _table(path, kind):
                return _content_hash(path)
        for entry in entry_points(group=f"plt_tui.{kind}"):
            if entry.name == name:
                return f"{entry.value} {entry.dist.version if entry.dist is not None else ''}"
        return ""

    def _unknown(self, kind: Kind, name: str) -> UsageError:
        known = ", ".join(self._names(kind)) or "none"
        return UsageError(
            f"no plug-in of the kind {kind} is called {name!r}; known: {known}. Install the package that brings it, or add "
            "--plugin FILE"
        )

    def _names(self, kind: Kind) -> list[str]:
        installed = [entry.name for entry in entry_points(group=f"plt_tui.{kind}")]
        return sorted({*installed, *(name for path in self.files for name in _table(path, kind))})


def split_name(spec: str) -> tuple[str, str]:
    """Name and argument of "NAME" or "NAME:ARGUMENT"."""
    name, _, argument = spec.partition(":")
    return name, argument


def _table(path: str, kind: Kind) -> Mapping[str, Callable[..., Any]]:
    table = getattr(_module(path, _content_hash(path)), kind.upper(), {})
    if not isinstance(table, Mapping) or not all(callable(value) for value in table.values()):
        raise UsageError(f"--plugin {path}: {kind.upper()} must be a dict from names to callables")
    return table


def _content_hash(path: str) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise UsageError(f"--plugin {path}: cannot be read: {error.strerror}; give a Python file") from None


@cache
def _module(path: str, content_hash: str) -> ModuleType:
    """The file as a module, executed once per process, and again after an edit: `identity` must be that of what runs."""
    name = f"plt_tui_plugin_{hashlib.sha256(f'{content_hash} {path}'.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"--plugin {path}: not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and pickle look for the module of a class
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise UsageError(f"--plugin {path}: cannot be imported: {type(error).__name__}: {error}") from error
    return module


def _loaded(entry: EntryPoint) -> Callable[..., Any]:
    try:
        found = entry.load()
    except Exception as error:
        raise UsageError(
            f"plug-in {entry.name} ({entry.value}): cannot be imported: {type(error).__name__}: {error}"
        ) from error
    if not callable(found):
        raise UsageError(f"plug-in {entry.name} ({entry.value}): a {type(found).__name__} is no callable")
    result: Callable[..., Any] = found
    return result
