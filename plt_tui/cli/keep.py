"""Files that a view's keys make: pictures of the screen and tables of numbers.

Knows nothing of what is in them. Invariants: a file that is there is whole, and no file that was there before is touched.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

from plt_tui.errors import StorageError, UsageError

FOLDER = "exports"
"""Of a run folder: what its views have kept."""


def keep(run_folder: Path, name: str, pieces: Iterable[str]) -> Path:
    """Write a new file `name`, "steps.csv" or "steps-2.csv" and so on, among the run's exports.

    Returns its path as people write it. Raises: StorageError when it cannot be written.
    """
    folder = run_folder / FOLDER
    path = Path(name)
    names = (f"{path.stem}-{number}{path.suffix}" if number > 1 else name for number in count(1))
    with _told(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
    return _written((folder / each for each in names), pieces)


def save_as(typed: str, pieces: Iterable[str]) -> Path:
    """Write a new file at the path that somebody typed, seen from the working folder.

    Raises: UsageError when there is something already, StorageError when it cannot be written.
    """
    path = Path(typed).expanduser()
    if os.path.lexists(path):
        raise _in_the_way(path)
    return _written(iter([path]), pieces)


def _written(places: Iterator[Path], pieces: Iterable[str]) -> Path:
    """Write beside the first of `places`, then take the first of them that is free."""
    place = next(places)
    with _told(place), _temporary(place.parent) as (descriptor, temporary):
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        while not _taken(place):
            following = next(places, None)
            if following is None:
                raise _in_the_way(place)
            place = following
        temporary.replace(place)
    return _for_people(place)


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[int, Path]]:
    """An empty file of ours in `folder`, gone at the end where it has not been renamed."""
    descriptor, name = tempfile.mkstemp(prefix=".plt-tui-", dir=folder)
    try:
        yield descriptor, Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _taken(place: Path) -> bool:
    """Make `place` ours, for the moment until it is replaced; False when it is somebody's."""
    try:
        os.close(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


def _in_the_way(place: Path) -> UsageError:
    return UsageError(f"{place} is there already; choose another name")


@contextlib.contextmanager
def _told(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"{place}: cannot be written ({error.strerror}); nothing was kept") from None


def _for_people(path: Path) -> Path:
    """From the working folder, where it lies below it."""
    with contextlib.suppress(ValueError):
        return path.absolute().relative_to(Path.cwd())
    return path.absolute()
