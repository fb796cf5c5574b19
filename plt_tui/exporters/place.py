"""How far an exporter has come with a run, kept in a file beside the run's record: exports/NAME.json.

Does not know what exporters do. Invariant: what the place says was handed over is safe with the tool; nothing behind it counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from plt_tui.control.folder import RunFolder
from plt_tui.errors import RunInUse, StorageError, UsageError
from plt_tui.exporters.tail import Mark, Marks
from plt_tui.protocol.durable import replace_file

VERSION = 1
MAX_LINE_BYTES = 1 << 20
"""Longest first line of a journal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One run in one tool, as far as it is there."""

    run: str
    """`run_id` of the run."""
    marks: Marks = field(default_factory=dict)
    step: int = 0
    """The newest step that was handed over, on the line that the run is on."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """What the exporter wants to know at its next start."""
    has_flushed: bool = False
    """Something was handed over, or the tool was told of the run."""


def run_id(folder: RunFolder) -> str:
    """32 hex digits that no other run has; empty while nothing is recorded. Raises: StorageError.

    Made from the first line of the journal, which is never written again: a copy of the run folder is the same run.
    """
    try:
        with folder.journal.open("rb") as file:
            line = file.readline(MAX_LINE_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise StorageError(f"{folder.journal}: cannot be read: {error.strerror}; make it readable again") from None
    return hashlib.sha256(line).hexdigest()[:32] if line.endswith(b"\n") else ""


def read_place(path: Path, run: str) -> Place:
    """The place kept at `path`, the beginning where there is none. Raises: UsageError for that of another run, or no place."""
    try:
        value = json.loads(path.read_bytes())
        marks = {str(name): Mark(**mark) for name, mark in value["marks"].items()}
        place = Place(run=value["run"], marks=marks, step=value["step"], kept=value["kept"], has_flushed=value["has_flushed"])
        is_readable = value["version"] == VERSION
    except FileNotFoundError:
        return Place(run=run)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        is_readable = False
    if not is_readable:
        raise UsageError(
            f"{path}: says nothing about how far the export has come; delete it to export all of the run once more"
        )
    if place.run != run:
        raise UsageError(f"{path}: belongs to the export of another run; delete it, or choose another folder")
    return place


def write_place(path: Path, place: Place) -> None:
    """Keep `place` at `path`, on disk. Raises: StorageError."""
    try:
        replace_file(path, json.dumps({"version": VERSION, **asdict(place)}, indent=1).encode())
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}; free some space on {path.parent}") from None


def start_over(path: Path, run: str) -> None:
    """Keep the beginning of the record as the place, with what the exporter has kept. Raises: UsageError, StorageError."""
    write_place(path, Place(run=run, kept=read_place(path, run).kept))


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the place at `path` while the block runs: two exporters at once would write everything twice.

    Makes its folder. Raises: RunInUse when another process holds it; StorageError.
    """
    lock = path.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(f"{lock}: cannot be made: {error.strerror}; choose another folder") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunInUse(f"{path}: another process exports this run there; wait for its end") from None
        yield
    finally:
        os.close(descriptor)
