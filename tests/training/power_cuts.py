"""A folder of which it is known at every moment what a power cut would leave: what was synced, and maybe more, but not surely.

What a file held when it was last synced survives, and the names that a folder held when it was. Everything else may be lost, or
may not: `after_cut` makes the folder as it could be found. Invariant: nothing survives here that no sync has asked for.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

Content = bytes | dict[str, int]
"""Of a file; or of a folder: its names, and the inodes that they stand for."""


class Disk:
    """What would be left of `top`, which holds nothing that is not on disk yet."""

    def __init__(self, top: Path, patch: pytest.MonkeyPatch) -> None:
        self._top = top
        self._held: list[int] = []
        self._synced: dict[int, Content] = {}
        for path in (top, *top.rglob("*")):
            self._remember(path)
        self._fsync = os.fsync
        patch.setattr(os, "fsync", self._sync)

    def close(self) -> None:
        """Forget it."""
        for descriptor in self._held:
            os.close(descriptor)

    def after_cut(self, target: Path, keeps_names: Callable[[], bool]) -> Path:
        """Make `target` what a power cut now could leave. keeps_names: if a folder has its present names, or the synced."""
        now = {path.stat().st_ino: _names(path) for path in (self._top, *self._top.rglob("*")) if path.is_dir()}

        def put(inode: int, path: Path) -> None:
            content = self._synced.get(inode)
            if inode in now or isinstance(content, dict):
                path.mkdir()
                synced = content if isinstance(content, dict) else {}
                for name, inner in (now[inode] if inode in now and keeps_names() else synced).items():
                    put(inner, path / name)
            else:
                path.write_bytes(content or b"")

        put(self._top.stat().st_ino, target)
        return target

    def _sync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        inode = os.fstat(descriptor).st_ino
        self._remember(next(path for path in (self._top, *self._top.rglob("*")) if path.stat().st_ino == inode))

    def _remember(self, path: Path) -> None:
        self._held.append(os.open(path, os.O_RDONLY))  # so that its number is not given to another when it is deleted
        self._synced[path.stat().st_ino] = _names(path) if path.is_dir() else path.read_bytes()


def _names(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir()}
